"""One search, every ratio and step count: whole-step plans fitted once and kept with the plan."""

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
from .schedules import distinct, filled, keep_table, spread
from .threshold import fits

RUNGS = 20
"""Most rungs of a ladder."""
LOW = 0.35
"""Share of the steps up to which a rung is fitted with care."""
NEWTON_RUNS = 0.6
"""What a Gauss-Newton step on a rung may cost, in full runs."""
EXPONENTS = (0.0, 0.15, 0.25, 0.35, 0.5)
"""How strongly the density of steps follows their sensitivity, see `spread`."""


def climb(arena: Arena, found: Draft, sensitivity: Sequence[float], few: Batch) -> tuple[Rung, ...]:
    """Fit rungs from few to nearly all steps, each with its steps spread by sensitivity.

    How strongly goes by the rung below. Low rungs are cheap and hard to fit: they go by all samples and get
    a Gauss-Newton step and a calm end. The others go by `few`. Empty if skipping a step is not free.
    """
    cost, total = arena.cost, arena.cost.num_steps
    read = cost.reads.read_by_output
    rungs: dict[int, Rung] = {}
    lowest, middle = math.inf, len(EXPONENTS) // 2
    for count in _counts(total):
        near = EXPONENTS[max(middle - 1, 0) : middle + 2]
        drafts = {e: whole_step_draft(cost, spread(sensitivity, count, e)) for e in near}
        if not all(map(arena.skipped, drafts.values())):
            return ()
        fitted = {e: arena.steered(draft, few) for e, draft in drafts.items()}
        exponent = min(fitted, key=lambda e: fitted[e].loss)
        middle, best = EXPONENTS.index(exponent), fitted[exponent]
        if best.loss >= lowest:  # a lower rung, with what is left spent on the last steps, serves better
            continue
        lowest = best.loss
        if count <= LOW * total:
            best = arena.calmed(arena.improved(arena.steered(drafts[exponent]), most=NEWTON_RUNS))
        rungs[count] = Rung(best.steps, best.weights[:, read])
    if len(arena.skipped(found)) == total - len(found.steps):
        rungs[len(found.steps)] = Rung(found.steps, found.weights[:, read])
    return tuple(rungs[count] for count in sorted(rungs))


def ladder_cost(arena: Arena, few: Batch) -> float:
    """Return about what fitting a ladder costs, in full runs."""
    total = arena.cost.num_steps
    low = [count for count in _counts(total) if count <= LOW * total]
    newton = sum(min(NEWTON_RUNS, 1.5 * count**2 / total) for count in low)
    tried = 3 * sum(_counts(total)) / total * len(few.sample) / len(arena.batch.sample)
    return tried + 3 * sum(low) / total + newton


def highest(rungs: Sequence[Rung], cost: LoopCost, budget: float) -> Draft | None:
    """Return the plan of the highest rung within a budget, what is left spent on the last steps.

    `None` if even the lowest is too dear.
    """
    affordable = [r for r in rungs if fits(cost, keep_table(cost, r.steps), budget, ORDER)]
    if not affordable:
        return None
    draft = whole_step_draft(cost, affordable[-1].steps, budget)
    read = cost.reads.read_by_output
    closed = ~draft.keep[:, read, None]
    draft.weights[:, read] = torch.where(closed, affordable[-1].weights, draft.weights[:, read])
    return draft


def whole_step_draft(cost: LoopCost, steps: tuple[int, ...], budget: float = 0.0) -> Draft:
    """Return the plan that runs `steps` whole, and what a budget leaves over on the last steps."""
    keep = torch.tensor(filled(keep_table(cost, steps), budget, cost, ORDER, by_step=True))
    return Draft(keep, backup_weights(keep, "linear"), order=ORDER, steps=steps)


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
    placed = [_placed(rung, old, new) for rung in rungs if len(rung.steps) < len(new)]
    shares = [step / len(old) for step in rungs[-1].steps]
    more = range(len(rungs[-1].steps) + 1, len(new))
    drafts = [whole_step_draft(cost, _spread_like(shares, len(new), count)) for count in more]
    read = cost.reads.read_by_output
    return (*placed, *(Rung(draft.steps, draft.weights[:, read]) for draft in drafts))


def _placed(rung: Rung, old: Sequence[float], new: Sequence[float]) -> Rung:
    steps = _nearest([old[step] for step in rung.steps], new)
    weights = torch.zeros(len(new), *rung.weights.shape[1:], dtype=torch.float64)
    weights[..., 0] = 1
    ends = zip(rung.steps, [*rung.steps[1:], len(old)], steps, [*steps[1:], len(new)], strict=True)
    for start, stop, new_start, new_stop in ends:
        known = rung.weights[start:stop].clone()
        known[0] = torch.tensor([1.0, 0.0, 0.0])  # at its own step a value is itself
        levels = [-old[t] for t in range(start, stop)]
        for t in range(new_start + 1, new_stop):
            for entry in np.ndindex(*known.shape[1:]):
                column = known[(slice(None), *entry)].numpy()
                weights[(t, *entry)] = float(np.interp(-new[t], levels, column))
    return Rung(steps, weights)


def _counts(total: int) -> list[int]:
    shares = (*range(1, RUNGS // 2 + 1), *range(RUNGS // 2 + 2, RUNGS, 2))
    return sorted({max(1, share * total // RUNGS) for share in shares})


def _spread_like(shares: Sequence[float], total: int, count: int) -> tuple[int, ...]:
    """Return `count` of `total` steps whose density follows that of steps at `shares` of a loop."""
    known = [index / len(shares) for index in range(len(shares) + 1)]
    quantiles = np.interp([index / count for index in range(count)], known, [*shares, 1.0])
    return distinct((quantiles * total).tolist(), total)


def _nearest(levels: Sequence[float], new: Sequence[float]) -> tuple[int, ...]:
    """Return the steps whose noise levels are nearest to `levels`, step 0 for the first."""
    places = [min(range(len(new)), key=lambda t: abs(new[t] - level)) for level in levels[1:]]
    return distinct([0, *places], len(new))
