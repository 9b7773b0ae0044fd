"""Where a plan runs the model: at which steps whole, and which outer blocks of it at the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .budget import open_in_order
from .cost import LoopCost
from .passes.gate_table import first_kept

Runs = tuple[tuple[int, ...], ...]
"""For each call of the model in a step (see `Guidance.calls`) the steps that make it, rising, from 0 unless a
`Steering` lets the sample stand for predictions at first."""


@dataclass(frozen=True)
class Placement:
    """The steps at which each call of the model runs whole.

    Attributes:
        runs: see `Runs`.
        boundary: numbers of the blocks of a call that also run at all other steps: some by its input and
            some by its output, as DeepCache keeps them.
    """

    runs: Runs
    boundary: tuple[int, ...] = ()

    def keep(self, cost: LoopCost) -> torch.Tensor:
        """Return the `(T, N)` keep table."""
        columns = []
        for steps in self.runs:
            column = torch.zeros(cost.num_steps, cost.blocks_per_call, dtype=torch.bool)
            column[:, list(self.boundary)] = True
            column[list(steps)] = True
            columns.append(column)
        return torch.cat(columns, 1)

    @property
    def size(self) -> int:
        """How many whole calls of the model there are."""
        return sum(map(len, self.runs))

    def __str__(self) -> str:
        """Return how many steps run, for people."""
        counts = [len(steps) for steps in self.runs]
        steps = f"{counts[-1]} whole steps"
        if counts[0] != counts[-1]:
            steps = f"{counts[-1]} conditional and {counts[0]} unconditional whole steps"
        boundary = f", {len(self.boundary)} boundary blocks at the others" if self.boundary else ""
        return steps + boundary


def whole_steps(steps: tuple[int, ...], cost: LoopCost) -> Placement:
    """Return that all calls of the model are made at `steps` and nothing runs at the others."""
    return Placement((steps,) * cost.num_calls)


def open_from_output(
    keep: torch.Tensor, kept: float, cost: LoopCost, history: int, by_step: bool = False
) -> torch.Tensor:
    """Spend what is left of a budget on the blocks closest to the output, latest steps first.

    With `by_step` one step is filled after the other: the rest stay whole or skipped.
    """
    steps, blocks = keep.shape
    first = first_kept(keep.tolist())
    closed = [(t, n) for t in range(first + 1, steps) for n in range(blocks) if not keep[t, n]]
    closed.sort(reverse=True, key=lambda gate: gate if by_step else gate[::-1])
    return open_in_order(keep, [(t - 1) * blocks + n for t, n in closed], kept, cost, history)


def nearest_free(positions: Sequence[float], among: Sequence[int]) -> tuple[int, ...]:
    """Return for each position the nearest of `among` that is still free, the first one's first; sorted."""
    taken: set[int] = set()
    for position in positions:
        free = (step for step in among if step not in taken)
        taken.add(min(free, key=lambda step: abs(step - position)))
    return tuple(sorted(taken))
