"""The default recipe: plans of whole steps, fitted and moved under an exact budget, for all ratios."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Any

import torch
from tqdm.auto import tqdm

from ..budget import fits
from ..cost import LoopCost
from ..frontier import Point
from ..passes import HISTORY, GateTable
from ..passes.gate_table import backup_of
from ..placement import Placement, Runs, open_from_output, whole_steps
from .batch import Batch
from .candidate import Candidate
from .choose_runs import skips_whole_steps
from .damp_tail import damp_tail
from .effort import EXPONENTS, LAST_GAPS, UNCONDITIONAL
from .evaluator import Evaluator
from .fit_frontier import fit_frontier, points_of
from .gauss_newton import gauss_newton
from .least_squares import fit_stepwise
from .neighbours import neighbour
from .progress import hidden
from .sensitivity import sensitivities
from .spacing import Sensitivity, boundaries, even_steps, most_steps, place_runs

# What parts may take of the budget of a search.
STARTS_SHARE, SENSITIVITY_SHARE, MOVES_SHARE, LAST_SHARE = 0.1, 0.1, 0.1, 0.15
LAST_RUNS = 5
"""Runs of the plan that the last part makes at least."""
# Caps on the number of candidates: where runs are cheap, building their graphs is what takes time.
MAX_STARTS, MAX_MOVES = 40, 120
FITTED_STARTS, FITTED_MOVES = 4, 3
"""How many of the starts, and of their neighbours, are fitted on all samples."""


@dataclass(frozen=True)
class Refined:
    """What the default recipe found: the best candidate, the frontier, and facts about the search."""

    best: Candidate
    frontier: tuple[Point, ...]
    notes: dict[str, Any]


def refine(evaluator: Evaluator, kept: float, seed: int, progress: bool) -> Refined:
    """Return the best plan found that keeps at most `kept` of the loop's MACs, and a frontier.

    1. Measure how much each step matters, see `sensitivities`.
    2. Fit plans of whole steps for all ratios, see `fit_frontier`, and start from the best within the share.
       Where there is none, as steps cannot be skipped for free, evaluate starts that run blocks at all of
       them, see `_starts`.
    3. Go on with moved steps and traded blocks. Give the winner, by Gauss-Newton, the weights that are best
       for the final samples and, where calls are steered, what they are told. Then damp its end, see
       `damp_tail`, and spend on blocks what is left, if that helps.

    Moves go by a sixth of the samples, starts by a third, the last by all. Every candidate fits the budget.
    What is returned is the best on all calibration samples, the plans of the frontier among them. Where
    nothing is to be removed there is nothing to choose: it is the loop as it is.
    """
    budget = evaluator.budget
    with tqdm(total=round(budget.limit), desc="search", unit="run", disable=hidden(progress)) as bar:
        budget.on_charge = lambda: _show(bar, budget.spent)
        sensitivity = sensitivities(evaluator, SENSITIVITY_SHARE * budget.limit)
        with budget.reserve(max(LAST_SHARE * budget.limit, LAST_RUNS * kept)):
            frontier = fit_frontier(evaluator, sensitivity, kept)
        if kept == 1:
            start = best = _unpruned(evaluator)
        else:
            given = _affordable(frontier, evaluator.cost, kept)
            starts = given or _evaluated_starts(evaluator, kept, sensitivity)
            start, best = starts[0], _improved(evaluator, given, starts, kept, seed)
    notes = {"start": start.name, "start_loss": start.loss if math.isfinite(start.loss) else None}
    found = [best] if frontier and skips_whole_steps(best, evaluator.cost) else []
    sound = [each for each in (*frontier, *found) if math.isfinite(each.loss)]
    return Refined(best, points_of(sound, evaluator.cost), notes)


def _unpruned(evaluator: Evaluator) -> Candidate:
    """Return the evaluated candidate that keeps all; anything fitted or steered would round otherwise."""
    cost = evaluator.cost
    placement = whole_steps(tuple(range(cost.num_steps)), cost)
    table = GateTable.of(cost.all_kept)
    return evaluator.evaluate(Candidate(table, table.history, placement, "unpruned"))


def _affordable(frontier: Sequence[Candidate], cost: LoopCost, kept: float) -> list[Candidate]:
    """Return the best candidate of a frontier that keeps at most `kept` of the MACs, if there is one."""
    return [each for each in frontier if fits(cost, each.table.keep, kept, HISTORY)][-1:]


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
    for boundary in boundaries(cost.blocks_per_call):
        for history in (2, 1) if boundary else (HISTORY,):
            for runs in dict.fromkeys(_start_runs(evaluator, boundary, kept, history, sensitivity)):
                placement = Placement(runs, boundary)
                plain = _candidate(evaluator, placement, placement.keep(cost), history)
                yield plain
                spent = _with_rest_spent(evaluator, plain, kept)
                if spent is not plain:
                    yield spent


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
    evaluator: Evaluator, given: list[Candidate], starts: Sequence[Candidate], kept: float, seed: int
) -> Candidate:
    """Fit the starts on all samples, and neighbours; return the best of them, fitted further.

    Args:
        evaluator: runs them.
        given: the frontier's plan, if there is one, fitted and damped already.
        starts: that, or those of `_evaluated_starts`.
        kept: share of MACs, below 1.
        seed: of the moves.
    """
    budget, batch = evaluator.budget, evaluator.batch
    end = budget.spent + MOVES_SHARE * budget.limit
    with budget.reserve(LAST_SHARE * budget.limit):
        done = [*given, *(_fitted(evaluator, each, batch) for each in starts[:1])]
        for start in [*starts[1:], *_moved(evaluator, done, kept, random.Random(seed), end)]:
            if not _known(start, done) and budget.left > 0:
                done.append(_fitted(evaluator, start, batch))
    plain = evaluator.evaluate(_plain(starts[0], evaluator.cost))
    best = min((each for each in done if each.loss <= plain.loss), key=_rank, default=plain)
    found = [*given, best]
    if best.history > 1:
        found.append(gauss_newton(evaluator, best, budget.left - 2 * kept))
    found.append(damp_tail(evaluator, min(found, key=_rank), most=plain.loss))
    best = min(found, key=_rank)
    spent = _with_rest_spent(evaluator, best, kept)
    if given and spent is not best and budget.left >= kept:
        found.append(_fitted(evaluator, spent, batch))
    return min(found, key=_rank)


def _moved(
    evaluator: Evaluator, done: Sequence[Candidate], kept: float, rng: random.Random, end: float
) -> list[Candidate]:
    """Return the best of some candidates and of what moves from them lead to, as a few samples see them.

    Args:
        done: where to start.
        end: what the search may have spent when it ends.
    """
    budget, few = evaluator.budget, evaluator.batch.first(len(evaluator.batch) // 6)
    if budget.spent > end:
        return []
    tried = [_fitted(evaluator, each, few) for each in sorted(done, key=_rank)[:FITTED_STARTS]]
    for _ in range(MAX_MOVES):
        moved = _neighbour(evaluator, min(tried, key=_rank), kept, rng)
        if moved is None or budget.left <= 0 or budget.spent > end:
            break
        if not _known(moved, tried):
            tried.append(_fitted(evaluator, moved, few))
    return sorted(tried, key=_rank)[:FITTED_MOVES]


def _plain(start: Candidate, cost: LoopCost) -> Candidate:
    """Return the plan that the search started from, its backups plain and its first run at step 0."""
    runs = tuple((0, *steps[1:]) for steps in start.placement.runs)
    keep = start.table.keep
    if runs != start.placement.runs:
        keep = Placement(runs, start.placement.boundary).keep(cost)
    table = GateTable.of(keep, backup_of(start.history))
    return replace(start, table=table, placement=Placement(runs, start.placement.boundary), steering=None)


def _fitted(evaluator: Evaluator, candidate: Candidate, batch: Batch) -> Candidate:
    """Return the candidate evaluated on a batch, its skipped steps fitted if it may forecast."""
    if candidate.history > 1:
        return fit_stepwise(evaluator, candidate, batch)
    return evaluator.evaluate(candidate, batch)


def _candidate(evaluator: Evaluator, placement: Placement, keep: torch.Tensor, history: int) -> Candidate:
    kind = "repeated" if history == 1 else "forecast"
    table = GateTable.of(keep, backup_of(history))
    steering = evaluator.steering(placement.runs) if history > 1 else None
    return Candidate(table, history, placement, f"{placement}, {kind}", steering)


def _with_rest_spent(evaluator: Evaluator, candidate: Candidate, kept: float) -> Candidate:
    """Return a candidate with what it leaves of the budget spent on blocks, itself if that is not enough."""
    keep = open_from_output(
        candidate.table.keep,
        kept,
        evaluator.cost,
        candidate.history,
        by_step=not candidate.placement.boundary,
    )
    if keep.equal(candidate.table.keep):
        return candidate
    found = _candidate(evaluator, candidate.placement, keep, candidate.history)
    if found.steering is None or candidate.steering is None:
        return found
    return replace(found, steering=replace(found.steering, told=candidate.steering.told))


def _neighbour(
    evaluator: Evaluator, candidate: Candidate, kept: float, rng: random.Random
) -> Candidate | None:
    """Move a run, or give up one block of one; what is left goes to blocks by the output if it did before."""
    cost, placement = evaluator.cost, candidate.placement
    has_more = not candidate.table.keep.equal(placement.keep(cost))
    for _ in range(20):
        runs = neighbour(placement.runs, cost.num_steps, rng)
        moved = Placement(runs, placement.boundary)
        keep = moved.keep(cost)
        trades = rng.random() < 0.2 and len(runs[-1]) > 1
        if trades:
            keep[rng.choice(runs[-1][1:]), rng.randrange(cost.num_blocks)] = False
        if fits(cost, keep, kept, candidate.history):
            found = _candidate(evaluator, moved, keep, candidate.history)
            return _with_rest_spent(evaluator, found, kept) if trades or has_more else found
    return None


def _rank(candidate: Candidate) -> float:
    return candidate.rank


def _known(candidate: Candidate, others: Sequence[Candidate]) -> bool:
    return any(candidate.table.keep.equal(other.table.keep) for other in others)
