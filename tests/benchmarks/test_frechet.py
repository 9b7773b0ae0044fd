"""Fréchet distances of sets: closed forms, paired differences, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from benchmarks import frechet

REFERENCES = sorted((Path(frechet.__file__).parent / "reference" / "weights").glob("*-features.safetensors"))

seeds = st.integers(0, 2**31)


def normal(seed: int, *shape: int) -> torch.Tensor:
    """Return normal numbers without touching the global generator."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gaussian(seed: int, channels: int = 5) -> frechet.Gaussian:
    """Return a Gaussian with a random full covariance."""
    factor = normal(seed + 1, channels, 2 * channels).double()
    return frechet.Gaussian(normal(seed, channels).double(), factor @ factor.T)


# Fréchet distance


@given(seeds, st.integers(2, 6))
def test_distance_of_independent_channels_has_a_closed_form(seed: int, channels: int) -> None:
    """With diagonal covariances it is the summed squared difference of means and of deviations."""
    means, deviations = normal(seed, 2, channels).double(), normal(seed + 1, 2, channels).double().abs()
    a, b = (
        frechet.Gaussian(mean, (deviation**2).diag())
        for mean, deviation in zip(means, deviations, strict=True)
    )
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    assert a.frechet(b) == pytest.approx(float(expected), abs=1e-6)


@given(seeds)
def test_distance_agrees_with_a_general_matrix_root(seed: int) -> None:
    """The symmetric form of the trace equals the textbook one, and both directions agree."""
    a, b = gaussian(seed), gaussian(seed + 10)
    root = torch.from_numpy(sqrtm((a.covariance @ b.covariance).numpy()).real)
    expected = (a.mean - b.mean).square().sum() + (a.covariance + b.covariance - 2 * root).trace()
    assert a.frechet(b) == pytest.approx(float(expected), rel=1e-6)
    assert b.frechet(a) == pytest.approx(a.frechet(b), rel=1e-9)


def test_the_distance_is_the_formula_of_fid() -> None:
    """The FID of torchmetrics gives the same number when the features are handed to it as they are."""
    ours, real = normal(0, 90, 6).double() + 0.3, normal(1, 120, 6).double()
    features = nn.Identity()
    features.num_features = 6
    fid = FrechetInceptionDistance(features).set_dtype(torch.float64)
    fid.update(ours, real=False)
    fid.update(real, real=True)
    assert frechet.distance(ours, real) == pytest.approx(float(fid.compute()), rel=1e-9)


@given(seeds, st.integers(2, 40))
def test_the_distance_of_a_set_with_itself_is_zero(seed: int, count: int) -> None:
    """Also where fewer images than features leave the covariance singular."""
    features = normal(seed, count, 8)
    assert frechet.distance(features, features) == pytest.approx(0, abs=1e-5)


# Paired differences


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_a_set_beside_itself_does_not_differ(seed: int) -> None:
    """Every draw has the same images of both."""
    features, reference = normal(seed, 50, 4), normal(seed + 1, 80, 4)
    found = frechet.paired_difference(features, features, reference, resamples=10)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_pairing_sees_a_difference_that_chance_would_hide() -> None:
    """A small shift of the same images is far outside the interval, and the seed fixes it."""
    features, reference = normal(0, 300, 4), normal(1, 500, 4)
    shifted = features + 0.1
    first, again = (frechet.paired_difference(shifted, features, reference, 50) for _ in range(2))
    assert first == again
    apart = frechet.distance(shifted, reference) - frechet.distance(features, reference)
    assert first.value == pytest.approx(apart)
    assert first.high - first.low < 0.2


def test_unfit_sets_are_refused() -> None:
    """Messages say what was expected and what came."""
    with pytest.raises(ValueError, match="6 channels, the reference 5"):
        frechet.distance(torch.zeros(4, 6), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="two images or more"):
        frechet.distance(torch.zeros(1, 5), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="one size, got 4 and 3"):
        frechet.paired_difference(torch.zeros(4, 5), torch.zeros(3, 5), torch.zeros(4, 5))


# Files


def test_features_are_read_back(tmp_path: Path) -> None:
    """Half precision keeps three digits."""
    features = normal(0, 9, 4)
    frechet.save_features(tmp_path / "new" / "some.safetensors", features, {"images": "none"})
    torch.testing.assert_close(
        frechet.load_features(tmp_path / "new" / "some.safetensors"), features, rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("file", REFERENCES, ids=lambda file: file.stem)
def test_reference_features_are_sound(file: Path) -> None:
    """Each stored set has 112 finite features and a full covariance."""
    features = frechet.load_features(file)
    assert features.shape[0] >= 1000
    assert features.shape[1] == 112
    assert features.isfinite().all()
    assert torch.linalg.eigvalsh(frechet.Gaussian.of(features).covariance).min() > 0
