"""Which steps a plan of whole steps runs: what is tried costs what it may, and the best of it is found."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx.passes import GateTable
from dipgo_fx.placement import Placement, whole_steps
from dipgo_fx.search import choose_runs as module
from dipgo_fx.search.batch import Batch
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.choose_runs import (
    FIRST_GAPS,
    Kind,
    best_of,
    counts_at,
    kinds_of,
    runs_tried,
    shifts_of,
    skips_whole_steps,
)
from dipgo_fx.search.effort import EFFORTS, Effort, Spacing
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.fit_frontier import fit_frontier
from dipgo_fx.search.foresight import Foresight
from dipgo_fx.search.least_squares import fit_stepwise
from dipgo_fx.search.sensitivity import whole_steps_candidate
from dipgo_fx.search.spacing import place_runs
from loops import cost
from searches import FRONTIER_STEPS, PLAIN, SPLIT, Key, evaluator_of

EULER: Key = ("dit", "euler", "block", None, 6, False)
"""A loop that does not clip samples: forecasts can bring them anywhere."""


@given(
    key=st.sampled_from((PLAIN, SPLIT)),
    count=st.integers(1, FRONTIER_STEPS),
    part=st.just(0.0) | st.floats(0, 0.99),
    unconditional=st.floats(0.05, 1),
    spacing=st.builds(Spacing, st.floats(0, 1), st.floats(0, 0.9)),
    first=st.integers(0, 3),
    sensitivity=st.lists(st.floats(1e-6, 1e3), min_size=FRONTIER_STEPS, max_size=FRONTIER_STEPS),
)
def test_a_point_costs_what_whole_steps_cost(
    key: Key,
    count: int,
    part: float,
    unconditional: float,
    spacing: Spacing,
    first: int,
    sensitivity: list[float],
) -> None:
    """However its runs are placed, a point is no dearer than its whole steps and what is left beside them.

    It has at least as many, but one that begins so late that fewer steps are left.
    """
    costs = cost(*key)
    counts = counts_at(costs, count + part, unconditional)
    runs = place_runs([sensitivity] * costs.num_calls, counts, *spacing, first)
    whole = costs.kept(GateTable.of(whole_steps(tuple(range(count)), costs).keep(costs)))
    most = whole + part / FRONTIER_STEPS * (1 + 1e-9)
    assert costs.kept(GateTable.of(Placement(runs).keep(costs))) <= most
    assert len(runs[-1]) >= min(count, FRONTIER_STEPS - first)
    assert all(steps[0] == first for steps in runs)


@pytest.mark.parametrize("can_steer", [True, False])
def test_late_beginnings_are_tried_where_calls_can_be_steered(
    can_steer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the best spacing, at shares of the mean gap; elsewhere every plan begins at step 0."""
    judge = evaluator_of(PLAIN, 6, 12, seed=2)
    monkeypatch.setattr(judge, "can_steer", can_steer)
    tried: list[tuple[int, ...]] = []
    real = module.fit_stepwise

    def fit(judge: Evaluator, found: Candidate, batch: Batch) -> Candidate:
        tried.append(found.placement.runs[0])
        return real(judge, found, batch)

    monkeypatch.setattr(module, "fit_stepwise", fit)
    fit_frontier(judge, [[1.0] * FRONTIER_STEPS], 0.3)
    late = {round(gap * FRONTIER_STEPS) for gap in FIRST_GAPS} if can_steer else set()
    assert {runs[0] for runs in tried if len(runs) == 1} == {0, *late}
    assert can_steer or {runs[0] for runs in tried} == {0}


@pytest.mark.parametrize("effort", EFFORTS, ids=range(len(EFFORTS)))
@pytest.mark.parametrize("key", [PLAIN, SPLIT], ids=["plain", "split"])
@pytest.mark.parametrize("size", [2, 3, 3.5])
def test_what_is_tried_costs_no_more_and_is_foreseen_first(key: Key, effort: Effort, size: float) -> None:
    """Whatever the effort, runs cost what whole steps cost, and the most promising ones come first."""
    judge = evaluator_of(key, 4)
    sensitivity = [[1.0] * FRONTIER_STEPS] * judge.cost.num_calls
    foresight = Foresight(judge.batch, sensitivity)
    kinds = kinds_of(judge, size)
    tried = list(runs_tried(foresight, sensitivity, kinds, effort))
    assert tried[0][-1] == foresight.placements(len(tried[0][-1]), 1)[0]
    assert len(tried) <= len(kinds) * (effort.foreseen + len(effort.spacings))
    for runs in tried:
        assert sum(map(len, runs)) <= size * judge.cost.num_calls
        assert {*runs[0]} <= {*runs[-1]}


