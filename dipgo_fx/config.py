"""Every option of a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from .losses import Consistency
from .pruner import Encoder

Recipe = Literal["refine", "pruner"]


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """How `prune` searches. The default is the recipe that measured best, `paper()` is DiP-GO's own.

    Attributes:
        recipe: `refine` fits and moves plans of whole steps under an exact budget; `pruner` trains the
            paper's network on the SuperNet and thresholds its scores.
        samples: calibration samples, at least 2.
        batch_size: samples of one gradient step of `pruner`, at least 1.
        chunk: samples of a Gauss-Newton step of `refine` that run together, at least 1.
        full_runs: what `refine` may spend, in unpruned runs of the calibration samples, above 0. A
            plan and a ladder that goes by few samples take 5 to 10 anyway.
        iterations: gradient steps of `pruner`, at least 1.
        learning_rate: of SGD on the network.
        weight_decay: of SGD.
        loss: distance of a pruned result to the unpruned one.
        decode: maps final samples to what the loss compares (a VAE's decoder); `None` compares samples.
        alpha: weight of the sparsity loss.
        tau: the sparsity loss is dropped while less than this share of MACs is kept, in [0, 1).
        mac_weights: weigh a gate by the MACs that die with it (the paper's gamma).
        encoder: of the pruner network, see `Pruner`.
        width: of the pruner network's queries, a multiple of 16.
        checkpoint: recompute each step in the backward pass: memory grows by features, not by steps.
    """

    recipe: Recipe = "refine"
    samples: int = 48
    batch_size: int = 8
    chunk: int = 16
    full_runs: float = 24.0
    iterations: int = 1000
    learning_rate: float = 0.1
    weight_decay: float = 1e-4
    loss: Consistency = "l2"
    decode: Callable[[torch.Tensor], torch.Tensor] | None = None
    alpha: float = 1.0
    tau: float = 0.2
    mac_weights: bool = True
    encoder: Encoder = "attention"
    width: int = 512
    checkpoint: bool = True

    def __post_init__(self) -> None:
        """Raise `ValueError` for an option outside its range."""
        if self.recipe not in get_args(Recipe):
            raise ValueError(f"recipe must be one of {get_args(Recipe)}, got {self.recipe!r}")
        for name, low in (("samples", 2), ("batch_size", 1), ("chunk", 1), ("iterations", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("full_runs", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.tau < 1:
            raise ValueError(f"tau must lie in [0, 1), got {self.tau}")
        if self.width % 16:
            raise ValueError(f"width must be a multiple of 16, got {self.width}")

    @classmethod
    def paper(cls, **changes: object) -> PruneConfig:
        """Return DiP-GO's settings for Stable Diffusion (section 4.1); `learning_rate=10` for DiT."""
        settings: dict[str, object] = {
            "recipe": "pruner",
            "samples": 16,
            "batch_size": 1,
            "iterations": 1000,
            "learning_rate": 0.1,
            "weight_decay": 1e-4,
            "loss": "ssim",
            "alpha": 1.0,
            "tau": 0.2,
        }
        return cls(**{**settings, **changes})  # type: ignore[arg-type]
