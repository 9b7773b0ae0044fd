"""Smaller weights after the last running step, where nothing mends what a forecast adds."""

from __future__ import annotations

import math

import torch

from ..passes import GateTable
from ..passes.insert_gates import WEIGHTS
from .batch import Batch
from .candidate import Candidate
from .evaluator import Evaluator
from .stepwise import Resumable

MIXTURES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How much of a plain repeat is tried."""
SLACK = 1.25
"""By what factor a mixture may raise the loss."""


@torch.no_grad()
def damp_tail(evaluator: Evaluator, candidate: Candidate, most: float = math.inf) -> Candidate:
    """Return the candidate with forecasts after its last run damped, if samples then look better.

    Nothing that runs later removes the noise a forecast adds there, and least squares takes noise in
    flat parts for detail at edges. Of a few mixtures with plain repeats the one of the highest SSIM is
    taken, unless its loss is above `most` or a quarter above the candidate's. As nothing runs there, they
    all cost one run.

    Args:
        evaluator: charged with that run.
        candidate: evaluated on all calibration samples.
        most: highest loss.
    """
    table, batch, cost = candidate.table, evaluator.batch, evaluator.cost
    first = cost.reads.liveness(table).last_running_step + 1
    if first == cost.num_steps or batch.target.dim() != 4:  # SSIM is for images
        return candidate
    repeats = GateTable.of(table.keep, "reuse").weights
    mixed = [table.weights.clone() for _ in MIXTURES]
    for weights, share in zip(mixed, MIXTURES, strict=True):
        weights[first:] = torch.lerp(weights[first:], repeats[first:], share)
    split = evaluator.learnable(candidate)

    def results(part: Batch) -> list[torch.Tensor]:
        tables = [weights.to(part.sample.device, torch.float32) for weights in mixed]
        run = Resumable(split, part)
        run.run_with({WEIGHTS: tables[0]})
        run.remember()
        return [run.again(first, each) for each in tables]

    made = [torch.cat(parts) for parts in zip(*evaluator.chunks.map(results, batch), strict=True)]
    evaluator.charge(cost.kept(table), batch)
    mixtures = []
    for weights, share, result in zip(mixed, MIXTURES, made, strict=True):
        damped = evaluator.with_loss(candidate.with_weights(weights), result, batch)
        if damped.loss <= min(most, SLACK * candidate.loss) or share == 0:
            mixtures.append(damped)
    return min(mixtures, key=lambda damped: damped.unlikeness)
