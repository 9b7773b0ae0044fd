"""Losses of a search."""

from __future__ import annotations

import pytest
import torch

import dipgo_fx
import toy
import zoo
from dipgo_fx.search.losses import consistency_loss, psnr, sparsity_loss, ssim


def test_losses_are_zero_for_equal_images() -> None:
    """Every consistency loss is 0 for equal inputs and positive for others."""
    images = torch.rand(2, 1, 8, 8, generator=zoo.generator())
    for kind in ("ssim", "l1", "l2", "l1+ssim", "l2+ssim"):
        loss = consistency_loss(kind)  # type: ignore[arg-type]
        assert loss(images, images).item() == pytest.approx(0, abs=1e-6)
        assert loss(images, images.flip(0)).item() > 0.01


def test_an_unknown_loss_is_refused() -> None:
    """The error lists the losses there are."""
    with pytest.raises(ValueError, match=r"'l2\+ssim'\), got 'lpips'"):
        consistency_loss("lpips")  # type: ignore[arg-type]


def test_a_sum_of_losses_is_their_sum() -> None:
    """Terms of equal weight, as in the paper's ablation."""
    result, target = torch.rand(2, 3, 1, 8, 8, generator=zoo.generator())
    ones, both = [consistency_loss(kind)(result, target) for kind in ("l1", "ssim")], "l1+ssim"
    torch.testing.assert_close(consistency_loss(both)(result, target), ones[0] + ones[1])  # type: ignore[arg-type]


def test_ssim_agrees_with_the_definition() -> None:
    """Constant images of means a and b have SSIM (2ab + C1) / (a² + b² + C1)."""
    a, b = torch.full((1, 1, 16, 16), 0.3), torch.full((1, 1, 16, 16), 0.6)
    expected = (2 * 0.18 + 1e-4) / (0.09 + 0.36 + 1e-4)
    assert ssim(a, b).item() == pytest.approx(expected, rel=1e-4)


def test_psnr_is_in_decibels() -> None:
    """An error of a tenth of the value range is 20 dB; none is infinitely many."""
    images = torch.zeros(1, 1, 4, 4)
    assert psnr(images + 0.2, images) == pytest.approx(20, abs=1e-4)
    assert psnr(images, images) == float("inf")


def test_sparsity_weighs_gates_by_what_they_save() -> None:
    """The mean over steps of the weights of the open gates."""
    gates = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert sparsity_loss(gates, torch.tensor([0.75, 0.25])).item() == pytest.approx((1.0 + 0.25) / 2)


def test_what_is_no_image_is_refused() -> None:
    """A loss of images on sequences would be a number that means nothing."""
    with pytest.raises(ValueError, match=r"SSIM compares images \(n, channels, h, w\), got \(2, 8, 4\)"):
        ssim(torch.zeros(2, 8, 4), torch.zeros(2, 8, 4))
    model = toy.model()
    with pytest.raises(ValueError, match=r"loss='ssim' compares images .* samples of this loop are \(3,\)"):
        dipgo_fx.prune(
            model,
            toy.Step(),
            0.5,
            num_inference_steps=2,
            sample=toy.sample(),
            conditioning={},
            granularity="stage",
            config=dipgo_fx.PaperConfig(),
            calibration={},
            progress=False,
        )
