"""Smaller weights after the last running step, where nothing mends what a forecast adds."""

from __future__ import annotations

import math

import torch

from ..passes import GateTable, split_steps
from ..passes.insert_gates import WEIGHTS
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
    device = batch.target.device
    run = Resumable(split_steps(evaluator.learnable(candidate)), batch)
    run.run_on(batch, {WEIGHTS: table.weights.to(device, torch.float32)})
    run.remember()
    evaluator.charge(cost.kept(table), batch)
    repeats = GateTable.of(table.keep, "reuse").weights
    mixtures = []
    for share in MIXTURES:
        weights = table.weights.clone()
        weights[first:] = torch.lerp(weights[first:], repeats[first:], share)
        result = run.again(first, weights.to(device, torch.float32))
        damped = evaluator.with_loss(candidate.with_weights(weights), result, batch)
        if damped.loss <= min(most, SLACK * candidate.loss) or share == 0:
            mixtures.append(damped)
    return min(mixtures, key=lambda damped: damped.unlikeness)
