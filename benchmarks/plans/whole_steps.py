"""Our ideas restricted to whole steps: what the default's frontier has for a share, and a search of its own.

The first is what `prune` leaves; above half of the steps its frontier keeps the spacing of the point below,
so that it may be far from the best plan of whole steps, which the second looks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from benchmarks.cases import Case
from dipgo_fx import Plan
from dipgo_fx.budget import kept_of
from dipgo_fx.cost import LoopCost
from dipgo_fx.frontier import best_within
from dipgo_fx.passes import HISTORY
from dipgo_fx.placement import Runs
from dipgo_fx.search.damp_tail import damp_tail
from dipgo_fx.search.effort import EXPONENTS, LAST_GAPS, UNCONDITIONAL
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.gauss_newton import gauss_newton
from dipgo_fx.search.least_squares import fit_stepwise
from dipgo_fx.search.refine import SENSITIVITY_SHARE
from dipgo_fx.search.sensitivity import sensitivities, whole_steps_candidate
from dipgo_fx.search.spacing import even_steps, most_steps, place_runs

from .learned import default_plan, found_in
from .method import Effort, Found, OutOfReachError, PlanMethod, found_by

FINALISTS = 4
NEWTON_RUNS = 8.0
"""What the Gauss-Newton steps of a finalist may cost, in runs of it."""


def of_frontier(case: Case, ratio: float, effort: Effort) -> Found:
    """Return the frontier's plan of the search for a ratio: every call of the model whole or skipped.

    What is left of the budget is left. The search is that of the default, and is not made twice.
    """
    plan = default_plan(case, ratio, effort)
    loop = case.loop_of(plan)
    cost = LoopCost.of(loop)
    point = best_within(plan.frontier, cost, kept_of(ratio, cost))
    if point is None:
        raise OutOfReachError("no whole steps keep so little")
    table, searched = point.table(cost), found_in(plan)
    whole = Plan(loop.facts, table, 1 - cost.kept(table), cost=cost, steering=point.steering)
    return Found(whole, searched.full_runs, searched.samples)


def placed_for(case: Case, ratio: float, effort: Effort) -> Found:
    """Return the best of whole steps spread evenly and by sensitivity, with the weights of the default.

    All are fitted on a third of the calibration samples, the best few on all and by a Gauss-Newton step.
    """
    evaluator = case.evaluator(split_guidance=case.guidance is not None)
    batch = evaluator.batch
    few = batch.first(max(1, len(batch) // 3))
    runs = dict.fromkeys(places(evaluator, kept_of(ratio, evaluator.cost), effort))
    candidates = [whole_steps_candidate(evaluator, each) for each in runs]
    short = sorted((fit_stepwise(evaluator, each, few) for each in candidates), key=lambda each: each.rank)
    fitted = [fit_stepwise(evaluator, each) for each in short[:FINALISTS]]
    moved = [gauss_newton(evaluator, each, NEWTON_RUNS * evaluator.cost.kept(each.table)) for each in fitted]
    return found_by(evaluator, [damp_tail(evaluator, min(moved, key=lambda each: each.rank))])


def places(evaluator: Evaluator, kept: float, effort: Effort) -> Iterator[Runs]:
    """Yield ways to spread the most whole steps, under guidance also with fewer unconditional ones."""
    cost = evaluator.cost
    sensitivity = sensitivities(evaluator, SENSITIVITY_SHARE * effort.of_default)
    for unconditional in UNCONDITIONAL[: 1 if cost.num_calls == 1 else None]:
        counts = most_steps(cost, (), kept, HISTORY, unconditional)
        if counts[0] == counts[-1]:
            yield from ((steps,) * cost.num_calls for steps in even_steps(cost.num_steps, counts[-1]))
        yield from (place_runs(sensitivity, counts, *each) for each in product(EXPONENTS, LAST_GAPS))


WHOLE_STEPS = PlanMethod("dipgo_fx, whole steps", of_frontier)
PLACED_WHOLE_STEPS = PlanMethod("dipgo_fx, whole steps placed for the share", placed_for)
