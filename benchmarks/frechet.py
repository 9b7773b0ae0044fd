"""Fréchet distances between sets of images, where there are enough of them to say something.

The formula is FID's on EfficientNet-Lite0 features, so the values bear no published name and compare only
with each other. A set of n images is biased upwards by about the inverse of n: real Fashion-MNIST against
4,000 others scores 28 with 256 images, 15 with 512, 8.3 with 1,000 and 3.3 with 4,000. Two sets of one
size and one noise share that bias and most of the chance, so what is told is their paired difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.statistics import Interval

ENOUGH = 5000  # images
RESAMPLES = 200


@dataclass(frozen=True)
class Gaussian:
    """Mean `(d,)` and covariance `(d, d)` of a set of features, in float64."""

    mean: torch.Tensor
    covariance: torch.Tensor

    @classmethod
    def of(cls, features: torch.Tensor) -> Gaussian:
        """Fit features `(n, d)`, two or more."""
        features = features.double()
        return cls(features.mean(0), torch.cov(features.T))

    def root(self) -> torch.Tensor:
        """Return the symmetric square root of the covariance."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    def frechet(self, other: Gaussian, root: torch.Tensor | None = None) -> float:
        """Return the squared Fréchet (2-Wasserstein) distance: Dowson and Landau 1982.

        The trace of (AB)^½ is taken as that of (A^½ B A^½)^½, which is symmetric: its eigenvalues are real.

        Args:
            root: This one's `root()`, where many others are compared with it.
        """
        root = self.root() if root is None else root
        shared = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp(min=0).sqrt().sum()
        spread = self.covariance.trace() + other.covariance.trace() - 2 * shared
        return max(0.0, float((self.mean - other.mean).square().sum() + spread))


def distance(features: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the Fréchet distance between Gaussians fitted to features `(n, d)` and `(m, d)`."""
    _check(features, reference)
    return Gaussian.of(reference).frechet(Gaussian.of(features))


def paired_difference(
    features: torch.Tensor,
    others: torch.Tensor,
    reference: torch.Tensor,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return how much further from a reference one set is than another of the same noise, with an interval.

    Each resample draws the same images of both. It covers which noise happened to be drawn, not the choice
    of real images or another training of the model.
    """
    if len(features) != len(others):
        raise ValueError(f"pairs need sets of one size, got {len(features)} and {len(others)}")
    target = Gaussian.of(reference)
    root, generator = target.root(), torch.Generator().manual_seed(seed)

    def difference(chosen: torch.Tensor) -> float:
        own, other = (Gaussian.of(each[chosen]) for each in (features, others))
        return target.frechet(own, root) - target.frechet(other, root)

    count = len(features)
    draws = [torch.randint(count, (count,), generator=generator) for _ in range(resamples)]
    return Interval.of(difference(torch.arange(count)), torch.tensor([difference(draw) for draw in draws]))


def save_features(file: Path, features: torch.Tensor, about: Mapping[str, str]) -> None:
    """Write features as float16 safetensors, with notes on what they are of."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({"features": features.half().contiguous()}, file, metadata=dict(about))


def load_features(file: Path) -> torch.Tensor:
    """Return features `(n, d)` in float32, as `save_features` wrote them."""
    return load_file(file)["features"].float()


def _check(features: torch.Tensor, reference: torch.Tensor) -> None:
    if features.shape[1] != reference.shape[1]:
        raise ValueError(f"features have {features.shape[1]} channels, the reference {reference.shape[1]}")
    if min(len(features), len(reference)) < 2:
        raise ValueError(f"two images or more are needed, got {len(features)} and {len(reference)}")
