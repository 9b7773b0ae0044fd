"""One search, every ratio and step count: plans of whole steps and halves, fitted once and kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from .arena import Arena, Draft
from .calibration import Batch
from .macs import LoopCost
from .passes import ORDER
from .plan import Rung, backup_weights
from .schedules import Runs, Sensitivity, distinct, filled, keep_table, most_steps, spread_runs, whole
from .threshold import fits

RUNGS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The rungs of a ladder, as shares of the loop."""
LOW, HIGH = 0.3, 0.5
"""Shares up to which a rung is fitted with care, and up to which its spread is chosen."""
FINALISTS = 2
"""Spreads of a low rung that are judged on all samples."""
NEWTON_RUNS = 0.6
"""What a Gauss-Newton step on a rung may cost, in full runs."""
JUDGES = 12
"""Samples by which the spread of a rung is chosen, at most; a third of those there are."""
EXPONENTS = (0.0, 0.15, 0.25, 0.35, 0.5)
"""How strongly the density of steps follows their sensitivity, see `spread`."""
SHARES = (1.0, 0.6, 0.4)
"""How many unconditional runs there are to a conditional one, see `most_steps`."""


def climb(arena: Arena, found: Draft, sensitivity: Sensitivity) -> tuple[Rung, ...]:
    """Fit rungs from few to nearly all steps, each with its steps spread by sensitivity.

    Low rungs are cheap and hard to fit: they choose among all spreads, with fewer unconditional runs too,
    go by all samples and get a Gauss-Newton step and a calm end. The others run whole steps and go by
    few samples; high ones, and all beyond the budget of the search, keep the exponent of the rung below.
    Empty if skipping a step is not free.
    """
    cost, few = arena.cost, _judges(arena)
    read = cost.reads.read_by_output
    rungs: dict[int, Rung] = {}
    lowest, exponent = math.inf, EXPONENTS[len(EXPONENTS) // 2]
    for count in _counts(cost.num_steps):
        spare = arena.spent < arena.config.full_runs
        low = spare and count <= LOW * cost.num_steps
        exponents = EXPONENTS if spare and count <= HIGH * cost.num_steps else (exponent,)
        spreads = _spreads(cost, sensitivity, count, exponents, SHARES if low else SHARES[:1])
        drafts = [rung_draft(cost, runs) for runs in spreads]
        if not all(map(arena.has_free_steps, drafts)):
            return ()
        ranked = sorted((arena.steered(draft, few) for draft in drafts), key=lambda draft: draft.rank)
        best, exponent = ranked[0], spreads[ranked[0].runs]
        if low:
            again = [arena.steered(rung_draft(cost, draft.runs)) for draft in ranked[:FINALISTS]]
            best = arena.calmed(arena.improved(min(again, key=lambda draft: draft.rank), most=NEWTON_RUNS))
        if best.loss >= lowest:  # a lower rung, with what is left spent on the last steps, serves better
            continue
        lowest = best.loss
        rungs[_size(best.runs)] = Rung(best.runs, best.weights[:, read])
    if arena.has_free_steps(found):
        rungs[_size(found.runs)] = Rung(found.runs, found.weights[:, read])
    return tuple(rungs[size] for size in sorted(rungs))


def ladder_cost(arena: Arena) -> float:
    """Return about what fitting a ladder costs, in full runs."""
    total = arena.cost.num_steps
    counts = _counts(total)
    low = [count for count in counts if count <= LOW * total]
    newton = sum(min(NEWTON_RUNS, 1.5 * count**2 / total) for count in low)
    shares = len(SHARES) if arena.cost.halves > 1 else 1

    def tried(count: int) -> int:
        return (len(EXPONENTS) if count <= HIGH * total else 1) * (shares if count in low else 1)

    on_few = sum(count * tried(count) for count in counts) / total
    on_all = (FINALISTS + 2) * sum(low) / total
    return on_few * len(_judges(arena).sample) / len(arena.batch.sample) + on_all + newton


def _judges(arena: Arena) -> Batch:
    return arena.batch.part(torch.arange(max(1, min(JUDGES, len(arena.batch.sample) // 3))))


def _spreads(
    cost: LoopCost,
    sensitivity: Sensitivity,
    count: int,
    exponents: Sequence[float],
    shares: Sequence[float],
) -> dict[Runs, float]:
    """Return runs that cost as much as `count` whole steps, and the exponents that they were spread by."""
    budget = cost.share(keep_table(cost, whole(tuple(range(count)), cost)))
    found: dict[Runs, float] = {}
    for share in shares:
        counts = most_steps(cost, (), budget, ORDER, share)
        for exponent in exponents:
            found.setdefault(spread_runs(sensitivity, counts, exponent), exponent)
    return found


def _size(runs: Runs) -> int:
    return sum(map(len, runs))


def highest(rungs: Sequence[Rung], cost: LoopCost, budget: float) -> Draft | None:
    """Return the plan of the highest rung within a budget, what is left spent on the last steps.

    `None` if even the lowest is too dear.
    """
    affordable = [r for r in rungs if fits(cost, keep_table(cost, r.runs), budget, ORDER)]
    if not affordable:
        return None
    draft = rung_draft(cost, affordable[-1].runs, budget)
    read = cost.reads.read_by_output
    closed = ~draft.keep[:, read, None]
    draft.weights[:, read] = torch.where(closed, affordable[-1].weights, draft.weights[:, read])
    return draft


def rung_draft(cost: LoopCost, runs: Runs, budget: float = 0.0) -> Draft:
    """Return the plan that runs each half at its steps, and what a budget leaves over on the last steps."""
    keep = torch.tensor(filled(keep_table(cost, runs), budget, cost, ORDER, by_step=True))
    return Draft(keep, backup_weights(keep, "linear"), order=ORDER, runs=runs)


def moved(
    rungs: Sequence[Rung], old: Sequence[float], new: Sequence[float], cost: LoopCost
) -> tuple[Rung, ...]:
    """Return a ladder for a loop with other timesteps: the same evaluations, placed by noise level.

    Rungs for more steps than were fitted extrapolate linearly.

    Args:
        rungs: made for the timesteps `old`, at least one.
        old: noise levels of the steps of the loop that was searched, falling.
        new: those of the loop to run.
        cost: of the loop to run.
    """
    placed = [_placed(rung, old, new) for rung in rungs if len(rung.runs[-1]) < len(new)]
    read = cost.reads.read_by_output
    top = rungs[-1].runs
    drafts = (rung_draft(cost, _more(top, len(old), len(new), n)) for n in range(len(top[-1]) + 1, len(new)))
    return (*placed, *(Rung(draft.runs, draft.weights[:, read]) for draft in drafts))


def _placed(rung: Rung, old: Sequence[float], new: Sequence[float]) -> Rung:
    every = sorted({step for steps in rung.runs for step in steps})
    place = dict(zip(every, _nearest([old[step] for step in every], new), strict=True))
    runs = tuple(tuple(place[step] for step in steps) for steps in rung.runs)
    heads = zip(rung.weights.chunk(len(runs), 1), rung.runs, runs, strict=True)
    placed = [_interpolated(weights, before, after, old, new) for weights, before, after in heads]
    return Rung(runs, torch.cat(placed, 1))


def _interpolated(
    weights: torch.Tensor,
    before: tuple[int, ...],
    after: tuple[int, ...],
    old: Sequence[float],
    new: Sequence[float],
) -> torch.Tensor:
    """Return weights `(T, R, 3)` of a half, read off at the noise levels of a loop with other steps."""
    placed = torch.zeros(len(new), *weights.shape[1:], dtype=torch.float64)
    placed[..., 0] = 1
    ends = zip(before, [*before[1:], len(old)], after, [*after[1:], len(new)], strict=True)
    for start, stop, new_start, new_stop in ends:
        known = weights[start:stop].clone()
        known[0] = torch.tensor([1.0, 0.0, 0.0])  # at its own step a value is itself
        levels = [-old[t] for t in range(start, stop)]
        for t in range(new_start + 1, new_stop):
            for entry in np.ndindex(*known.shape[1:]):
                column = known[(slice(None), *entry)].numpy()
                placed[(t, *entry)] = float(np.interp(-new[t], levels, column))
    return placed


def _counts(total: int) -> list[int]:
    return sorted({max(1, int(share * total + 1e-9)) for share in RUNGS})


def _more(top: Runs, old: int, new: int, count: int) -> Runs:
    """Return runs of `count` of `new` steps whose density follows that of `top`, of `old` steps."""
    conditional: tuple[int, ...] | None = None
    made: list[tuple[int, ...]] = []
    for steps in reversed(top):
        wanted = max(1, round(count * len(steps) / len(top[-1])))
        known = [index / len(steps) for index in range(len(steps) + 1)]
        places = [*(step / old for step in steps), 1.0]
        quantiles = np.interp([index / wanted for index in range(wanted)], known, places)
        made.append(distinct((quantiles * new).tolist(), conditional or range(new)))
        conditional = made[0]
    return tuple(reversed(made))


def _nearest(levels: Sequence[float], new: Sequence[float]) -> tuple[int, ...]:
    """Return the steps whose noise levels are nearest to `levels`, step 0 for the first."""
    places = [min(range(len(new)), key=lambda t: abs(new[t] - level)) for level in levels[1:]]
    return distinct([0, *places], range(len(new)))
