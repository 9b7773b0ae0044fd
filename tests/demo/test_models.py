"""The demo models are small, load offline, and really draw and read digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from dipgo_fx.demo.models import (
    CLASSES,
    CLASSIFIER_FILE,
    NULL_CLASS,
    SAMPLE_SHAPE,
    WEIGHTS,
    DigitModel,
    load,
    load_classifier,
)

NAMES = get_args(DigitModel)
LIMIT_BYTES = 2_000_000
LIMIT_PARAMETERS = 1_000_000


def weight_files() -> list[Path]:
    """Return every stored weight file."""
    return sorted(WEIGHTS.rglob("*.safetensors"))


def draw(name: DigitModel, labels: torch.Tensor, steps: int) -> torch.Tensor:
    """Draw one image per label with a plain DDIM loop from fixed noise."""
    model, scheduler = load(name)
    noisy: Any = torch.randn((len(labels), *SAMPLE_SHAPE), generator=torch.Generator().manual_seed(7))
    scheduler.set_timesteps(steps)
    with torch.no_grad():
        for time_step in scheduler.timesteps:
            times = time_step.expand(len(labels))
            noise = model(noisy, timestep=times, class_labels=labels).sample
            noisy = scheduler.step(noise, time_step, noisy).prev_sample
    return torch.as_tensor(noisy)


def test_there_is_one_weight_file_per_model() -> None:
    """Each denoiser and the classifier has exactly one weight file."""
    expected = {WEIGHTS / CLASSIFIER_FILE} | {
        WEIGHTS / f"digits-{name}" / "diffusion_pytorch_model.safetensors" for name in NAMES
    }
    assert set(weight_files()) == expected


@pytest.mark.parametrize("file", weight_files(), ids=lambda file: file.parent.name)
def test_a_weight_file_is_at_most_two_megabytes(file: Path) -> None:
    """What the package ships stays small."""
    assert file.stat().st_size <= LIMIT_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_a_denoiser_loads_in_single_precision_ready_for_inference(name: DigitModel) -> None:
    """A loaded denoiser is small, float32, in eval mode and has a 1000 step noise schedule."""
    model, scheduler = load(name)
    assert sum(p.numel() for p in model.parameters()) <= LIMIT_PARAMETERS
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    assert scheduler.config["num_train_timesteps"] == 1000
    assert scheduler.config["prediction_type"] == "epsilon"


@pytest.mark.parametrize("name", NAMES)
def test_the_null_class_is_a_label_of_its_own(name: DigitModel) -> None:
    """The null label is accepted and predicts other noise than a digit does."""
    model, _ = load(name)
    noisy = torch.randn((1, *SAMPLE_SHAPE), generator=torch.Generator().manual_seed(0))
    times = torch.tensor([500])
    with torch.no_grad():
        asked, unasked = (
            model(noisy, timestep=times, class_labels=torch.tensor([label])).sample
            for label in (3, NULL_CLASS)
        )
    assert asked.shape == unasked.shape == noisy.shape
    assert not torch.allclose(asked, unasked, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_classifier_recognises_what_a_denoiser_draws(name: DigitModel) -> None:
    """Of 40 images drawn in 20 steps at least nine in ten show the digit asked for."""
    labels = torch.arange(40) % CLASSES
    with torch.no_grad():
        named = load_classifier()(draw(name, labels, steps=20)).argmax(1)
    assert (named == labels).float().mean() >= 0.9


def test_the_classifier_reads_held_out_digits() -> None:
    """On the fifth of the real digits that it never saw the classifier is right 98 % of times."""
    datasets = pytest.importorskip("sklearn.datasets")
    selection = pytest.importorskip("sklearn.model_selection")
    pixels, labels = datasets.load_digits(return_X_y=True)
    # The split of benchmarks/train_digits.py.
    _, test = selection.train_test_split(range(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    images = torch.tensor(pixels[test], dtype=torch.float32).reshape(-1, *SAMPLE_SHAPE) / 8 - 1
    with torch.no_grad():
        named = load_classifier()(images).argmax(1)
    assert (named == torch.tensor(labels[test])).float().mean() >= 0.98


def test_an_unknown_name_is_refused() -> None:
    """A name that is no demo model is answered with the names that are."""
    with pytest.raises(ValueError, match=r"\['dit', 'unet'\], got 'vae'"):
        load("vae")  # type: ignore[arg-type]
