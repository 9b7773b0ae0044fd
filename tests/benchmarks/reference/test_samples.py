"""Samples of the reference models."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from benchmarks.cases import Case
from benchmarks.reference import data
from benchmarks.reference.models import CLASSES, NULL_CLASS, WEIGHTS, load
from benchmarks.reference.samples import (
    classifier_accuracy,
    draw_emoji,
    measure,
    recognised,
    sample,
    save_grid,
)

STEPS = 4


@pytest.mark.long
def test_samples_are_those_of_the_loop() -> None:
    """The same guidance, noise and scheduler as what is pruned."""
    case = Case("fashion-unet", STEPS)
    inputs = case.inputs(4, held_out=False)
    model, scheduler = load("fashion-unet")
    drawn = sample(
        model,
        scheduler,
        torch.arange(4),
        torch.tensor(NULL_CLASS),
        shape=(1, 28, 28),
        guidance=2.0,
        steps=STEPS,
    )
    torch.testing.assert_close(drawn, case.loop()(inputs.sample, **inputs.conditioning), rtol=0, atol=1e-3)


def test_shares_are_by_class() -> None:
    """What is named as asked for counts for its class and for all."""
    shares = recognised(torch.zeros(20, 1, 28, 28), WEIGHTS)
    assert list(shares) == ["all", *CLASSES]
    named = [name for name in CLASSES if shares[name] == 1]
    assert len(named) == 1
    assert shares["all"] == pytest.approx(0.1)


def test_accuracy_is_a_share(tmp_path: Path) -> None:
    """Of all test images."""
    data.write_made_up(tmp_path)
    assert 0 <= classifier_accuracy(tmp_path, WEIGHTS) <= 0.5


def test_emoji_are_of_both_kinds_of_names() -> None:
    """As many that were trained on as held out."""
    names, images = draw_emoji(2.0, WEIGHTS, steps=1)
    assert len(set(names)) == len(images) == 48
    assert images.shape[1:] == (3, 32, 32)


def test_what_is_drawn_is_told(tmp_path: Path) -> None:
    """With the guidance that was used."""
    options = argparse.Namespace(weights=WEIGHTS, guidance=1.0, per_class=1, steps=1, out=tmp_path)
    told = measure("fashion-unet", options)
    assert (told["guidance"], told["drawn"]) == (1.0, 10)
    assert (tmp_path / "reference-fashion-unet.png").stat().st_size > 1000


def test_a_grid_has_a_place_for_every_image(tmp_path: Path) -> None:
    """Also where the last row is not full."""
    save_grid(torch.zeros(5, 3, 8, 8), ["a name that is far too long for its picture"], 2, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 500
