"""Losses of a search: how far a pruned result is from the unpruned one, and how much still runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch.nn import functional as F

Consistency = Literal["ssim", "l1", "l2", "l1+ssim", "l2+ssim"]
# Wang et al. 2004: an 11 x 11 Gaussian window of sigma 1.5, and constants for a value range of 1.
WINDOW, SIGMA, C1, C2 = 11, 1.5, 0.01**2, 0.03**2


def ssim(result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean structural similarity of two image batches `(n, channels, h, w)`, at most 1.

    Images smaller than the window shrink it to the largest odd size that fits.

    Raises `ValueError` for what has no such shape.
    """
    if result.dim() != 4:
        raise ValueError(
            f"SSIM compares images (n, channels, h, w), got {tuple(result.shape)}: choose loss='l2', or give "
            "a decode that returns images"
        )
    if result.is_cuda:  # whose convolutions round float32 to 10 bits, and variances are small differences
        result, target = result.double(), target.double()
    size = min(WINDOW, *(side if side % 2 else side - 1 for side in result.shape[-2:]))
    channels = result.shape[1]
    window = _gaussian(size, result).expand(channels, 1, size, size)

    def blur(image: torch.Tensor) -> torch.Tensor:
        return F.conv2d(image, window, groups=channels)

    mean_r, mean_t = blur(result), blur(target)
    var_r = blur(result * result) - mean_r**2
    var_t = blur(target * target) - mean_t**2
    covariance = blur(result * target) - mean_r * mean_t
    numerator = (2 * mean_r * mean_t + C1) * (2 * covariance + C2)
    denominator = (mean_r**2 + mean_t**2 + C1) * (var_r + var_t + C2)
    return (numerator / denominator).mean()


def _gaussian(size: int, like: torch.Tensor) -> torch.Tensor:
    offsets = torch.arange(size, dtype=like.dtype, device=like.device) - size // 2
    line = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    line = line / line.sum()
    return torch.outer(line, line)


def psnr(result: torch.Tensor, target: torch.Tensor, value_range: float = 2.0) -> float:
    """Return the peak signal-to-noise ratio in dB of a whole batch; infinite for equal batches."""
    error = F.mse_loss(result.double(), target.double()).item()
    return float("inf") if error == 0 else 10 * float(torch.tensor(value_range**2 / error).log10())


def consistency_loss(kind: Consistency) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return `f(result, target)` of the paper's equation 3; 0 for equal inputs.

    `ssim` is 1 - SSIM, which has the gradient of the paper's negative SSIM.
    """
    terms: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "ssim": lambda result, target: 1 - ssim(result, target),
        "l1": F.l1_loss,
        "l2": F.mse_loss,
    }
    parts = kind.split("+")
    if kind not in get_args(Consistency):
        raise ValueError(f"loss must be one of {get_args(Consistency)}, got {kind!r}")

    def loss(result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.stack([terms[part](result, target) for part in parts]).sum()

    return loss


def sparsity_loss(gates: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the paper's L_s: the mean over steps of the kept gates, each weighted by what it saves.

    Args:
        gates: `(T, N)`, 1 for a kept block.
        weights: `(N,)`, share of a step's MACs that dies when the block's gate closes (gamma).
    """
    return (gates * weights).sum(1).mean()
