"""Every option of a search: one class a recipe, and no option without effect."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, get_args

import torch

from ..arguments import check, check_ratio
from ..passes import Backup
from .losses import Consistency
from .pruner import Encoder

Decode = Callable[[torch.Tensor], torch.Tensor]
DECODE = (Callable, type(None))


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """The default recipe, which measured best: plans of whole steps with fitted weights, see `refine`.

    Attributes:
        samples: calibration samples, at least 2.
        chunk: samples that are in the model at once, at most; at least 1. Halved where memory runs out.
        full_runs: what the search may spend, in unpruned runs of the calibration samples, above 0. A
            plan and a frontier with the least care take some 4 to 15 anyway.
        loss: distance of a pruned result to the unpruned one.
        decode: maps final samples to what the loss compares (a VAE's decoder); `None` compares samples.

    Raises `ValueError` for an option outside its range.

    Example:
        >>> dipgo_fx.PruneConfig(full_runs=30)
        PruneConfig(samples=48, chunk=16, full_runs=30, loss='l2', decode=None)
    """

    samples: int = 48
    chunk: int = 16
    full_runs: float = 24.0
    loss: Consistency = "l2"
    decode: Decode | None = None

    def __post_init__(self) -> None:
        """Check kinds and ranges."""
        _check_least(self, samples=2, chunk=1)
        _check_above_0(self, "full_runs")
        _check_one_of(self, loss=get_args(Consistency))
        check("decode", self.decode, DECODE, "a function of final samples, or None")


@dataclass(frozen=True, kw_only=True)
class PaperConfig:
    """The recipe of DiP-GO (section 4.1): its pruner network trained on the SuperNet, see `train_pruner`.

    The settings are the paper's for Stable Diffusion; it has `learning_rate=10` for DiT.

    Attributes:
        samples: calibration samples, at least 2.
        batch_size: samples of one gradient step, at least 1.
        iterations: gradient steps, at least 1.
        learning_rate: of SGD on the network, above 0.
        weight_decay: of SGD, at least 0.
        loss: distance of a pruned result to the unpruned one.
        decode: maps final samples to what the loss compares (a VAE's decoder); `None` compares samples.
        backup: what a closed gate reads: `reuse` as in the paper, or `linear`.
        alpha: weight of the sparsity loss, at least 0.
        tau: the sparsity loss is dropped while less than this share of MACs is kept, in [0, 1).
        mac_weights: weigh a gate by the MACs that die with it (the paper's gamma).
        encoder: of the pruner network, see `Pruner`.
        width: of the pruner network's queries, a multiple of 16.
        checkpoint: recompute each step in the backward pass: memory grows by features, not by steps.
        exact_fill: spend what thresholding leaves of the budget (up to a whole step) on the closed gates of
            the highest scores, see `reopen_by_score`; the paper has no such thing.

    Raises `ValueError` for an option outside its range.

    Example:
        >>> paper = dipgo_fx.PaperConfig(learning_rate=10, exact_fill=True)
        >>> paper.loss, paper.backup, paper.iterations
        ('ssim', 'reuse', 1000)
    """

    samples: int = 16
    batch_size: int = 1
    iterations: int = 1000
    learning_rate: float = 0.1
    weight_decay: float = 1e-4
    loss: Consistency = "ssim"
    decode: Decode | None = None
    backup: Backup = "reuse"
    alpha: float = 1.0
    tau: float = 0.2
    mac_weights: bool = True
    encoder: Encoder = "attention"
    width: int = 512
    checkpoint: bool = True
    exact_fill: bool = False

    @property
    def chunk(self) -> int:
        """Samples that are in the model at once: those of a gradient step."""
        return self.batch_size

    def __post_init__(self) -> None:
        """Check kinds and ranges."""
        _check_least(self, samples=2, batch_size=1, iterations=1)
        _check_above_0(self, "learning_rate")
        _check_at_least_0(self, "weight_decay", "alpha", "tau")
        _check_one_of(self, loss=get_args(Consistency), backup=get_args(Backup), encoder=get_args(Encoder))
        check("decode", self.decode, DECODE, "a function of final samples, or None")
        for name in ("mac_weights", "checkpoint", "exact_fill"):
            check(name, getattr(self, name), bool, "True or False")
        check("width", self.width, Integral, "a whole number")
        if self.tau >= 1:
            raise ValueError(f"tau must lie in [0, 1), got {self.tau}")
        if self.width < 1 or self.width % 16:
            raise ValueError(f"width must be a multiple of 16, got {self.width}")


Config = PruneConfig | PaperConfig


def check_search_arguments(
    ratio: object, config: object, generator: object, progress: object, journal: object
) -> None:
    """Raise `TypeError` or `ValueError` for a wrong argument of those that every search takes."""
    check_ratio(ratio)
    check("config", config, (PruneConfig, PaperConfig), "a dipgo_fx.PruneConfig or a dipgo_fx.PaperConfig")
    check("generator", generator, torch.Generator, "a torch.Generator")
    check("progress", progress, bool, "True or False")
    check("journal", journal, (str, Path, type(None)), "the path of a file, or None")
    if journal is not None and not Path(str(journal)).absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder of the journal {journal} does not exist")


def _check_least(config: Any, **least: int) -> None:
    for name, low in least.items():
        check(name, getattr(config, name), Integral, "a whole number")
        if getattr(config, name) < low:
            raise ValueError(f"{name} must be at least {low}, got {getattr(config, name)}")


def _check_above_0(config: Any, name: str) -> None:
    check(name, getattr(config, name), Real, "a number")
    if not 0 < getattr(config, name) < math.inf:
        raise ValueError(f"{name} must be above 0, got {getattr(config, name)}")


def _check_at_least_0(config: Any, *names: str) -> None:
    for name in names:
        check(name, getattr(config, name), Real, "a number")
        if not 0 <= getattr(config, name) < math.inf:
            raise ValueError(f"{name} must be at least 0, got {getattr(config, name)}")


def _check_one_of(config: Any, **choices: tuple[str, ...]) -> None:
    for name, known in choices.items():
        if not isinstance(getattr(config, name), str) or getattr(config, name) not in known:
            raise ValueError(f"{name} must be one of {known}, got {getattr(config, name)!r}")
