"""What a compilation did: the report that a pruned loop carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .macs import Cost
from .passes import PassRecord
from .passes.equality import ComparedByValue
from .states import State


@dataclass(frozen=True, eq=False)
class Report(ComparedByValue):
    """What `prune` or `apply` did.

    Attributes:
        before: MACs of the unpruned loop for one sample.
        after: MACs of the pruned loop.
        states: `(T, N)` int64, a `State` each: what becomes of each block at each step.
        passes: one record a pass.
        origin: where the plan came from, see `Plan.origin`.
    """

    before: Cost
    after: Cost
    states: torch.Tensor
    passes: tuple[PassRecord, ...]
    origin: dict[str, Any]

    @property
    def ratio(self) -> float:
        """Share of MACs removed, attention counted."""
        return 1 - self.after.total / self.before.total

    @property
    def ratio_without_attention(self) -> float:
        """Share of MACs removed when attention's matrix products are not counted."""
        return 1 - self.after.without_attention / self.before.without_attention

    def __str__(self) -> str:
        """Return a few lines for a terminal."""
        lines = [
            f"MACs with attention     {self.before.total:.4g} -> {self.after.total:.4g}  "
            f"({self.ratio:.2%} removed)",
            f"MACs without attention  {self.before.without_attention:.4g} -> "
            f"{self.after.without_attention:.4g}  ({self.ratio_without_attention:.2%} removed)",
            f"block calls             {self.states.numel()} -> {int((self.states == State.RUNS).sum())}",
        ]
        shown = {key: value for key, value in self.origin.items() if not isinstance(value, (list, dict))}
        return "\n".join(lines + [f"plan {key:<19}{value}" for key, value in shown.items()])
