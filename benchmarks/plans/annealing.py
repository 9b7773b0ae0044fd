"""Simulated annealing over masks of whole steps, nearest to BudCache; predictions repeat or extrapolate."""

from __future__ import annotations

import math
import random

from benchmarks.cases import Case
from dipgo_fx.budget import kept_of
from dipgo_fx.frontier import whole_steps_table
from dipgo_fx.passes import Backup, GateTable
from dipgo_fx.passes.gate_table import HISTORY_OF
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.spacing import even_steps, most_steps

from .method import Effort, Found, PlanMethod, found_by

MAX_MASKS = 400  # where runs are cheap, building graphs is what takes the time of a search
HOT, COLD = 0.3, 0.01  # temperatures, of the logarithm of the loss
FINALISTS = 5
LEFT = 0.85  # of the budget for the annealing, the rest is the finalists'


def anneal(case: Case, ratio: float, effort: Effort, backup: Backup) -> Found:
    """Return the best mask found with what our own search may spend.

    The annealing starts from the best even spread, moves one step at a time and goes by a third of the
    calibration samples; the best few masks are evaluated on all.
    """
    evaluator, history = case.evaluator(), HISTORY_OF[backup]
    cost, batch = evaluator.cost, evaluator.batch
    count = max(1, most_steps(cost, (), kept_of(ratio, cost), history)[-1])
    few = batch.first(max(1, len(batch) // 3))
    known: dict[tuple[int, ...], Candidate] = {}
    limit = LEFT * effort.of_default
    share = len(few) / len(batch)

    def loss(steps: tuple[int, ...]) -> float:
        if steps not in known:
            known[steps] = evaluator.evaluate(_candidate(evaluator, steps, backup), few)
        return known[steps].loss

    rng = random.Random(case.seed)
    starts = list(even_steps(cost.num_steps, count))
    current = min(starts, key=loss)
    first = evaluator.budget.spent
    most = 20 * MAX_MASKS  # moves, many of which lead to what is known
    for move in range(most):
        done = max((evaluator.budget.spent - first) / max(limit - first, 1e-9), len(known) / MAX_MASKS)
        if evaluator.budget.spent + share * count / cost.num_steps > limit or done >= 1:
            break
        temperature = HOT * (COLD / HOT) ** max(done, move / most)
        moved = neighbour(current, cost.num_steps, rng)
        worse = math.log(loss(moved)) - math.log(loss(current))
        if worse <= 0 or rng.random() < math.exp(-worse / temperature):
            current = moved
    best = sorted(known.values(), key=lambda each: each.loss)[:FINALISTS]
    return found_by(evaluator, [evaluator.evaluate(each) for each in best])


def neighbour(steps: tuple[int, ...], total: int, rng: random.Random) -> tuple[int, ...]:
    """Return a mask with one step, not the first, moved: mostly to a place nearby."""
    free = [step for step in range(1, total) if step not in steps]
    if len(steps) < 2 or not free:
        return steps
    gone = rng.choice(steps[1:])
    near = sorted(free, key=lambda step: abs(step - gone))[:4]
    return tuple(sorted({*steps, rng.choice(near if rng.random() < 0.7 else free)} - {gone}))


def _candidate(evaluator: Evaluator, steps: tuple[int, ...], backup: Backup) -> Candidate:
    cost = evaluator.cost
    keep = whole_steps_table(cost, (steps,) * cost.num_calls).keep
    return Candidate(GateTable.of(keep, backup), HISTORY_OF[backup])


def _method(backup: Backup) -> PlanMethod:
    return PlanMethod(
        f"annealed steps, {backup}", lambda case, ratio, effort: anneal(case, ratio, effort, backup)
    )


ANNEALED_REUSE, ANNEALED_LINEAR = _method("reuse"), _method("linear")
