"""Gauss-Newton on backup weights: what the final samples owe to each, by differences of resumed runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from .calibration import Batch
from .passes import ORDER
from .passes.insert_gates import WEIGHTS
from .passes.liveness import Keep
from .steps import Steps

DAMPING = 1e-3
"""Levenberg-Marquardt damping, relative to each direction's own curvature."""
NUDGE = 1e-2
"""What a difference quotient adds to a weight, more where the model computes in half precision."""


@dataclass(frozen=True)
class Direction:
    """One unknown: the weight of a block's `k`-th last value, shared by the steps of one gap."""

    steps: tuple[int, ...]
    block: int
    k: int


def directions(keep: Keep, read: Sequence[int], order: int) -> Iterator[Direction]:
    """Yield the unknowns of a plan: one a gap of a block between computed values, and value it may read.

    Within a gap of skipped steps only the sum of the weights moves the sample that the next running step
    sees, which is why its steps share an unknown.

    Args:
        keep: `(T, N)` table.
        read: for each step the set of closed blocks that are read there, see `StepReads.walk`.
        order: how many values a closed gate may read.
    """
    for block in range(len(keep[0])):
        gap: list[int] = []
        values = 1  # computed so far
        for t in range(1, len(keep) + 1):
            if t < len(keep) and not keep[t][block]:
                gap += [t] if read[t] >> block & 1 else []
                continue
            if gap:
                yield from (Direction(tuple(gap), block, k) for k in range(min(values, order, ORDER)))
            gap, values = [], values + 1


def newton_step(
    split: fx.GraphModule, weights: torch.Tensor, unknowns: Sequence[Direction], batch: Batch, chunk: int
) -> torch.Tensor:
    """Return the weights `(T, N, 3)` after one damped Gauss-Newton step towards the unpruned samples.

    Each direction's effect on the final samples is the difference of two runs; the second resumes where
    the direction first matters. There is no backward pass: memory holds what steps hand to each other.

    Args:
        split: a SubNet whose `weights` are an input, split into steps.
        weights: where to start.
        unknowns: at least one.
        batch: samples with their unpruned result.
        chunk: samples that run together.
    """
    table = weights.to(batch.sample.device, torch.float32)
    nudge = max(NUDGE, torch.finfo(batch.sample.dtype).eps ** 0.5)
    size = len(unknowns)
    curvature, slope = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    for indices in torch.split(torch.arange(len(batch.sample)), chunk):
        part = batch.part(indices)
        run = Resumable(split, part)
        result = run.run_on(part, {WEIGHTS: table})
        run.remember()
        effects = torch.stack(
            [
                (run.again(d.steps[0], _moved(table, d, nudge)) - result).flatten().float() / nudge
                for d in unknowns
            ]
        )
        curvature += (effects @ effects.T).double().cpu()
        slope += (effects @ (part.target - result).flatten().float()).double().cpu()
    scale = curvature.diagonal()
    damped = curvature + torch.diag(DAMPING * scale + 1e-6 * scale.mean() + 1e-30)
    change = torch.linalg.solve(damped, slope)
    moved = weights.double().clone()
    for direction, amount in zip(unknowns, change.tolist(), strict=True):
        moved = _moved(moved, direction, amount)
    return moved


def _moved(weights: torch.Tensor, direction: Direction, amount: float) -> torch.Tensor:
    """Add `amount` along a direction, spread over its steps."""
    moved = weights.clone()
    moved[list(direction.steps), direction.block, direction.k] += amount / len(direction.steps)
    return moved


class Resumable(Steps):
    """Remembers what steps handed on in its first run, so that another may begin in the middle."""

    def __init__(self, split: fx.GraphModule, batch: Batch) -> None:
        super().__init__(split, batch, garbage_collect_values=False)
        self.noise: dict[int, torch.Tensor] = {}

    def call_step(self, index: int, step: fx.GraphModule, args: Any) -> Any:
        """Run a step; the first time note where the noise it draws begins."""
        self.noise.setdefault(index, self.generator.get_state())
        return step(*args)

    def remember(self) -> None:
        """Keep the values of the run that just ended, by the step they come from."""
        self.known = dict(self.env)

    def again(self, first: int, weights: torch.Tensor) -> torch.Tensor:
        """Return the final samples with other weights from step `first` on."""
        known = {node: value for node, value in self.known.items() if self._made_at(node) < first}
        known |= {node: weights for node in known if node.op == "placeholder" and node.target == WEIGHTS}
        self.generator.set_state(self.noise[min(step for step in self.noise if step >= first)])
        result: torch.Tensor = self.run(initial_env=known)
        return result

    def _made_at(self, node: fx.Node) -> int:
        """Return the step a value of the split graph comes from, -1 for inputs."""
        if node.op == "call_module":
            return self.step_of(str(node.target))
        return max((self._made_at(read) for read in node.all_input_nodes), default=-1)
