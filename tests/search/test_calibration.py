"""Calibration inputs: what is given, what is made up, and batches of samples with their path."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import dipgo_fx
import toy
import zoo
from dipgo_fx.search.batch import Batch
from dipgo_fx.search.calibration import calibrate
from loops import loop
from searches import case, quick

# -- what is given


def _calibrated(given: Any, samples: int = 4, guidance_scale: float | None = None) -> Batch:
    graph = loop("dit", "ddim", "block", guidance_scale, 2)
    return calibrate(graph, zoo.model("dit"), given, samples, 1.0, zoo.generator(5))


@pytest.mark.parametrize(
    ("given", "guidance_scale", "said"),
    [
        ({"labels": torch.zeros(4)}, None, r"must hold \['class_labels'\], got \['labels'\]"),
        ({}, None, r"must hold \['class_labels'\], got \[\]"),
        ({"class_labels": torch.zeros(4, 2)}, None, r"'class_labels' must have shape \(n, \), got \(4, 2\)"),
        ({"class_labels": torch.zeros(3, dtype=torch.int64)}, 2.0, "3 rows"),
        ({"class_labels": torch.zeros(0, dtype=torch.int64)}, None, "0 rows"),
    ],
)
def test_bad_calibration_is_refused(given: Any, guidance_scale: float | None, said: str) -> None:
    """Wrong names, shapes and row counts are named."""
    with pytest.raises(ValueError, match=said):
        _calibrated(given, guidance_scale=guidance_scale)


def test_prune_refuses_bad_calibration_too() -> None:
    """What is wrong with it is found before any search."""
    with pytest.raises(ValueError, match="labels"):
        quick(calibration={"labels": torch.zeros(4)})
    with pytest.raises(ValueError, match="'class_labels' must have shape"):
        quick(calibration={"class_labels": torch.zeros(4, 2)}, conditioning=zoo.conditioning("dit", 1))
    with pytest.raises(ValueError, match="empty"):
        quick(calibration=[])


def test_rows_are_repeated_until_there_are_enough() -> None:
    """Three given rows serve five samples; under guidance each condition repeats its own rows."""
    plain = _calibrated({"class_labels": torch.tensor([7, 8, 9])}, 5)
    assert plain.conditioning["class_labels"].tolist() == [7, 8, 9, 7, 8]
    guided = _calibrated({"class_labels": torch.tensor([10, 10, 7, 8])}, 3, 2.0)
    assert guided.conditioning["class_labels"].tolist() == [10, 10, 10, 7, 8, 7]


def test_calibration_may_be_an_iterable() -> None:
    """Mappings are joined row by row, those of a generator too, which can be read only once."""

    def rows() -> Iterator[dict[str, torch.Tensor]]:
        yield from ({"class_labels": torch.tensor([label])} for label in range(4))

    assert _calibrated(list(rows())).conditioning["class_labels"].tolist() == [0, 1, 2, 3]
    assert quick(ratio=0.0, num_inference_steps=2, calibration=rows()).plan.ratio == 0


# -- what is made up


class Masked(toy.Stack):
    """Takes a mask, or numbers of tokens."""

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, *, given: torch.Tensor) -> torch.Tensor:
        """Return the prediction."""
        return super().forward(sample, timestep) * given


def test_masks_leave_nothing_out_and_other_numbers_must_be_given() -> None:
    """A float is neither."""
    model = Masked(torch.nn.Linear(3, 3))
    graph = toy.traced(model, 2, given=torch.ones(2, 3, dtype=torch.bool))
    found = calibrate(graph, model, None, 4, 1.0, zoo.generator(5))
    assert torch.equal(found.conditioning["given"], torch.ones(4, 3, dtype=torch.bool))
    graph = toy.traced(model, 2, given=torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="given holds whole numbers, which cannot be made up"):
        calibrate(graph, model, None, 4, 1.0, zoo.generator(5))


def test_classes_are_made_up_and_the_null_class_comes_first() -> None:
    """Random classes are as good as real ones; unconditional rows carry the label of no class."""
    labels = _calibrated(None, 8, 2.0).conditioning["class_labels"]
    assert labels[:8].tolist() == [10] * 8
    assert {*labels[8:].tolist()} <= {*range(10)}
    assert len({*labels[8:].tolist()}) > 1


def test_text_models_without_calibration_warn(caplog: pytest.LogCaptureFixture) -> None:
    """A text-conditional model without calibration gets a warning that says what to pass."""
    with caplog.at_level(logging.WARNING, logger="dipgo_fx"):
        quick("unet-text", 0.0, num_inference_steps=2)
    assert "calibration={'encoder_hidden_states'" in caplog.text


def test_nonfinite_models_are_refused() -> None:
    """Weights that give NaN are named before any search."""
    model = copy.deepcopy(zoo.model("dit"))
    with torch.no_grad():
        next(model.proj_out_2.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        dipgo_fx.prune(model, zoo.SCHEDULERS["ddim"](), 0.5, num_inference_steps=3, progress=False)


def test_the_same_seed_gives_the_same_samples() -> None:
    """All that is drawn comes from the generator, the seed of later noise too."""
    state = torch.get_rng_state()
    one, other = _calibrated(None), _calibrated(None)
    assert torch.equal(one.sample, other.sample)
    assert torch.equal(one.path, other.path)
    assert one.seeds == other.seeds
    assert len({*one.seeds}) == len(one)
    assert torch.equal(torch.get_rng_state(), state)


# -- batches


def test_a_batch_is_its_parts() -> None:
    """Parts of a batch have their own samples' conditioning, path and target."""
    _, batch = case("ddim", 3.0)
    part = batch.part(torch.tensor([2, 0]))
    assert torch.equal(part.sample, batch.sample[[2, 0]])
    assert torch.equal(part.path, batch.path[:, [2, 0]])
    assert torch.equal(part.target, batch.path[-1, [2, 0]])
    labels = batch.conditioning["class_labels"]
    assert torch.equal(part.conditioning["class_labels"], labels[[2, 0, 5, 3]])
    assert (part.rows, part.seeds, len(part)) == (batch.rows, (batch.seeds[2], batch.seeds[0]), 2)


def test_chunks_are_a_batch_together() -> None:
    """In order, none larger than asked; the first samples are at least one."""
    _, batch = case("ddim", 3.0)
    chunks = batch.chunks(2)
    assert [len(chunk) for chunk in chunks] == [2, 1]
    assert torch.equal(torch.cat([chunk.sample for chunk in chunks]), batch.sample)
    assert torch.equal(torch.cat([chunk.path for chunk in chunks], 1), batch.path)
    assert [len(batch.first(count)) for count in (0, 1, 3)] == [1, 1, 3]


def test_a_batch_draws_the_same_noise_in_every_run() -> None:
    """Candidates differ by what they compute, not by the noise they met."""
    graph, batch = case("ddpm", None, "dit", 3)
    with torch.no_grad():
        assert torch.equal(batch.run(graph), batch.run(graph))
        assert torch.equal(batch.run(graph), batch.target)
