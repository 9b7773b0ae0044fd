"""Gauss-Newton on backup weights: what the final samples owe to each, by differences of resumed runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from ..passes import HISTORY, GateTable
from ..passes.insert_gates import WEIGHTS
from ..passes.liveness import Liveness
from .batch import Batch
from .candidate import Candidate
from .evaluator import Evaluator
from .shares import Shares
from .stepwise import Resumable

DAMPING = 1e-3
"""Damping relative to each direction's own curvature (Levenberg 1944, scaled as by Marquardt 1963)."""
NUDGE = 1e-2
"""What a difference quotient adds to a weight, more where the model computes in half precision."""
FEWEST = 8
"""Samples that a step goes by, at least: fewer say little about others."""


@torch.no_grad()
def gauss_newton(evaluator: Evaluator, candidate: Candidate, most: float = math.inf) -> Candidate:
    """Return the candidate after a step on its weights, or as it is if its loss does not fall.

    Args:
        evaluator: charged with the runs.
        candidate: evaluated on all calibration samples.
        most: what the step may cost, in full runs: it goes by fewer samples if need be, and is left out
            where those would be too few.
    """
    cost, batch, keep = evaluator.cost, evaluator.batch, candidate.table.keep
    liveness = cost.reads.liveness_at_most(keep, candidate.history)
    unknowns = list(directions(candidate.table, liveness, candidate.history))
    costs = [share / cost.num_steps for share in cost.kept_by_step(liveness)]  # in full runs
    price = sum(costs) + sum(sum(costs[unknown.steps[0] :]) for unknown in unknowns)
    count = int(min(len(batch), most * len(batch) / price))
    if not unknowns or count < FEWEST:
        return candidate
    few = batch.first(count)
    split = evaluator.learnable(candidate)
    weights = evaluator.chunks.retried(
        lambda chunk: newton_step(split, candidate.table.weights, unknowns, few, chunk), len(few)
    )
    evaluator.charge(price, few)
    return min(candidate, evaluator.evaluate(candidate.with_weights(weights)), key=lambda c: c.loss)


@dataclass(frozen=True)
class Direction:
    """One unknown: the weight of a block's `k`-th last value, shared by the steps of one gap."""

    steps: tuple[int, ...]
    block: int
    k: int


def directions(table: GateTable, liveness: Liveness, history: int) -> Iterator[Direction]:
    """Yield the unknowns of a plan: one a gap of a block between computed values, and value it may read.

    Within a gap of skipped steps only the sum of the weights moves the sample that the next running step
    sees, which is why its steps share an unknown.

    Args:
        table: which gates are open.
        liveness: which closed blocks are read.
        history: how many values a closed gate may read.
    """
    steps, blocks = table.keep.shape
    for block in range(blocks):
        gap: list[int] = []
        values = 1  # computed so far
        for t in range(1, steps + 1):
            if t < steps and not table.keep_rows[t][block]:
                gap += [t] if liveness.reads_backup(t, block) else []
                continue
            if gap:
                yield from (Direction(tuple(gap), block, k) for k in range(min(values, history, HISTORY)))
            gap, values = [], values + 1


def newton_step(
    split: fx.GraphModule, weights: torch.Tensor, unknowns: Sequence[Direction], batch: Batch, chunk: int
) -> torch.Tensor:
    """Return the weights `(T, N, 3)` after one damped Gauss-Newton step towards the unpruned samples.

    With J the effects of the unknowns on the final samples and r what these lack, the step solves
    (J'J + D) x = J'r, where D is `DAMPING` times the diagonal of J'J.
    Each direction's effect is the difference of two runs; the second resumes where the direction first
    matters. There is no backward pass: memory holds what steps hand to each other. Sums are in double
    precision: J'J is nearly singular where forecasts are alike, and rounding would decide.

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
    shares = Shares(batch.chunks(chunk))
    for part in shares.own:
        run = Resumable(split, part)
        result = run.run_with({WEIGHTS: table})
        run.remember()
        effects = torch.stack(
            [
                (run.again(d.steps[0], _nudged(table, d, nudge)) - result).flatten().double() / nudge
                for d in unknowns
            ]
        )
        curvature += (effects @ effects.T).cpu()
        slope += (effects @ (part.target.to(result.device) - result).flatten().double()).cpu()
    curvature, slope = shares.sum(curvature), shares.sum(slope)
    scale = curvature.diagonal()
    damped = curvature + torch.diag(DAMPING * scale + 1e-6 * scale.mean() + 1e-30)
    change = torch.linalg.solve(damped, slope)
    moved = weights.double().clone()
    for direction, amount in zip(unknowns, change.tolist(), strict=True):
        moved = _nudged(moved, direction, amount)
    return moved


def _nudged(weights: torch.Tensor, direction: Direction, amount: float) -> torch.Tensor:
    """Add `amount` along a direction, spread over its steps."""
    nudged = weights.clone()
    nudged[list(direction.steps), direction.block, direction.k] += amount / len(direction.steps)
    return nudged
