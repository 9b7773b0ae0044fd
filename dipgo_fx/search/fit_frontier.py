"""Fitting the frontier: plans of whole steps for all shares of MACs."""

from __future__ import annotations

from collections.abc import Iterable

from ..cost import LoopCost
from ..frontier import Point
from .candidate import Candidate
from .choose_runs import best_of, kinds_of, runs_tried, shifts_of
from .damp_tail import damp_tail
from .effort import effort_within, is_low, share_of_next, size_within, sizes
from .evaluator import Evaluator
from .foresight import Foresight
from .gauss_newton import FEWEST, gauss_newton
from .spacing import Sensitivity

CHOOSING = 0.85
"""How much of what a point may cost is for choosing its steps, where Gauss-Newton has the rest."""


def fit_frontier(evaluator: Evaluator, sensitivity: Sensitivity, kept: float) -> list[Candidate]:
    """Fit plans from few to nearly all steps, each choosing among foreseen placements and by sensitivity.

    What is left of the budget is divided among them, see `share_of_next`: the more a point gets, the more
    placements it chooses among. Low ones and the one asked for get Gauss-Newton steps and a damped end too.
    Empty if skipping a step is not free. A point that is dearer than another and no better is left out.

    Args:
        evaluator: runs the points.
        sensitivity: of each call of the model to each step.
        kept: share of MACs whose point is tried too.
    """
    cost, budget = evaluator.cost, evaluator.budget
    foresight = Foresight(evaluator.batch, sensitivity)
    asked = size_within(cost, kept)
    todo = sorted({*sizes(cost), asked})
    points: list[Candidate] = []
    for place, size in enumerate(todo):
        most = share_of_next(budget.left, todo[place:], asked, cost)
        point = _point(evaluator, foresight, sensitivity, size, most, size == asked)
        if point is None:
            return []
        points.append(point)
    return pareto(points)


def _point(
    evaluator: Evaluator,
    foresight: Foresight,
    sensitivity: Sensitivity,
    size: float,
    most: float,
    is_asked: bool,
) -> Candidate | None:
    """Return the best plan found of a size, in steps, for at most `most` full runs or the least effort.

    `None` if skipping a step is not free.
    """
    end, run = evaluator.budget.spent + most, size / evaluator.cost.num_steps
    is_moved = is_asked or is_low(size, evaluator.cost)
    kinds = kinds_of(evaluator, size)
    runs = most / run * (CHOOSING if is_moved else 1)
    effort = effort_within(runs, len(kinds), len(shifts_of(evaluator, size)))
    best = best_of(evaluator, runs_tried(foresight, sensitivity, kinds, effort), effort)
    if best is None or not is_moved:
        return best
    # What is asked is moved again later; of others nothing mends what a step by few samples did to the rest.
    fewest = FEWEST if is_asked else len(evaluator.batch) // 2
    moved = gauss_newton(evaluator, best, end - evaluator.budget.spent - run, fewest)
    return damp_tail(evaluator, moved)


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
