"""Fitting the frontier: plans of whole steps for all shares of MACs, each placed by sensitivity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from ..cost import LoopCost
from ..frontier import Point
from ..passes import HISTORY
from ..placement import Placement, Runs, whole_steps
from .batch import Batch
from .candidate import Candidate
from .damp_tail import damp_tail
from .evaluator import Evaluator
from .gauss_newton import gauss_newton
from .least_squares import fit_stepwise
from .sensitivity import whole_steps_candidate
from .spacing import Sensitivity, most_steps, place_runs

POINTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
"""The points of a frontier, as shares of its steps that run."""
EXPONENTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""How strongly the density of steps follows their sensitivity, see `place_steps`."""
UNCONDITIONAL = (1.0, 0.45)
"""How many unconditional runs there are to a conditional one, see `most_steps`."""
LAST_GAPS = (0.3, 0.0)
"""How much shorter than the others the last gap is, see `place_steps`."""
FIRST_GAPS = (0.25, 0.5)
"""After which share of the mean gap the first run comes, if it is not that at step 0."""
ROUNDS = (1 / 6, 1 / 3, 1)
"""The shares of the samples that judge spacings: first all of them, then those that are left."""


class Spacing(NamedTuple):
    """How steps are placed: one each of `UNCONDITIONAL`, `EXPONENTS` and `LAST_GAPS`, and how they begin.

    A call that begins at a later step than 0 has the sample for its predictions until then: one run less.
    """

    unconditional: float = UNCONDITIONAL[0]
    exponent: float = EXPONENTS[2]
    last_gap: float = LAST_GAPS[0]
    first: int = 0


@dataclass(frozen=True)
class Effort:
    """With how much care a point is fitted.

    Attributes:
        spacings: those it chooses among; if none, it has that of the point below.
        left: how many of them are left after each but the last of `ROUNDS`.
        is_moved: whether it gets Gauss-Newton steps and a damped end.
        begins_late: whether to try that too.
    """

    spacings: tuple[Spacing, ...] = ()
    left: tuple[int, int] = (1, 1)
    is_moved: bool = False
    begins_late: bool = False


LOW = Effort(
    tuple(Spacing(*each) for each in product(UNCONDITIONAL, EXPONENTS, LAST_GAPS)), (6, 3), True, True
)
"""Points up to `LOW_STEPS` are cheap and hard to fit."""
MIDDLE = Effort(tuple(Spacing(*each) for each in product(UNCONDITIONAL[:1], EXPONENTS, LAST_GAPS)), (4, 2))
HALVES = Effort(LOW.spacings, LOW.left)
"""The point asked for, if what its whole steps leave buys a call of one condition of guidance."""
HIGH = Effort()
LOW_STEPS, MIDDLE_STEPS = 0.3, 0.5
"""Shares of the steps up to which a point is low, and is middle."""
HIGH_RUNS = 1.4
"""About what the high points cost together, in full runs."""
NEWTON_RUNS = 8.0
"""What the Gauss-Newton steps of a low point may cost, in runs of that point."""
ASKED_RUNS = 1.2
"""What those of the point asked for may cost, in full runs: it gets what the search has left later."""


