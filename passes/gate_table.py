"""What a plan decides: which gates are open, and what a closed one reads instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch

from .equality import ComparedByValue

Backup = Literal["reuse", "linear"]
HISTORY = 3
"""A forecast combines at most this many computed values of a block."""
HISTORY_OF: dict[Backup, int] = {"reuse": 1, "linear": 2}
"""How many computed values each kind of backup reads."""
REPEAT = (1.0, 0.0, 0.0)
"""The weights that repeat the last computed value."""


def backup_of(history: int) -> Backup:
    """Return the plain backup that reads at most so many computed values."""
    return "reuse" if history == 1 else "linear"


@dataclass(frozen=True, eq=False)
class GateTable(ComparedByValue):
    """The gates of a loop of T steps and N blocks.

    Attributes:
        keep: `(T, N)` bool; false means that readers of the block take its backup. The first row that keeps
            anything keeps all. The model does not run before it, which needs a `Steering` by which nobody
            reads it there: without one that is row 0.
        weights: `(T, N, 3)` float64, what a closed gate reads: this much of the block's last computed
            value, of the one before and of the one before that. `(1, 0, 0)` repeats the last value (the
            paper's reuse). Entries where `keep` is true mean nothing and are made that, so that equal
            plans are equal tables.

    Raises `ValueError` for tables of other shapes or dtypes, weights that are not finite, or a first row
    that keeps some blocks only.

    Example:
        >>> keep = torch.tensor([[True, True], [True, True], [False, True]])  # steps, blocks
        >>> table = dipgo_fx.passes.GateTable.of(keep, "linear")
        >>> table.weights[2, 0].tolist()  # twice the last value minus the one before
        [2.0, -1.0, 0.0]
        >>> table.history
        2
    """

    keep: torch.Tensor
    weights: torch.Tensor

    def __post_init__(self) -> None:
        """Check both tables and tidy the weights up."""
        keep = torch.as_tensor(self.keep).detach().cpu().clone()
        if keep.dtype != torch.bool or keep.dim() != 2 or 0 in keep.shape:
            raise ValueError(f"keep must be a bool tensor (T, N), got {keep.dtype} {tuple(keep.shape)}")
        first = first_kept(keep.tolist())
        if first == len(keep) or not bool(keep[first].all()):
            raise ValueError(
                f"keep[{min(first, len(keep) - 1)}] must be true for every block: no step before it has a "
                "value to read"
            )
        weights = torch.as_tensor(self.weights).detach().cpu()
        if weights.dtype == torch.bool or weights.is_complex():
            raise ValueError(f"weights must be real numbers, got {weights.dtype}")
        weights = weights.double()
        if weights.shape != (*keep.shape, HISTORY):
            raise ValueError(f"weights must have shape {(*keep.shape, HISTORY)}, got {tuple(weights.shape)}")
        if not bool(torch.isfinite(weights).all()):
            raise ValueError("weights must be finite")
        object.__setattr__(self, "keep", keep)
        object.__setattr__(self, "weights", torch.where(keep[..., None], _repeats(keep), weights))

    @classmethod
    def of(cls, keep: torch.Tensor, backup: Backup = "reuse") -> GateTable:
        """Return the table of a `(T, N)` keep table whose closed gates read what `backup` stands for.

        `linear` at step t, with the block's last two computed steps s > r: `1 + (t - s) / (s - r)` of the
        last value and what is missing to 1 of the one before; only the last where one step was computed
        so far.
        """
        if backup not in get_args(Backup):
            raise ValueError(f"backup must be 'reuse' or 'linear', got {backup!r}")
        keep = torch.as_tensor(keep)
        reuse = cls(keep, _repeats(keep))
        return reuse if backup == "reuse" else cls(reuse.keep, _linear(reuse))

    def from_step(self, start: int) -> GateTable:
        """Return the table of a run that leaves the steps before `start` out; its first step runs whole."""
        keep = self.keep[start:].clone()
        keep[0] = True
        return GateTable(keep, self.weights[start:])

    @cached_property
    def first(self) -> int:
        """The first step that keeps anything, and then everything."""
        return first_kept(self.keep_rows)

    @property
    def history(self) -> int:
        """How many computed values of its block a closed gate reads at most: 1 if all repeat."""
        if bool(self.repeats.all()):
            return 1
        return 3 if bool((self.weights[..., 2] != 0).any()) else 2

    @property
    def repeats(self) -> torch.Tensor:
        """The `(T, N)` bool table of the entries that repeat the last computed value."""
        return (self.weights == torch.tensor(REPEAT, dtype=self.weights.dtype)).all(-1)

    @cached_property
    def keep_rows(self) -> list[list[bool]]:
        """`keep` as lists."""
        rows: list[list[bool]] = self.keep.tolist()
        return rows

    @cached_property
    def weight_rows(self) -> list[list[list[float]]]:
        """`weights` as lists."""
        rows: list[list[list[float]]] = self.weights.tolist()
        return rows


def terms(weights: Sequence[float], count: int) -> list[tuple[int, float]]:
    """Return `(index, weight)` of the values that a forecast of `count` values reads."""
    return [(k, weight) for k, weight in enumerate(weights[:count]) if weight != 0] or [(0, 0.0)]


def is_repeat(used: Sequence[tuple[int, float]]) -> bool:
    """Tell whether terms are a single value as it is."""
    return len(used) == 1 and used[0][1] == 1


def last_kept(keep: Sequence[Sequence[bool]]) -> list[list[tuple[int, ...]]]:
    """Return for each step and block the last `HISTORY` kept steps before it, newest first.

    The first kept step stands in where fewer were kept before, up to that step itself.
    """
    first = first_kept(keep)
    current = [(first,) * HISTORY] * len(keep[0])
    rows = [current]
    for t in range(1, len(keep)):
        before = keep[t - 1]
        if t - 1 > first:
            current = [(t - 1, *past[:-1]) if before[n] else past for n, past in enumerate(current)]
        rows.append(current)
    return rows


def first_kept(keep: Sequence[Sequence[bool]]) -> int:
    """Return the first step that keeps a block, the number of steps if none does."""
    return next((t for t, row in enumerate(keep) if any(row)), len(keep))


def _repeats(keep: torch.Tensor) -> torch.Tensor:
    return torch.tensor(REPEAT, dtype=torch.float64).expand(*keep.shape, HISTORY).clone()


def _linear(reuse: GateTable) -> torch.Tensor:
    weights = reuse.weights.clone()
    for t, row in enumerate(last_kept(reuse.keep_rows)):
        for n, (last, previous, _) in enumerate(row):
            if t > last != previous and not reuse.keep_rows[t][n]:
                ahead = (t - last) / (last - previous)
                weights[t, n, :2] = torch.tensor([1 + ahead, -ahead], dtype=torch.float64)
    return weights
