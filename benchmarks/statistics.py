"""What errors of single images say of a method, and whether one method is better than another.

Everything is made of stored errors of single images, so nothing has to run again. Two methods are compared
on the same images: a bootstrap draws images with replacement, of each seed as many as it has and for both
methods the same ones, and the interval is that of the difference. Which images were drawn is all that it
covers, not another training of the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from benchmarks.metrics import ImageErrors

CONFIDENCE = 0.95
RESAMPLES = 1000
LOWEST = 0.05  # share of the images that is called the lowest
CEILING = 120.0  # dB of a single image: equal images are not infinitely better than nearly equal ones
PEAK = 2.0  # images go from -1 to 1

Verdict = Literal["won", "lost", "open"]


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, resampled: torch.Tensor) -> Interval:
        """Return a value with the middle 95 % of what resamples gave."""
        tail = (1 - CONFIDENCE) / 2
        low, high = resampled.quantile(torch.tensor([tail, 1 - tail], dtype=resampled.dtype)).tolist()
        return cls(value, low, high)


@dataclass(frozen=True)
class Statistic:
    """A number made of the errors of images.

    Attributes:
        title: in tables.
        values: one number an image.
        reduce: values `(n,)` and how often each image counts `(draws, n)` to one number a draw.
        higher_is_better: or lower.
        digits: after the point.
    """

    title: str
    values: Callable[[ImageErrors], torch.Tensor]
    reduce: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    higher_is_better: bool = True
    digits: int = 1

    def of(self, errors: Sequence[ImageErrors]) -> float | None:
        """Return the number of all images of several seeds; `None` where the measure does not apply."""
        values = self.joined(errors)
        return None if values is None else float(self.reduce(values, torch.ones(1, len(values)).double()))

    def joined(self, errors: Sequence[ImageErrors]) -> torch.Tensor | None:
        """Return the values of all images."""
        values = torch.cat([self.values(each) for each in errors])
        return None if bool(values.isnan().any()) else values


@dataclass(frozen=True)
class Comparison:
    """One statistic of two methods on the same images.

    Attributes:
        ours: the statistic of the one.
        other: of the other.
        difference: ours minus the other's.
        verdict: won or lost where the interval leaves out 0, else open.
    """

    ours: float
    other: float
    difference: Interval
    verdict: Verdict


def decibels(squared: torch.Tensor) -> torch.Tensor:
    """Return PSNR in dB of mean squared errors, at most `CEILING`."""
    return (10 * (PEAK**2 / squared).log10()).clamp(max=CEILING)


def mean(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the mean of each draw."""
    return counts @ values / counts.sum(1)


