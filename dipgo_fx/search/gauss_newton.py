"""Gauss-Newton on what a plan may weigh: what final samples owe to each, by differences of resumed runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import fx

from ..passes import HISTORY, GateTable
from ..passes.insert_gates import WEIGHTS
from ..passes.liveness import Liveness
from ..passes.steer_calls import MIX, TOLD
from .batch import Batch
from .candidate import Candidate, Tables
from .evaluator import Evaluator
from .least_squares import Entry, mixed_entries
from .shares import Shares
from .stepwise import Resumable

DAMPING, EASE, FIRM = 1e-3, 0.2, 8.0
"""Damping of the first step relative to each direction's own curvature (Levenberg 1944, scaled as by
Marquardt 1963), and what it is multiplied with after a step that helped and after one that did not."""
LEAST_DAMPING, MOST_DAMPING = 1e-5, 1.0
NUDGE = 3e-3
"""What a difference quotient adds to a weight, more where the model computes in half precision."""
TOLD_NUDGE = 1.0
"""The same for what the model is told, in timesteps."""
LEAST_TOLD = 0.1
"""The least that a timestep is multiplied with."""
FEWEST = 8
"""Samples that a step goes by, at least: fewer say little about others."""


@torch.no_grad()
def gauss_newton(
    evaluator: Evaluator, candidate: Candidate, most: float = math.inf, fewest: int = FEWEST
) -> Candidate:
    """Return the candidate after damped steps on its tables, each taken only if its loss falls.

    Args:
        evaluator: charged with the runs.
        candidate: evaluated on all calibration samples.
        most: what all steps may cost together, in full runs: where that is too little for two, there is one
            that goes by fewer samples.
        fewest: samples that a step goes by at least; there is none where `most` allows fewer.
    """
    cost, batch = evaluator.cost, evaluator.batch
    liveness = cost.reads.liveness_at_most(candidate.table.keep, candidate.history)
    unknowns = list(directions(evaluator, candidate, liveness))
    costs = [share / cost.num_steps for share in cost.kept_by_step(liveness)]  # in full runs
    run = sum(costs)
    price = run + sum(sum(costs[unknown.first :]) for unknown in unknowns)
    count = int(min(len(batch), (most - run) * len(batch) / price)) if unknowns else 0
    if count < fewest:
        return candidate
    damping, turn = DAMPING, 0
    limit = evaluator.budget.spent + most
    while evaluator.budget.spent + price * count / len(batch) + run <= limit + 1e-9:
        few = batch.part((torch.arange(count) + turn * count) % len(batch))
        equations = _noted_equations(evaluator, candidate, unknowns, few)
        evaluator.charge(price, few)
        turn += 1
        while evaluator.budget.spent + run <= limit + 1e-9 and damping <= MOST_DAMPING:
            moved = evaluator.evaluate(moved_along(candidate, unknowns, solved(*equations, damping)))
            if moved.loss < candidate.loss:
                candidate, damping = moved, max(damping * EASE, LEAST_DAMPING)
                break
            damping *= FIRM
        else:
            break
    return candidate


def _noted_equations(
    evaluator: Evaluator, candidate: Candidate, unknowns: Sequence[Direction], batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the normal equations of a step from the journal, or make them."""

    def measured() -> Tables:
        work = partial(normal_equations, evaluator.learnable(candidate), candidate, unknowns, batch)
        curvature, slope = evaluator.chunks.retried(work, len(batch))
        return {"curvature": curvature, "slope": slope}

    noted = evaluator.noted(f"normal equations {candidate.digest}", measured)
    return noted["curvature"], noted["slope"]


@dataclass(frozen=True)
class Direction:
    """One unknown: numbers of a plan that change together, those of a gap of steps by an equal part.

    Attributes:
        entries: the numbers.
        first: the first step that they matter to.
        nudge: what a difference quotient adds.
        calls: how many calls of the model have equal ones.
    """

    entries: tuple[Entry, ...]
    first: int
    nudge: float = NUDGE
    calls: int = 1


def directions(evaluator: Evaluator, candidate: Candidate, liveness: Liveness) -> Iterator[Direction]:
    """Yield the unknowns of a plan: weights of forecasts and, of calls that are steered, the rest.

    Args:
        evaluator: knows the loop.
        candidate: says which gates are open and how many values a closed one may read.
        liveness: which closed blocks are read.
    """
    found = [*weight_directions(candidate.table, liveness, candidate.history)]
    if candidate.steering is not None:
        found += _steering_directions(evaluator, candidate)
    if len({*candidate.placement.runs}) == 1:
        found = _tied(found, evaluator.cost.blocks_per_call)
    yield from found


def _tied(found: Sequence[Direction], blocks: int) -> list[Direction]:
    """Return the unknowns of calls that run at the same steps as those of all of them: fewer ones.

    Args:
        found: the unknowns of each call.
        blocks: how many blocks a call has.
    """
    alike: dict[Entry, list[Direction]] = defaultdict(list)
    for direction in found:
        name, (step, *place) = direction.entries[0]
        if place:
            place[0] %= blocks if name == WEIGHTS else 1
        alike[name, (step, *place)].append(direction)
    return [
        replace(
            same[0],
            entries=tuple(entry for direction in same for entry in direction.entries),
            calls=len(same),
        )
        for same in alike.values()
    ]


