"""Exact budgets: what fits, scores to keep tables, and what is left over. The laws are in test_laws.py."""

from __future__ import annotations

import logging
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoo
from dipgo_fx.budget import TOLERANCE, fits, kept_of, open_in_order, reopen_by_score, threshold, warn_of_miss
from dipgo_fx.cost import LoopCost
from dipgo_fx.passes import GateTable
from dipgo_fx.placement import whole_steps
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.recipe import scores_of
from loops import cost
from searches import PLAIN, SPLIT, Key, plain_and_split, searched

keys = st.sampled_from((PLAIN, SPLIT))


@plain_and_split
def test_kept_is_what_a_ratio_leaves(key: Key) -> None:
    """From nothing removed to all but the first step."""
    costs = cost(*key)
    assert kept_of(0, costs) == 1
    assert kept_of(0.25, costs) == 0.75
    assert kept_of(1 - costs.smallest_kept, costs) == pytest.approx(costs.smallest_kept)


def test_a_ratio_out_of_reach_is_refused() -> None:
    """The error says how much can be removed, and what to do."""
    with pytest.raises(ValueError, match=r"at most 0\.8750 .* ask for less or use more steps than 8"):
        kept_of(0.9, cost(*PLAIN))


@given(key=keys, data=st.data(), history=st.integers(1, 3))
def test_a_table_fits_its_own_cost_and_no_less(key: Key, data: st.DataObject, history: int) -> None:
    """Not a rounding error decides, and not a MAC more is allowed."""
    costs = cost(*key)
    keep = data.draw(_tables(key))
    share = costs.kept_at_most(keep, history)
    assert fits(costs, keep, share, history)
    assert not fits(costs, keep, share - 1 / costs.full.total, history)


@st.composite
def _tables(draw: st.DrawFn, key: Key) -> torch.Tensor:
    """Draw a keep table."""
    costs, seed = cost(*key), draw(st.integers(0, 2**32 - 1))
    share = draw(st.floats(0, 1))
    keep = torch.rand(costs.num_steps, costs.num_blocks, generator=zoo.generator(seed)) < share
    keep[0] = True
    return keep


# -- scores of a plan


@given(key=keys, data=st.data(), history=st.integers(1, 3))
def test_scores_open_the_gates_of_their_plan_first(key: Key, data: st.DataObject, history: int) -> None:
    """Whatever the plan: every gate that it opens has a higher score than any that it closes."""
    keep = data.draw(_tables(key))
    scores = scores_of(Candidate(GateTable.of(keep), history))
    assert scores.dtype == torch.float64
    assert len({*scores.flatten().tolist()}) == scores.numel(), "nothing is decided by chance"
    if not keep.all():
        assert scores[keep].min() > scores[~keep].max()


@given(key=keys, data=st.data(), history=st.integers(1, 3))
def test_scores_give_the_plan_back(key: Key, data: st.DataObject, history: int) -> None:
    """Thresholded at what the plan costs, its scores open all its gates, and beyond them what is free."""
    keep = data.draw(_tables(key))
    costs = cost(*key)
    share = costs.kept_at_most(keep, history)
    again = threshold(scores_of(Candidate(GateTable.of(keep), history)), share, costs, history)
    assert bool((again | ~keep).all())
    assert costs.kept_at_most(again, history) <= share + 1e-12


@pytest.mark.parametrize("name", ["dit", pytest.param("unet", marks=pytest.mark.long)])
def test_scores_of_a_search_give_its_plan_back(name: str) -> None:
    """The scores that a plan holds are a table of the same states at its own ratio."""
    plan = searched(name).plan
    assert plan.scores is not None
    assert plan.cost is not None
    kept = plan.cost.kept_at_most(plan.keep, plan.history)
    again = threshold(plan.scores, kept, plan.cost, plan.history)
    liveness = [plan.cost.reads.liveness_at_most(keep, plan.history) for keep in (plan.keep, again)]
    assert torch.equal(*(each.running for each in liveness))
    assert torch.equal(again & plan.keep, plan.keep)


@plain_and_split
def test_scores_at_lower_budgets_spread_the_plans_steps(key: Key) -> None:
    """With fewer MACs some of the plan's whole steps are left, as even as can be, the first with them."""
    costs, steps = cost(*key), (0, 1, 2, 4, 6)
    found = Candidate(GateTable.of(whole_steps(steps, costs).keep(costs)), 3)
    for count, left in ((1, [0]), (2, [0, 4]), (3, [0, 2, 4])):
        share = costs.kept_at_most(whole_steps(tuple(range(count)), costs).keep(costs), 3)
        keep = threshold(scores_of(found), share, costs, 3)
        assert keep.all(1).nonzero().flatten().tolist() == left


# -- what is left over