def pooled(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the PSNR of all images of each draw together."""
    return decibels(mean(values, counts))


def lowest(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the 5th percentile of each draw: the lowest value that 5 % of its images do not exceed."""
    return quantile(values, counts, LOWEST)


def median(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the median of each draw, the lower of two."""
    return quantile(values, counts, 0.5)


def worst(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the lowest value of each draw."""
    return quantile(values, counts, 0.0)


def quantile(values: torch.Tensor, counts: torch.Tensor, share: float) -> torch.Tensor:
    """Return the lowest value of each draw that at least `share` of its images, and one, do not exceed."""
    order = values.argsort()
    reached = counts[:, order].cumsum(1)
    needed = (share * reached[:, -1:]).clamp(min=1) - 1e-9
    return values[order][(reached >= needed).int().argmax(1)]


COMPARED: Mapping[str, Statistic] = {
    "psnr_db": Statistic("PSNR, all images together", lambda e: e.squared, pooled),
    "psnr_mean_db": Statistic("PSNR, mean of images", lambda e: decibels(e.squared), mean),
    "psnr_low_db": Statistic("PSNR, 5th percentile", lambda e: decibels(e.squared), lowest),
    "ssim": Statistic("SSIM", lambda e: e.ssim, mean, digits=4),
    "feature_distance": Statistic("feature distance", lambda e: e.feature_distance, mean, False, 4),
    "converged_psnr_db": Statistic("PSNR to the converged images", lambda e: e.converged, pooled),
}
"""What methods are compared by, by column of quality.csv."""

TOLD: Mapping[str, Statistic] = {
    **COMPARED,
    "psnr_median_db": Statistic("PSNR, median of images", lambda e: decibels(e.squared), median),
    "psnr_worst_db": Statistic("PSNR, worst image", lambda e: decibels(e.squared), worst),
    "clamped_psnr_db": Statistic("clamped PSNR, all together", lambda e: e.clamped, pooled),
    "clamped_psnr_mean_db": Statistic("clamped PSNR, mean", lambda e: decibels(e.clamped), mean),
    "clamped_psnr_median_db": Statistic("clamped PSNR, median", lambda e: decibels(e.clamped), median),
    "clamped_psnr_low_db": Statistic("clamped PSNR, lowest 5%", lambda e: decibels(e.clamped), lowest),
    "clamped_psnr_worst_db": Statistic("clamped PSNR, worst", lambda e: decibels(e.clamped), worst),
    "converged_psnr_mean_db": Statistic(
        "PSNR to the converged images, mean", lambda e: decibels(e.converged), mean
    ),
    "class_accuracy": Statistic("share recognised", lambda e: e.recognised, mean, digits=3),
}
"""All statistics, by column of quality.csv."""


def told(errors: ImageErrors) -> dict[str, float | None]:
    """Return all statistics of the images of one seed; equal batches have an infinite pooled PSNR."""
    found = {name: statistic.of([errors]) for name, statistic in TOLD.items()}
    for name, squared in (("psnr_db", errors.squared), ("clamped_psnr_db", errors.clamped)):
        if not bool(squared.any()):
            found[name] = math.inf
    return found


@dataclass(frozen=True)
class Resampled:
    """A statistic of a method's images, and of each resample of them.

    Attributes:
        value: of the images as they are.
        draws: `(RESAMPLES,)`.
        sizes: images of each seed.
    """

    value: float
    draws: torch.Tensor
    sizes: tuple[int, ...]


def resampled(statistic: Statistic, errors: Sequence[ImageErrors], seed: int = 0) -> Resampled | None:
    """Return a statistic of images, one entry a seed; `None` where it does not apply.

    Args:
        statistic: what is told of them.
        errors: of the images.
        seed: of the bootstrap: methods with equally many images get the same draws. No global random state
            is touched.
    """
    values, value = statistic.joined(errors), statistic.of(errors)
    if values is None or value is None:
        return None
    sizes = tuple(map(len, errors))
    return Resampled(value, statistic.reduce(values, draws(sizes, seed)), sizes)


def compared(statistic: Statistic, ours: Resampled, other: Resampled) -> Comparison:
    """Compare two methods on the same images."""
    if ours.sizes != other.sizes:
        raise ValueError(f"pairs need the same images, got {ours.sizes} and {other.sizes}")
    difference = Interval.of(ours.value - other.value, ours.draws - other.draws)
    return Comparison(ours.value, other.value, difference, verdict(difference, statistic))


def verdict(difference: Interval, statistic: Statistic) -> Verdict:
    """Return who is better, if the interval leaves out 0; open if no digit that tables show differs."""
    low, high = difference.low, difference.high
    if low <= 0 <= high or max(abs(low), abs(high)) < 0.5 * 10**-statistic.digits:
        return "open"
    return "won" if (low > 0) == statistic.higher_is_better else "lost"


@lru_cache(maxsize=8)
def draws(sizes: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return how often each image is drawn, `(RESAMPLES, n)`: of each seed as many as it has."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([_counts(size, generator) for size in sizes], 1)


def _counts(size: int, generator: torch.Generator) -> torch.Tensor:
    chosen = torch.randint(size, (RESAMPLES, size), generator=generator)
    ones = torch.ones(chosen.shape, dtype=torch.float64)
    return torch.zeros_like(ones).scatter_add_(1, chosen, ones)
