"""Training the digits models."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import train_digits, trainings
from benchmarks.train_digits import (
    RECIPES,
    Data,
    Recipe,
    cosine_rate,
    digits,
    held_out_split,
    optimise,
    readme,
    share_recognised,
)
from dipgo_fx.demo.models import WEIGHTS, load, load_classifier


def test_the_stored_page_is_drawn_from_what_is_known() -> None:
    """The README beside the weights says what training.json says."""
    assert readme(trainings.read(WEIGHTS)) == (WEIGHTS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["dit", "unet"])
def test_the_stored_weights_are_of_the_models_that_are_built(name: str) -> None:
    """A new training would give the same architecture."""
    stored = load(name)[0].state_dict()  # type: ignore[arg-type]
    built = RECIPES[name].build().state_dict()
    assert {key: value.shape for key, value in built.items()} == {
        key: value.shape for key, value in stored.items()
    }


def test_a_fifth_of_the_digits_is_held_out() -> None:
    """Each class is in it; pixels lie in [-1, 1]."""
    data, (seen, held_out) = digits(), held_out_split()
    assert sorted([*seen, *held_out]) == list(range(1797))
    assert len(held_out) == 360
    assert set(data.part(held_out).labels.tolist()) == set(range(10))
    assert (data.images.min(), data.images.max()) == (-1, 1)


def test_the_classifier_never_sees_what_it_is_judged_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It trains on the others, and is judged as it was saved."""
    seen: list[Data] = []

    def optimised(model: nn.Module, recipe: Recipe, data: Data, steps: int) -> tuple[nn.Module, float]:
        seen.append(data)
        return load_classifier(), 0.5

    monkeypatch.setattr(train_digits, "optimise", optimised)
    told = train_digits.train("classifier", Namespace(seed=0, steps=7, out=tmp_path))
    assert torch.equal(seen[0].images, digits().part(held_out_split()[0]).images)
    assert told["test_accuracy"] > 0.98
    assert (told["steps"], told["final_loss"]) == (7, 0.5)


@pytest.mark.parametrize(
    "name", ["classifier", *(pytest.param(name, marks=pytest.mark.long) for name in ("dit", "unet"))]
)
def test_training_lowers_the_loss(name: str) -> None:
    """Also in a few steps."""
    torch.manual_seed(0)
    data, recipe = digits(), RECIPES[name]
    model = recipe.build()

    @torch.no_grad()
    def loss() -> float:
        torch.manual_seed(1)
        return recipe.loss(model, data.images[:64], data.labels[:64]).item()

    before = loss()
    optimise(model, recipe, data, steps=30)
    assert loss() < 0.9 * before


def test_the_rate_warms_up_and_falls() -> None:
    """A tenth of the steps, and down to nothing at the end."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rate = cosine_rate(optimiser, 100)
    rates = []
    for _ in range(100):
        rates.append(rate.get_last_lr()[0])
        optimiser.step()
        rate.step()
    assert rates[0] == pytest.approx(0.01)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01


def test_the_stored_classifier_recognises_digits() -> None:
    """And not those with wrong labels."""
    data = digits().part(held_out_split()[1])
    assert share_recognised(data, WEIGHTS) > 0.98
    assert share_recognised(Data(data.images, (data.labels + 1) % 10), WEIGHTS) < 0.02
