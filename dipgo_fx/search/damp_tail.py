"""Smaller weights after the last running step, where nothing mends what a forecast adds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from ..passes import GateTable, Steering
from .batch import Batch
from .candidate import Candidate, Tables
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
    plain = replace(
        candidate,
        table=GateTable.of(table.keep, "reuse"),
        steering=candidate.steering and Steering.neutral(cost.num_steps, cost.num_calls, table.first),
    )

    def mixed(share: float, device: torch.device) -> Tables:
        tables = candidate.tables(device)
        for name, repeated in plain.tables(device).items():
            tables[name][first:] = torch.lerp(tables[name][first:], repeated[first:], share)
        return tables

    noted = evaluator.noted(f"damp {candidate.digest}", partial(_scores, evaluator, candidate, first, mixed))
    evaluator.charge(cost.kept(table), batch)
    mixtures = []
    for index, share in enumerate(MIXTURES):
        changed = candidate.with_tables(mixed(share, torch.device("cpu"))) if share else candidate
        damped = changed.with_scores({name: values[index] for name, values in noted.items()})
        if damped.loss <= min(most, SLACK * candidate.loss) or share == 0:
            mixtures.append(damped)
    return min(mixtures, key=lambda damped: damped.unlikeness)


def _scores(
    evaluator: Evaluator, candidate: Candidate, first: int, mixed: Callable[[float, torch.device], Tables]
) -> Tables:
    """Return what the samples score under each mixture, which differ from step `first` on."""
    split, batch = evaluator.learnable(candidate), evaluator.batch

    def results(part: Batch) -> list[torch.Tensor]:
        device = part.sample.device
        run = Resumable(split, part)
        run.run_with(candidate.tables(device))
        run.remember()
        return [run.again(first, mixed(share, device)) for share in MIXTURES]

    made = [torch.cat(parts) for parts in zip(*evaluator.chunks.map(results, batch), strict=True)]
    scored = [evaluator.with_loss(candidate, result, batch).scores for result in made]
    return {name: torch.stack([scores[name] for scores in scored]) for name in scored[0]}
