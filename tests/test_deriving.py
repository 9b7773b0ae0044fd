"""Plans made of a plan: those of a run that begins late. Ratios and step counts are in `test_applying`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dipgo_fx import Plan
from dipgo_fx.applying import build
from dipgo_fx.deriving import at_ratio, from_start
from dipgo_fx.frontier import Point, whole_steps_table
from log_messages import log_messages
from loops import cost, inputs, loop, run
from searches import FRONTIER_STEPS, PLAIN, Key, plain_and_split, with_frontier


@plain_and_split
@pytest.mark.parametrize("start", [1, 3, FRONTIER_STEPS - 1])
@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_a_late_start_stays_within_the_ratio_or_says_so(key: Key, start: int, ratio: float) -> None:
    """Of the steps that are left; the first of them runs whole."""
    plan = at_ratio(with_frontier(key), ratio, cost(*key))
    with log_messages() as messages:
        late = from_start(plan, start)
    assert late.timesteps == plan.timesteps[start:]
    assert late.keep[0].all()
    assert late.cost is not None
    assert late.ratio == 1 - late.cost.kept(late.table)
    exceeds = late.ratio < plan.ratio - 1e-9
    assert exceeds == any("its first step is whole" in message for message in messages)
    assert not exceeds or late.cost.kept(late.table) >= 1 / (2 * (FRONTIER_STEPS - start))


@plain_and_split
def test_a_plan_is_itself_at_the_ratio_that_it_was_searched_for(key: Key) -> None:
    """It removes a little more than was asked, and may be better than any point of its frontier."""
    plan = at_ratio(with_frontier(key), 0.5, cost(*key))
    assert at_ratio(plan, plan.ratio - 1e-4, cost(*key)).table == plan.table  # nothing dearer fits
    dearest = at_ratio(with_frontier(key), 0.3, cost(*key))
    asked = replace(plan, origin={"asked": 0.3})
    assert at_ratio(plan, 0.3, cost(*key)).table == dearest.table != plan.table
    assert at_ratio(asked, 0.3, cost(*key)).table == plan.table
    assert at_ratio(asked, 0.3, cost(*key)).ratio == plan.ratio


def test_a_plan_that_removes_far_more_than_was_asked_says_so() -> None:
    """Where its frontier has nothing dearer it is the plan itself, which misses the ratio."""
    own = cost(*PLAIN)
    plan = at_ratio(with_frontier(PLAIN), 0.5, own)
    only = replace(plan, frontier=plan.frontier[:1])
    with log_messages() as messages:
        assert at_ratio(only, plan.ratio - 1e-4, own).table == plan.table
        assert not messages
        assert at_ratio(only, 0.1, own).table == plan.table
    assert [f"removes {plan.ratio:.4f} of the loop's MACs where 0.1000 was asked" in m for m in messages] == [
        True
    ]


@pytest.mark.parametrize("start", [5, 10, 15])
def test_what_keeps_exactly_what_was_asked_fits(start: int) -> None:
    """A share is 1 minus a ratio, which is off by a rounding error."""
    key = (*PLAIN[:4], 20, *PLAIN[5:])
    own = cost(*key)
    cheap, exact = (whole_steps_table(own, (range(0, 20, gap),)) for gap in (10, 5))
    points = (
        Point.of((tuple(range(0, 20, 10)),), cheap, own),
        Point.of((tuple(range(0, 20, 5)),), exact, own),
    )
    late = from_start(replace(Plan.from_keep(loop(*key), exact.keep, "linear"), frontier=points), start)
    assert late.cost is not None
    assert late.cost.kept(late.table) == pytest.approx(0.2)


def test_a_run_from_the_start_is_the_plan_itself() -> None:
    """Nothing is left out."""
    plan = with_frontier(PLAIN)
    assert from_start(plan, 0) is plan


def test_without_costs_what_is_left_of_the_plan_runs() -> None:
    """As of a file of format 3: nothing else can be weighed."""
    plan = replace(with_frontier(PLAIN), cost=None)
    assert from_start(plan, 2).table == plan.table.from_step(2)


def test_a_late_plan_runs_a_loop_of_as_many_steps() -> None:
    """It is a plan like any other."""
    late = from_start(at_ratio(with_frontier(PLAIN), 0.5, cost(*PLAIN)), 3)
    key = (*PLAIN[:4], FRONTIER_STEPS - 3, *PLAIN[5:])
    graph = loop(*key)
    pruned = build(graph, replace(late, facts=graph.facts))
    sample, conditioning = inputs("dit", 2)
    assert run(pruned, sample, conditioning).isfinite().all()
