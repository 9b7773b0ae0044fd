"""What is measured of contestants, on a tiny model."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
import torch

from benchmarks.architectures import example_inputs
from benchmarks.real_size.contestants import (
    EAGER,
    Offer,
    guided_offers,
    package_offers,
    plain_offers,
    reachable,
)
from benchmarks.real_size.speed import speed_rows, timed
from benchmarks.real_size.subjects import MODELS, ON_CPU, Size, Subject, model_of, name_of, size_of
from benchmarks.tables import Row

TINY = Size(side=8, layers=4, tokens=5, steps=5, rounds=1)
OPTIONS = argparse.Namespace(device="cpu", dtype="float32", batch=1, seed=0, clock="wall")


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A transformer of few blocks at full width."""
    return Subject.of("dit", TINY, OPTIONS)


def by_method(rows: list[Row]) -> dict[str, Row]:
    """Return rows by method."""
    return {row["method"]: row for row in rows}


def test_rows_have_what_was_measured(subject: Subject) -> None:
    """The traced loop equals the eager one; a plan keeps what it says and has no more alive."""
    offers = [offer for offer in plain_offers(subject) if not offer.method.startswith("cache-dit")]
    rows = by_method(speed_rows(subject, offers, TINY, OPTIONS))
    eager, traced, whole = (rows[name] for name in (EAGER, "traced loop", "whole steps"))
    assert (eager["speedup"], eager["efficiency"], eager["max_abs_diff"]) == (1.0, 1.0, None)
    assert traced["max_abs_diff"] == 0
    assert (whole["macs_kept"], whole["ratio_asked"]) == (0.2, 0.8)
    assert 0 < whole["peak_bytes"] <= eager["peak_bytes"]
    assert whole["seconds_median"] >= whole["seconds_min"] > 0


def test_a_contestant_that_fails_is_a_row(subject: Subject) -> None:
    """With its error in a line; without what it is compared with there are seconds only."""

    def refuses() -> tuple[object, float]:
        raise ValueError("not\nfor me")

    offers = [Offer(EAGER, refuses), Offer("other", lambda: (lambda: torch.ones(1), 1.0))]  # type: ignore[arg-type]
    failed, other = speed_rows(subject, offers, TINY, OPTIONS)
    assert failed["error"] == "ValueError: not for me"
    assert (other["speedup"], other["error"]) == (None, None)
    assert other["seconds_min"] > 0


@pytest.mark.long
def test_a_package_runs_beside_the_loops(subject: Subject) -> None:
    """Its MACs are those that a meter counts."""
    pytest.importorskip("cache_dit")
    pytest.importorskip("torchmetrics")
    (row,) = speed_rows(subject, package_offers(subject), TINY, OPTIONS)
    assert row["error"] is None
    assert 0.2 < row["macs_kept"] < 0.6


def test_guidance_runs_in_one_call_and_in_two(subject: Subject) -> None:
    """Twice the rows; half of the unconditional calls are a quarter of the MACs, rounded to whole steps."""
    guided = subject.guided()
    assert len(guided.conditioning["class_labels"]) == 2
    rows = by_method(speed_rows(guided, guided_offers(guided), TINY, OPTIONS))
    assert rows["guidance, one call a step"]["max_abs_diff"] == 0
    assert rows["guidance, two calls, half of the unconditional ones"]["macs_kept"] == 0.8
    assert rows["guidance, two calls, whole steps"]["macs_kept"] == 0.2


def test_speed_ups_are_medians_over_rounds() -> None:
    """Of the ratios, not the ratio of medians."""
    assert timed([1.0, 2.0, 1.0], [2.0, 2.0, 4.0], 0.5)["speedup"] == 2
    assert "speedup" not in timed([1.0], None, 0.5)


def test_whole_steps_keep_only_what_they_can() -> None:
    """A ratio between two steps is not measured."""
    assert reachable(10) == [0.3, 0.5, 0.7, 0.8]
    assert reachable(5) == [0.8]


def test_options_go_before_what_a_device_is_asked() -> None:
    """On a GPU models are whole, and the size of their images."""
    asked = dict.fromkeys(("side", "layers", "tokens", "steps", "rounds"))
    cpu, gpu = (argparse.Namespace(device=device, **asked) for device in ("cpu", "cuda"))
    assert size_of("flux", cpu) == ON_CPU["flux"]
    assert size_of("flux", gpu) == Size()
    assert size_of("flux", argparse.Namespace(device="cpu", **{**asked, "steps": 3})) == replace(
        ON_CPU["flux"], steps=3
    )


def test_names_tell_what_is_left_of_a_model() -> None:
    """Blocks, sides and tokens."""
    assert name_of("sd15", Size(side=32)) == "SD-1.5, 32 x 32"
    assert name_of("flux", Size()) == "Flux, 128 x 128"
    assert name_of("flux", TINY) == "Flux (4 + 8 of 19 + 38 blocks), 8 x 8 and 5 tokens"


@pytest.mark.parametrize(
    "key", [pytest.param(key, marks=pytest.mark.long if key.startswith("sd") else ()) for key in MODELS]
)
def test_every_model_is_built_and_traced(key: str) -> None:
    """Without weights; its inputs go by what its pipeline hands on."""
    size = Size(side=16, layers=1, tokens=5, steps=1)
    model = model_of(key, size, "meta")
    subject = Subject("", model, 1, example_inputs(model, size.side, size.tokens))
    assert subject.loop.num_steps == 1
    assert subject.is_unet == (key in {"sd15", "sd21", "sdxl"})
