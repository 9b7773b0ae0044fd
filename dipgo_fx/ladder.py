"""One search, every ratio and step count: plans of whole steps and halves, fitted once and kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch

from .arena import Arena, Draft
from .calibration import Batch
from .macs import LoopCost
from .passes import ORDER
from .plan import Rung, backup_weights
from .schedules import (
    Runs,
    Sensitivity,
    distinct,
    filled,
    keep_table,
    most_steps,
    named,
    spread_runs,
    whole,
)
from .threshold import fits

RUNGS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The rungs of a ladder, as shares of the loop."""
LOW, HIGH = 0.3, 0.5
"""Shares up to which a rung is fitted with care, and up to which its spread is chosen."""
FINALISTS, MIDDLE_FINALISTS = 4, 2
"""Spreads that are judged on all samples, of a low rung and of one between low and high."""
NEWTON_RUNS = 0.6
"""What a Gauss-Newton step on a rung may cost, in full runs."""
HIGH_RUNS = 1.0
"""About what the rungs above `HIGH` cost, in full runs."""
JUDGES = 16
"""Samples by which finalists are chosen, at most; a third of those there are."""
EXPONENTS = (0.0, 0.15, 0.25, 0.35)
"""How strongly the density of steps follows their sensitivity, see `spread`."""
SHARES = (1.0, 0.45)
"""How many unconditional runs there are to a conditional one, see `most_steps`."""
ENDS = (0.3, 0.0)
"""How much shorter than the others the last gap is, see `spread`."""


class Spread(NamedTuple):
    """How the steps of a rung are placed: one each of `SHARES`, `EXPONENTS` and `ENDS`."""

    share: float = SHARES[0]
    exponent: float = EXPONENTS[2]
    end: float = ENDS[0]


def climb(arena: Arena, sensitivity: Sensitivity, asked: float) -> tuple[Rung, ...]:
    """Fit rungs from few to nearly all steps, each with its steps spread by sensitivity.

    Low rungs are cheap and hard to fit: they choose among all spreads, with fewer unconditional runs too,
    and get a Gauss-Newton step and a calm end. The others run whole steps; high ones, and all beyond the
    budget of the search, keep the spread of the rung below and go by few samples. Those that choose go by
    few samples first and let all samples decide among the finalists. Empty if skipping a step is not free.

    Args:
        arena: where rungs are judged.
        sensitivity: of each half to each step.
        asked: share of the loop for which there is a rung anyway; like a low one it gets a calm end and,
            where the samples that go into one are enough, a Gauss-Newton step.
    """
    cost, few = arena.cost, _judges(arena)
    read = cost.reads.read_by_output
    rungs: dict[int, Rung] = {}
    lowest, spread = math.inf, Spread()
    # What high rungs cost, the Gauss-Newton step of the one asked for, and four such plans the search judges.
    until = arena.config.full_runs - HIGH_RUNS - 2 * NEWTON_RUNS - 4 * asked
    wanted = max(1, min(int(asked * cost.num_steps + 1e-9), cost.num_steps - 1))
    for count in sorted({*_counts(cost.num_steps), wanted}):
        spare = arena.spent < until
        low, chosen = (spare and count <= most * cost.num_steps for most in (LOW, HIGH))
        spreads = _spreads(low) if chosen else [spread._replace(share=SHARES[0])]
        ranked = _ranked(
            arena, sensitivity, count, spreads, few if chosen or count != wanted else arena.batch
        )
        if ranked and chosen:
            finalists = ranked[: FINALISTS if low else MIDDLE_FINALISTS]
            ranked = _ranked(arena, sensitivity, count, [each for each, _ in finalists], arena.batch)
        if not ranked:
            return ()
        spread, best = ranked[0]
        if low or count == wanted:
            most = NEWTON_RUNS if count != wanted else 2 * NEWTON_RUNS
            best = arena.calmed(arena.improved(best, most))
        # Otherwise a lower rung, with what is left spent on the last steps, serves better.
        if best.loss >= lowest and count != wanted:
            continue
        lowest = min(lowest, best.loss)
        rungs[_size(best.runs)] = Rung(best.runs, best.weights[:, read])
    return tuple(rungs.values())


def with_rung(rungs: Sequence[Rung], found: Draft, arena: Arena) -> tuple[Rung, ...]:
    """Return a ladder with what a search found as one more rung, if skipping a step is free."""
    sizes = {_size(rung.runs): rung for rung in rungs}
    if rungs and arena.has_free_steps(found):
        read = arena.cost.reads.read_by_output
        sizes[_size(found.runs)] = Rung(found.runs, found.weights[:, read])
    return tuple(sizes[size] for size in sorted(sizes))


def _spreads(low: bool) -> list[Spread]:
    """Return what a rung chooses among: whole steps but for low ones."""
    return [Spread(*each) for each in product(SHARES if low else SHARES[:1], EXPONENTS, ENDS)]


def _judges(arena: Arena) -> Batch:
    return arena.batch.part(torch.arange(max(1, min(JUDGES, len(arena.batch.sample) // 3))))


def _ranked(
    arena: Arena, sensitivity: Sensitivity, count: int, spreads: Iterable[Spread], batch: Batch
) -> list[tuple[Spread, Draft]]:
    """Steer the plans of `count` steps on a batch, the best first; none if skipping a step is not free."""
    placed: dict[Runs, Spread] = {}
    for spread in spreads:
        placed.setdefault(spread_steps(arena.cost, sensitivity, count, spread), spread)
    drafts = [rung_draft(arena.cost, runs) for runs in placed]
    if not all(map(arena.has_free_steps, drafts)):
        return []
    judged = sorted((arena.steered(draft, batch) for draft in drafts), key=lambda draft: draft.rank)
    return [(placed[draft.runs], draft) for draft in judged]


def spread_steps(cost: LoopCost, sensitivity: Sensitivity, count: int, spread: Spread) -> Runs:
    """Return at least `count` runs of the last half that cost no more than `count` whole steps."""
    budget = cost.share(keep_table(cost, whole(tuple(range(count)), cost)))
    counts = most_steps(cost, (), budget, ORDER, spread.share)
    return spread_runs(sensitivity, counts, spread.exponent, spread.end)


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
    return Draft(keep, backup_weights(keep, "linear"), name=named(runs), order=ORDER, runs=runs)


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
