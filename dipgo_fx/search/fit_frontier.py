"""Fitting the frontier: plans of whole steps for all shares of MACs."""

from __future__ import annotations

from collections.abc import Iterable

from ..cost import LoopCost
from ..frontier import Point
from .candidate import Candidate
from .choose_runs import best_of, runs_tried
from .damp_tail import damp_tail
from .effort import BEYOND, effort_at, size_within, sizes
from .evaluator import Evaluator
from .foresight import Foresight
from .gauss_newton import gauss_newton
from .spacing import Sensitivity

HIGH_RUNS = 1.4
"""About what the high points cost together, in full runs."""
NEWTON_RUNS = 8.0
"""What the Gauss-Newton steps of a low point may cost, in runs of that point."""
LATER_RUNS = 8
"""How many runs of the plan asked for are left for when the frontier is fitted."""
ASKED_RUNS = 1.2
"""What those of the point asked for may cost, in full runs: it gets what the search has left later."""


def fit_frontier(evaluator: Evaluator, sensitivity: Sensitivity, kept: float) -> list[Candidate]:
    """Fit plans from few to nearly all steps, each choosing among foreseen placements and by sensitivity.

    Low points choose among the most, with fewer unconditional runs too, and get Gauss-Newton steps and a
    damped end. The others run whole steps, but for the one asked for if half a step is left; those beyond the
    budget of the search take what is foreseen. Empty if skipping a step is not free. A point that is dearer
    than another and no better is left out.

    Args:
        evaluator: runs the points.
        sensitivity: of each call of the model to each step.
        kept: share of MACs whose point is tried too; it chooses among more placements and, like a low one,
            gets a damped end and Gauss-Newton steps.
    """
    cost, budget = evaluator.cost, evaluator.budget
    foresight = Foresight(evaluator.batch, sensitivity)
    asked = size_within(cost, kept)
    points: list[Candidate] = []
    # For the high points, the Gauss-Newton steps of the one asked for, and what comes after.
    with budget.reserve(HIGH_RUNS + ASKED_RUNS + LATER_RUNS * kept):
        for size in sorted({*sizes(cost), asked}):
            effort = effort_at(size, cost, size == asked) if budget.left > 0 else BEYOND
            best = best_of(evaluator, runs_tried(evaluator, foresight, sensitivity, size, effort), effort)
            if best is None:
                return []
            if size == asked:
                best = damp_tail(evaluator, gauss_newton(evaluator, best, ASKED_RUNS))
            elif effort.is_moved:
                most = min(NEWTON_RUNS * cost.kept(best.table), budget.left)
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