@cache
def _long(key: Key, steps: int = 40) -> LoopCost:
    """Return the costs of a loop with so many steps that a block of one is less than the tolerance."""
    costs = cost(*key).with_steps(steps)
    assert max(unit.total for unit in costs.units) < TOLERANCE * costs.full.total
    return costs


@st.composite
def _scores(draw: st.DrawFn, key: Key) -> torch.Tensor:
    """Draw scores of a long loop; those of one block may be as low as a training leaves them."""
    costs, levels = _long(key), draw(st.sampled_from((1, 3, 10**6)))  # 1: all are equal
    shape, random = (costs.num_steps, costs.num_blocks), zoo.generator(draw(st.integers(0, 2**32 - 1)))
    scores = torch.randint(levels, shape, generator=random).double()
    if draw(st.booleans()):
        scores[:, draw(st.integers(0, shape[1] - 1))] -= levels
    return scores


@given(key=keys, data=st.data(), history=st.integers(1, 3), kept=st.floats(0.05, 1))
def test_reopening_comes_close_and_stays_within_budget(
    key: Key, data: st.DataObject, history: int, kept: float
) -> None:
    """No gate closes that was open and read; it is the same table again, for equal scores too."""
    costs, scores = _long(key), data.draw(_scores(key))
    keep = threshold(scores, kept, costs, history)
    reopened = reopen_by_score(keep, scores, kept, costs, history)
    assert fits(costs, reopened, kept, history)
    assert kept - costs.kept_at_most(reopened, history) < TOLERANCE
    assert bool(reopened[costs.reads.liveness_at_most(keep, history).running].all())
    assert torch.equal(reopened, reopen_by_score(keep, scores, kept, costs, history))


def test_steps_whose_output_is_skipped_come_back_in_part() -> None:
    """What thresholding misses: the head's gate alone is closed, and brings back more than is left."""
    costs, kept = cost(*PLAIN), 0.33
    (head,) = costs.reads.heads
    scores = torch.ones(costs.num_steps, costs.num_blocks, dtype=torch.float64)
    scores[:, head] = torch.linspace(0, 0.5, costs.num_steps)
    keep = threshold(scores, kept, costs, 1)
    assert keep.sum() == keep.numel() - 6, "two whole steps, and all but the head of the others"
    assert kept - costs.kept_at_most(keep, 1) > TOLERANCE
    reopened = reopen_by_score(keep, scores, kept, costs, 1)
    rows = costs.reads.liveness_at_most(reopened, 1).running.sum(1).tolist()
    assert rows[0] == rows[-1] == costs.num_blocks
    assert 0 < max(rows[1:-1]) < costs.num_blocks
    assert kept - costs.kept_at_most(reopened, 1) < kept - costs.kept_at_most(keep, 1)


def test_reopening_opens_the_highest_score_that_fits() -> None:
    """And leaves its input alone."""
    costs = cost(*PLAIN)
    (head,) = costs.reads.heads
    keep = whole_steps((0,), costs).keep(costs)
    scores, given_keep = torch.zeros(keep.shape, dtype=torch.float64), keep.clone()
    scores[3, head] = 1
    one_step = costs.smallest_kept + 1 / costs.num_steps
    assert reopen_by_score(keep, scores, one_step, costs, 1)[3, head]
    assert torch.equal(keep, given_keep)
    assert torch.equal(reopen_by_score(keep, scores, costs.smallest_kept, costs, 1), keep)
    scores[3] = 1
    assert torch.equal(
        reopen_by_score(keep, scores, one_step, costs, 1), whole_steps((0, 3), costs).keep(costs)
    )


def test_opening_leaves_its_input_alone() -> None:
    """Gates open in a new table, in the order of the candidates, as far as the budget goes."""
    costs = cost(*PLAIN)
    keep = whole_steps((0,), costs).keep(costs)
    given, blocks = keep.clone(), costs.num_blocks
    step_5 = [4 * blocks + n for n in reversed(range(blocks))]
    reopened = open_in_order(keep, [*step_5, *range(blocks)], costs.smallest_kept + 1 / 8, costs, 1)
    assert torch.equal(keep, given)
    assert torch.equal(reopened, whole_steps((0, 5), costs).keep(costs))
    assert torch.equal(open_in_order(keep, step_5, costs.smallest_kept, costs, 1), keep)


@pytest.mark.parametrize(("kept", "said"), [(0.5, False), (0.5 - TOLERANCE / 2, False), (0.45, True)])
def test_a_miss_is_explained(kept: float, said: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A plan that is farther from what was asked than the paper's tolerance says why."""
    with caplog.at_level(logging.WARNING, logger="dipgo_fx"):
        warn_of_miss(kept, 0.5)
    assert ("removes 0.5500 of the loop's MACs where 0.5000 was asked" in caplog.text) == said