def fit_frontier(evaluator: Evaluator, sensitivity: Sensitivity, kept: float) -> list[Candidate]:
    """Fit plans from few to nearly all steps, each with its steps placed by sensitivity.

    Low points choose among all spacings, with fewer unconditional runs too, and get Gauss-Newton steps and
    a damped end. The others run whole steps, but for the one asked for if half a step is left; high ones, and
    all beyond the budget of the search, keep the spacing of the point below. Empty if skipping a step is not
    free. A point that is dearer than another and no better is left out.

    Args:
        evaluator: runs the points.
        sensitivity: of each call of the model to each step.
        kept: share of MACs whose point is tried too; it chooses among spacings and, like a low one, gets
            a damped end and Gauss-Newton steps.
    """
    steps, budget = evaluator.cost.num_steps, evaluator.budget
    asked = max(1, min(int(kept * steps + 1e-9), steps - 1))
    buys_a_call = evaluator.cost.num_calls * (kept * steps - asked) >= 1 - 1e-9
    points: list[Candidate] = []
    spacing = Spacing()
    # For the high points, the Gauss-Newton steps of the one asked for, and four such plans that come after.
    with budget.reserve(HIGH_RUNS + ASKED_RUNS + 4 * kept):
        for count in sorted({*_counts(steps), asked}):
            effort = _effort(count, steps, count == asked) if budget.left > 0 else HIGH
            size: float = count
            if count == asked and effort is not HIGH and buys_a_call:
                size, effort = kept * steps, LOW if effort is LOW else HALVES
            ranked = _ranked(evaluator, sensitivity, size, effort, spacing)
            if not ranked:
                return []
            spacing, best = ranked[0]
            if count == asked:
                best = damp_tail(evaluator, gauss_newton(evaluator, best, ASKED_RUNS))
            elif effort.is_moved:
                most = min(NEWTON_RUNS * evaluator.cost.kept(best.table), budget.left)
                # Nothing comes later that would mend what a step by few samples did to others.
                moved = gauss_newton(evaluator, best, most, fewest=len(evaluator.batch) // 2)
                best = damp_tail(evaluator, moved)
            points.append(best)
    return pareto(points)


def pareto(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return, cheap to dear, the candidates of whole steps that are better than all cheaper ones."""
    chosen: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda each: (each.placement.size, each.rank)):
        if not chosen or candidate.rank < chosen[-1].rank:
            chosen.append(candidate)
    return chosen


def points_of(candidates: Iterable[Candidate], cost: LoopCost) -> tuple[Point, ...]:
    """Return candidates of whole steps as the points of a frontier."""
    return tuple(
        Point.of(each.placement.runs, each.table, cost, each.steering) for each in pareto(candidates)
    )


def skips_whole_steps(candidate: Candidate, cost: LoopCost) -> bool:
    """Tell whether a candidate makes the calls of its placement and nothing else runs at other steps."""
    table = candidate.table
    if not table.keep.equal(Placement(candidate.placement.runs).keep(cost)):
        return False
    backed_up = cost.reads.liveness(table).backed_up
    backed_up[:, cost.reads.heads] = False
    return not bool(backed_up.any())


def steps_at(cost: LoopCost, sensitivity: Sensitivity, count: float, spacing: Spacing) -> Runs:
    """Return runs that cost no more than `count` whole steps, at least as many of the last call."""
    whole = int(count + 1e-9)
    kept = cost.kept_at_most(whole_steps(tuple(range(whole)), cost).keep(cost), 1)
    kept += max(0.0, count - whole) / cost.num_steps
    counts = most_steps(cost, (), kept, HISTORY, spacing.unconditional)
    return place_runs(sensitivity, counts, spacing.exponent, spacing.last_gap, spacing.first)


def _effort(count: int, steps: int, is_asked: bool) -> Effort:
    """Return the effort for a point that runs `count` of the steps."""
    if count <= LOW_STEPS * steps:
        return LOW
    return MIDDLE if is_asked or count <= MIDDLE_STEPS * steps else HIGH


def _ranked(
    evaluator: Evaluator,
    sensitivity: Sensitivity,
    count: float,
    effort: Effort,
    below: Spacing,
) -> list[tuple[Spacing, Candidate]]:
    """Return the candidates of `count` steps, best first; few samples make the short lists, all decide."""
    if not effort.spacings:
        spacing = below._replace(unconditional=UNCONDITIONAL[0])
        return _fitted(evaluator, sensitivity, count, [spacing], evaluator.batch)
    firsts = [0, *(_later_firsts(evaluator, count) if effort.begins_late else ())]
    spacings = [spacing._replace(first=each) for spacing in effort.spacings for each in firsts]
    ranked: list[tuple[Spacing, Candidate]] = []
    for share, left in zip(ROUNDS, (*effort.left, 1), strict=True):
        batch = evaluator.batch.first(round(share * len(evaluator.batch)))
        ranked = _fitted(evaluator, sensitivity, count, spacings, batch)
        spacings = [spacing for spacing, _ in ranked[:left]]
    return ranked


def _later_firsts(evaluator: Evaluator, count: float) -> list[int]:
    """Return later steps at which a plan of `count` steps may begin.

    None where the conditions of guidance are apart: what they differ in at the start matters most.
    """
    cost = evaluator.cost
    if not (evaluator.can_steer and evaluator.carries_sample and cost.num_calls == 1):
        return []
    return sorted({round(gap * cost.num_steps / count) for gap in FIRST_GAPS} - {0})


def _fitted(
    evaluator: Evaluator, sensitivity: Sensitivity, count: float, spacings: Iterable[Spacing], batch: Batch
) -> list[tuple[Spacing, Candidate]]:
    """Fit the plans of `count` steps on a batch, best first; none if skipping a step is not free."""
    placed: dict[Runs, Spacing] = {}
    for spacing in spacings:
        placed.setdefault(steps_at(evaluator.cost, sensitivity, count, spacing), spacing)
    candidates = [whole_steps_candidate(evaluator, runs) for runs in placed]
    if not all(skips_whole_steps(candidate, evaluator.cost) for candidate in candidates):
        return []
    fitted = (fit_stepwise(evaluator, candidate, batch) for candidate in candidates)
    return [(placed[each.placement.runs], each) for each in sorted(fitted, key=lambda each: each.rank)]


def _counts(steps: int) -> list[int]:
    return sorted({max(1, int(share * steps + 1e-9)) for share in POINTS})
