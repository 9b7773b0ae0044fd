"""What a compilation did: the report that a pruned loop carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .macs import Cost
from .passes import PassRecord


@dataclass(frozen=True)
class Report:
    """What `prune` or `apply` did.

    Attributes:
        before: MACs of the unpruned loop for one sample.
        after: MACs of the pruned loop.
        live: `(T, N)` bool, the blocks that really run: kept and read by somebody.
        passes: one record a pass.
        search: recipe, losses, seconds and cost in full runs; empty after `apply`.
    """

    before: Cost
    after: Cost
    live: torch.Tensor
    passes: tuple[PassRecord, ...]
    search: dict[str, Any]

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
            f"block calls             {self.live.numel()} -> {int(self.live.sum())}",
        ]
        lines += [f"search {key:<17}{value}" for key, value in self.search.items() if key != "curve"]
        return "\n".join(lines)
