"""Choosing which steps a plan of whole steps runs: what is tried, and the contest that few samples begin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

from ..cost import LoopCost
from ..passes import HISTORY
from ..placement import Placement, Runs, whole_steps
from .batch import Batch
from .candidate import Candidate
from .effort import ROUNDS, UNCONDITIONAL, Effort, Spacing, is_low
from .evaluator import Evaluator
from .foresight import Foresight
from .least_squares import fit_stepwise
from .off_grid import SHIFTS, shifted
from .sensitivity import whole_steps_candidate
from .spacing import Sensitivity, most_steps, place_runs, runs_among

FIRST_GAPS = (0.25, 0.5)
"""After which share of the mean gap the first run comes, if it is not that at step 0."""
MOST_OFF_GRID = 3
"""Up to how many runs are tried between two steps."""


class Kind(NamedTuple):
    """A kind of placement: how many steps make each call, and which is the first."""

    counts: tuple[int, ...]
    first: int = 0


def kinds_of(evaluator: Evaluator, size: float) -> list[Kind]:
    """Return the kinds of placements of a point that costs as much as `size` whole steps.

    Low points are also tried from later steps on; they and those of half a step also with fewer unconditional
    runs.
    """
    cost = evaluator.cost
    low = is_low(size, cost)
    firsts = [0, *(_later_firsts(evaluator, size) if low else ())]
    shares = UNCONDITIONAL if low or size % 1 else UNCONDITIONAL[:1]
    counts = dict.fromkeys(counts_at(cost, size, share) for share in shares)
    return [Kind(*each) for each in product(counts, firsts)]


def runs_tried(
    foresight: Foresight, sensitivity: Sensitivity, kinds: Iterable[Kind], effort: Effort
) -> Iterator[Runs]:
    """Yield where a point may run the calls of the model."""
    for counts, first in kinds:
        for steps in foresight.placements(counts[-1], effort.foreseen, first):
            yield runs_among(sensitivity, counts, steps, *Spacing())
        for spacing in effort.spacings:
            yield place_runs(sensitivity, counts, *spacing, first)


def shifts_of(evaluator: Evaluator, count: float) -> tuple[float, ...]:
    """Return the shifts, in fractions of a step, to try for a plan of `count` runs, none for many."""
    can = evaluator.can_steer and evaluator.carries_sample
    return SHIFTS if can and count <= MOST_OFF_GRID else ()


def counts_at(cost: LoopCost, count: float, unconditional: float = 1.0) -> tuple[int, ...]:
    """Return how many steps make each call if all cost no more than `count` whole steps together.

    The last call is made at least at that many.
    """
    whole = int(count + 1e-9)
    kept = cost.kept_at_most(whole_steps(tuple(range(whole)), cost).keep(cost), 1)
    kept += max(0.0, count - whole) / cost.num_steps
    return most_steps(cost, (), kept, HISTORY, unconditional)


def _later_firsts(evaluator: Evaluator, count: float) -> list[int]:
    """Return later steps at which a plan of `count` steps may begin.

    None where the conditions of guidance are apart: what they differ in at the start matters most.
    """
    cost = evaluator.cost
    if not (evaluator.can_steer and evaluator.carries_sample and cost.num_calls == 1):
        return []
    return sorted({round(gap * cost.num_steps / count) for gap in FIRST_GAPS} - {0})


def best_of(evaluator: Evaluator, tried: Iterable[Runs], effort: Effort) -> Candidate | None:
    """Return the best plan of whole steps, fitted; few samples make the short lists, all decide.

    `None` if skipping a step is not free.
    """
    candidates = [whole_steps_candidate(evaluator, runs) for runs in dict.fromkeys(tried)]
    if not all(skips_whole_steps(candidate, evaluator.cost) for candidate in candidates):
        return None
    few, some = (evaluator.batch.first(round(share * len(evaluator.batch))) for share in ROUNDS)
    first, second = effort.left
    if len(candidates) > first or effort.goes_between:
        judged = _judged(evaluator, candidates, few)[:first]
        if effort.goes_between:
            moved = _judged(evaluator, _off_grid(evaluator, [each for _, each in judged]), few)
            judged = sorted([*judged, *moved], key=_rank)[:first]
        candidates = [each for _, each in judged]
    if len(candidates) > second:
        candidates = [each for _, each in _judged(evaluator, candidates, some)[:second]]
    return _judged(evaluator, candidates, evaluator.batch)[0][0]


def _off_grid(evaluator: Evaluator, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """Yield candidates of few runs with those between two steps."""
    for candidate in candidates:
        for shift in shifts_of(evaluator, len(candidate.placement.runs[-1])):
            moved = shifted(candidate, evaluator.loop.facts.timesteps, shift)
            if moved is not None:
                yield moved


def _judged(
    evaluator: Evaluator, candidates: Iterable[Candidate], batch: Batch
) -> list[tuple[Candidate, Candidate]]:
    """Return candidates, each fitted on a batch and as it was before, best first."""
    return sorted(((fit_stepwise(evaluator, each, batch), each) for each in candidates), key=_rank)


def _rank(judged: tuple[Candidate, Candidate]) -> float:
    return judged[0].rank


def skips_whole_steps(candidate: Candidate, cost: LoopCost) -> bool:
    """Tell whether a candidate makes the calls of its placement and nothing else runs at other steps."""
    table = candidate.table
    if not table.keep.equal(Placement(candidate.placement.runs).keep(cost)):
        return False
    backed_up = cost.reads.liveness(table).backed_up
    backed_up[:, cost.reads.heads] = False
    return not bool(backed_up.any())