def weight_directions(table: GateTable, liveness: Liveness, history: int) -> Iterator[Direction]:
    """Yield one unknown a gap of a block between computed values, and value it may read.

    Within a gap of skipped steps only the sum of the weights moves the sample that the next running step
    sees, which is why its steps share an unknown.
    """
    steps, blocks = table.keep.shape
    for block in range(blocks):
        gap: list[int] = []
        values = 1  # computed so far
        for t in range(table.first + 1, steps + 1):
            if t < steps and not table.keep_rows[t][block]:
                gap += [t] if liveness.reads_backup(t, block) else []
                continue
            if gap:
                for k in range(min(values, history, HISTORY)):
                    yield Direction(tuple((WEIGHTS, (step, block, k)) for step in gap), gap[0])
            gap, values = [], values + 1


def _steering_directions(evaluator: Evaluator, candidate: Candidate) -> Iterator[Direction]:
    """Yield what running calls are told, their mixtures, and the share of the sample in each gap."""
    cost, timesteps = evaluator.cost, evaluator.loop.facts.timesteps
    running = candidate.table.keep.any(1).tolist()
    for step, timestep in enumerate(timesteps):
        if running[step] and timestep > TOLD_NUDGE:
            yield Direction(((TOLD, (step,)),), step, TOLD_NUDGE / timestep)
    gaps: dict[int, list[Entry]] = {call: [] for call in range(cost.num_calls)}
    for step in range(cost.num_steps + 1):
        places = mixed_entries(evaluator, candidate, step) if step < cost.num_steps else []
        for call, gap in gaps.items():
            own = [(MIX, place) for place in places if place[1] == call]
            skipped = [entry for entry in own if entry[1][2] == 0] if len(own) == 1 else []
            if gap and not skipped:
                yield Direction(tuple(gap), gap[0][1][0])
                gap.clear()
            gap += skipped
            yield from (Direction((entry,), step) for entry in own if not skipped)


def normal_equations(
    split: fx.GraphModule, candidate: Candidate, unknowns: Sequence[Direction], batch: Batch, chunk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return J'J and J'r of a step towards the unpruned samples.

    J are the effects of the unknowns on the final samples and r is what these lack. Each direction's effect
    is the difference of two runs; the second resumes where the direction first matters. There is no backward
    pass: memory holds what steps hand to each other. Sums are in double precision: J'J is nearly singular
    where forecasts are alike, and rounding would decide.

    Args:
        split: a SubNet whose tables are inputs, split into steps.
        candidate: where to start.
        unknowns: at least one.
        batch: samples with their unpruned result.
        chunk: samples that run together.
    """
    least = torch.finfo(batch.sample.dtype).eps ** 0.5
    tables = candidate.tables(batch.sample.device)
    size = len(unknowns)
    curvature, slope = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    shares = Shares(batch.chunks(chunk))
    for part in shares.own:
        run = Resumable(split, part)
        result = run.run_with(tables)
        run.remember()

        def effect(direction: Direction, run: Resumable = run, result: torch.Tensor = result) -> torch.Tensor:
            nudge = max(direction.nudge, least)
            nudged = run.again(direction.first, _nudged(tables, direction, nudge))
            made: torch.Tensor = (nudged - result).double() / nudge
            return made

        lack = (part.target.to(result.device) - result).double()
        effects = torch.stack([effect(direction).flatten() for direction in unknowns])
        curvature += (effects @ effects.T).cpu()
        slope += (effects @ lack.flatten()).cpu()
    return shares.sum(curvature), shares.sum(slope)


def solved(curvature: torch.Tensor, slope: torch.Tensor, damping: float) -> torch.Tensor:
    """Return x of (J'J + D) x = J'r, where D is `damping` times the diagonal of J'J."""
    scale = curvature.diagonal()
    damped = curvature + torch.diag(damping * scale + 1e-9 * scale.mean() + 1e-30)
    change: torch.Tensor = torch.linalg.solve(damped, slope)
    return change


def moved_along(candidate: Candidate, unknowns: Sequence[Direction], change: torch.Tensor) -> Candidate:
    """Return the candidate with its tables moved along the unknowns; its loss is still that from before."""
    tables = {name: table.double() for name, table in candidate.tables(torch.device("cpu")).items()}
    for direction, amount in zip(unknowns, change.tolist(), strict=True):
        tables = _nudged(tables, direction, amount)
    if TOLD in tables:
        tables[TOLD].clamp_(min=LEAST_TOLD)
    return candidate.with_tables(tables)


def _nudged(tables: Tables, direction: Direction, amount: float) -> Tables:
    """Add `amount` along a direction, spread over its steps."""
    nudged = dict(tables)
    for name in {name for name, _ in direction.entries}:
        nudged[name] = tables[name].clone()
    for name, place in direction.entries:
        nudged[name][place] += amount * direction.calls / len(direction.entries)
    return nudged
