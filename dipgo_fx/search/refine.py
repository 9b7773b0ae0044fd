"""The default recipe: plans of whole steps, fitted and moved under an exact budget, for all ratios."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Any

import torch
from tqdm.auto import tqdm

from ..budget import fits
from ..frontier import Point, best_within
from ..passes import HISTORY, GateTable
from ..placement import Placement, Runs, filled, whole_steps
from .batch import Batch
from .candidate import Candidate
from .damp_tail import damp_tail
from .evaluator import Evaluator
from .fit_frontier import EXPONENTS, LAST_GAPS, UNCONDITIONAL, fit_frontier, with_point
from .gauss_newton import gauss_newton
from .least_squares import fit_stepwise
from .neighbours import neighbour
from .sensitivity import sensitivities
from .spacing import Sensitivity, boundaries, even_steps, most_steps, place_runs

# What parts may take of the budget of a search.
STARTS_SHARE, SENSITIVITY_SHARE, NEWTON_SHARE = 0.25, 0.15, 0.05
# Caps on the number of candidates: where runs are cheap, building their graphs is what takes time.
MAX_STARTS, MAX_MOVES = 40, 120
FITTED_STARTS = 4
"""How many of the starts are fitted on all samples."""


@dataclass(frozen=True)
class Refined:
    """What the default recipe found: the best candidate, the frontier, and facts about the search."""

    best: Candidate
    frontier: tuple[Point, ...]
    notes: dict[str, Any]


def refine(evaluator: Evaluator, kept: float, seed: int, progress: bool) -> Refined:
    """Return the best plan found that keeps at most `kept` of the loop's MACs, and a frontier.

    1. Measure how much each step matters, see `sensitivities`. Evaluate starts: plans of whole steps,
       evenly placed and placed by that, with and without boundary blocks at the other steps; where
       guidance is split, also with fewer unconditional steps. Skipped steps get their weights by least
       squares, in the run that evaluates them.
    2. Fit plans of whole steps for all ratios, see `fit_frontier`.
    3. Give the best starts the weights that are best for the final samples, by Gauss-Newton: which steps
       run is better chosen after that than before. Go on from the winner, which may be the frontier's
       point, with moved steps and traded blocks until the budget is spent; then damp its end, see
       `damp_tail`.

    The first goes by a third of the samples, the last by all. Every candidate fits the budget. What is
    returned is the best on all calibration samples, the best uniform plan among them.
    """
    budget = evaluator.budget
    with tqdm(total=round(budget.limit), desc="search", unit="run", disable=not progress) as bar:
        budget.on_charge = lambda: _show(bar, budget.spent)
        sensitivity = sensitivities(evaluator, SENSITIVITY_SHARE * budget.limit)
        starts = _evaluated_starts(evaluator, kept, sensitivity)
        frontier = fit_frontier(evaluator, sensitivity, kept)
        best = _improved(evaluator, starts, best_within(frontier, evaluator.cost, kept), kept, seed)
    notes = {"start": starts[0].name, "start_loss": starts[0].loss}
    return Refined(best, with_point(frontier, best, evaluator.cost), notes)


def _show(bar: tqdm[Any], spent: float) -> None:
    bar.n = round(min(spent, bar.total), 1)
    bar.refresh()


# -- starts


def _evaluated_starts(evaluator: Evaluator, kept: float, sensitivity: Sensitivity) -> list[Candidate]:
    """Return starts evaluated on a third of the samples: that of the lowest loss, then the best by rank."""
    budget = evaluator.budget
    few = evaluator.batch.first(len(evaluator.batch) // 3)
    scored: list[Candidate] = []
    for start in islice(_starts(evaluator, kept, sensitivity), MAX_STARTS):
        scored.append(_fitted(evaluator, start, few))
        if budget.spent > STARTS_SHARE * budget.limit:
            break
    scored.sort(key=_rank)
    return [min(scored, key=lambda start: start.loss), *scored[:FITTED_STARTS]]


def _starts(evaluator: Evaluator, kept: float, sensitivity: Sensitivity) -> Iterator[Candidate]:
    """Yield whole-step plans, then plans that also run boundary blocks at the other steps."""
    cost = evaluator.cost
    for boundary in boundaries(cost.num_blocks // cost.num_calls):
        for history in (2, 1) if boundary else (HISTORY,):
            for runs in dict.fromkeys(_start_runs(evaluator, boundary, kept, history, sensitivity)):
                placement = Placement(runs, boundary)
                yield _candidate(evaluator, placement, placement.keep(cost), kept, history)


def _start_runs(
    evaluator: Evaluator, boundary: tuple[int, ...], kept: float, history: int, sensitivity: Sensitivity
) -> Iterator[Runs]:
    """Yield whole steps, evenly placed and by sensitivity, then the same with fewer unconditional ones."""
    cost = evaluator.cost
    for unconditional in UNCONDITIONAL[: 1 if boundary or cost.num_calls == 1 else None]:
        counts = most_steps(cost, boundary, kept, history, unconditional)
        if not counts[-1]:
            continue
        if unconditional == 1 and counts[0] == counts[-1]:
            yield from (whole_steps(steps, cost).runs for steps in even_steps(cost.num_steps, counts[-1]))
        yield from (place_runs(sensitivity, counts, *each) for each in product(EXPONENTS, LAST_GAPS))


# -- going on


def _improved(
    evaluator: Evaluator, starts: Sequence[Candidate], point: Point | None, kept: float, seed: int
) -> Candidate:
    """Fit the starts on all samples, then neighbours of the best of those; return the winner.

    Args:
        starts: of `_evaluated_starts`.
        point: the frontier's plan, fitted and damped already.
    """
    budget, rng = evaluator.budget, random.Random(seed)
    given = [] if point is None else [evaluator.evaluate(_of_point(evaluator, point, kept))]
    done: list[Candidate] = []
    # What comes after the loops, and the last of what they do: two runs of a plan each, and a fit.
    with budget.reserve(4 * kept + NEWTON_SHARE * budget.limit):
        for start in starts:
            if not _known(start, given + done) and (budget.left > 0 or not given + done):
                done.append(_best_weights(evaluator, start, kept))
        for _ in range(MAX_MOVES):
            moved = _neighbour(evaluator, min(given + done, key=_rank), kept, rng)
            if moved is None or budget.left <= 0:
                break
            if not _known(moved, given + done):
                done.append(_best_weights(evaluator, moved, kept))
    plain = evaluator.evaluate(_plain(starts[0]))
    best = min((each for each in done if each.loss <= plain.loss), key=_rank, default=plain)
    best = damp_tail(evaluator, best, most=plain.loss)
    return min([best, *(each for each in given if each.loss <= plain.loss)], key=_rank)


def _of_point(evaluator: Evaluator, point: Point, kept: float) -> Candidate:
    placement = Placement(point.runs)
    return Candidate(point.table(evaluator.cost, kept), HISTORY, placement, str(placement))


def _plain(start: Candidate) -> Candidate:
    """Return the plan that the search started from, its backups plain."""
    return replace(start, table=GateTable.of(start.table.keep, "reuse" if start.history == 1 else "linear"))


def _best_weights(evaluator: Evaluator, candidate: Candidate, kept: float) -> Candidate:
    """Return the candidate evaluated on all samples, with the best weights a Gauss-Newton step finds."""
    fitted = _fitted(evaluator, candidate, evaluator.batch)
    # A forecast keeps more values alive than a repeat: not every table of repeats can afford it.
    if candidate.history > 1 or fits(evaluator.cost, candidate.table.keep, kept, 2):
        fitted = replace(fitted, history=max(candidate.history, 2))
        fitted = gauss_newton(evaluator, fitted, most=NEWTON_SHARE * evaluator.budget.limit)
    return fitted


def _fitted(evaluator: Evaluator, candidate: Candidate, batch: Batch) -> Candidate:
    """Return the candidate evaluated on a batch, its skipped steps fitted if it may forecast."""
    if candidate.history > 1:
        return fit_stepwise(evaluator, candidate, batch)
    return evaluator.evaluate(candidate, batch)


def _candidate(
    evaluator: Evaluator, placement: Placement, keep: torch.Tensor, kept: float, history: int
) -> Candidate:
    keep = filled(keep, kept, evaluator.cost, history, by_step=not placement.boundary)
    kind = "repeated" if history == 1 else "forecast"
    table = GateTable.of(keep, "reuse" if history == 1 else "linear")
    return Candidate(table, history, placement, f"{placement}, {kind}")


def _neighbour(
    evaluator: Evaluator, candidate: Candidate, kept: float, rng: random.Random
) -> Candidate | None:
    """Move a run, or give up one block of one; what that frees goes to blocks by the output."""
    cost, placement = evaluator.cost, candidate.placement
    for _ in range(20):
        runs = neighbour(placement.runs, cost.num_steps, rng)
        moved = Placement(runs, placement.boundary)
        keep = moved.keep(cost)
        if rng.random() < 0.2 and len(runs[-1]) > 1:
            keep[rng.choice(runs[-1][1:]), rng.randrange(cost.num_blocks)] = False
        if fits(cost, keep, kept, candidate.history):
            return _candidate(evaluator, moved, keep, kept, candidate.history)
    return None


def _rank(candidate: Candidate) -> float:
    return candidate.rank


def _known(candidate: Candidate, others: Sequence[Candidate]) -> bool:
    return any(candidate.table.keep.equal(other.table.keep) for other in others)