def test_kinds_of_placements() -> None:
    """Low points may begin late if there is one call, or make fewer unconditional ones if there are two."""
    plain, split = evaluator_of(PLAIN, 4), evaluator_of(SPLIT, 4)
    late = sorted({0, *(round(gap * FRONTIER_STEPS / 2) for gap in FIRST_GAPS)})
    assert kinds_of(plain, 2) == [Kind((2,), first) for first in late]
    assert kinds_of(plain, 5) == [Kind((5,))]
    assert kinds_of(split, 2) == [Kind((2, 2)), Kind((1, 3))]
    assert kinds_of(split, 5) == [Kind((5, 5))]
    assert len({*kinds_of(split, 5.5)}) == 2, "half a step is a conditional call more"


@pytest.mark.parametrize("effort", EFFORTS, ids=range(len(EFFORTS)))
@pytest.mark.parametrize("key", [EULER, SPLIT], ids=["plain", "split"])
@pytest.mark.parametrize("size", [2, 4])
def test_choosing_costs_no_more_than_its_price(key: Key, effort: Effort, size: float) -> None:
    """By which a search keeps to its budget; less where kinds try the same placements."""
    judge = evaluator_of(key, 12, seed=2)
    sensitivity = [[1.0] * judge.cost.num_steps] * judge.cost.num_calls
    foresight, kinds = Foresight(judge.batch, sensitivity), kinds_of(judge, size)
    assert judge.can_steer, "asked first, as that takes a run of one sample"
    before = judge.budget.spent
    assert best_of(judge, runs_tried(foresight, sensitivity, kinds, effort), effort) is not None
    price = effort.price(len(kinds), len(shifts_of(judge, size))) * size / judge.cost.num_steps
    assert judge.budget.spent - before <= price + 1e-9


@pytest.mark.parametrize("left", [(1, 1), (4, 2), (99, 99)])
def test_the_best_of_what_all_samples_judge_is_returned(left: tuple[int, int]) -> None:
    """With no short list it is the best of all; the shorter the lists, the fewer runs are spent."""
    judge = evaluator_of(EULER, 12, seed=2)
    tried = [((0, *rest),) for rest in combinations(range(1, 6), 2)]
    ranks = {runs: fit_stepwise(judge, whole_steps_candidate(judge, runs)).rank for runs in tried}
    before = judge.budget.spent
    best = best_of(judge, tried, Effort(1, left=left))
    assert best is not None
    assert best.rank == pytest.approx(ranks[best.placement.runs])
    runs = 3 / 6 * (len(tried) / 6 * (left[0] < 10) + min(*left, len(tried)) + left[0] / 3 * (left == (4, 2)))
    assert judge.budget.spent - before == pytest.approx(runs)
    if left[0] == 99:
        assert best.rank == pytest.approx(min(ranks.values()))


@pytest.mark.parametrize(("runs", "can_steer"), [(2, True), (2, False), (4, True)])
def test_few_runs_are_tried_between_steps(
    runs: int, can_steer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where calls can be steered and runs are few, some are told timesteps between the loop's."""
    judge = evaluator_of(EULER, 6, seed=2)
    monkeypatch.setattr(judge, "can_steer", can_steer)
    told: list[bool] = []
    real = module.fit_stepwise

    def fit(judge: Evaluator, found: Candidate, batch: Batch) -> Candidate:
        told.append(found.steering is not None and found.steering.tells)
        return real(judge, found, batch)

    monkeypatch.setattr(module, "fit_stepwise", fit)
    tried = [((0, *rest),) for rest in combinations(range(1, 5), runs - 1)]
    best = best_of(judge, tried, replace(EFFORTS[-1], left=(3, 2)))
    assert best is not None
    assert any(told) == (can_steer and runs <= module.MOST_OFF_GRID)


def test_only_whole_steps_are_whole_steps() -> None:
    """A candidate that runs a block more, or one less, at some step is none."""
    costs, whole = cost(*PLAIN), whole_steps_candidate(evaluator_of(PLAIN, 2), ((0, 3, 5),))
    assert skips_whole_steps(whole, costs)
    for step, kept in ((4, True), (3, False)):
        keep = whole.table.keep.clone()
        keep[step, 0] = kept
        assert not skips_whole_steps(replace(whole, table=GateTable.of(keep, "linear")), costs)
