"""Which points a frontier has, and with how much care each is fitted."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx.cost import LoopCost
from dipgo_fx.search.effort import (
    EFFORTS,
    FEW_STEPS,
    MOST_WITH_HALVES,
    effort_within,
    share_of_next,
    size_within,
    sizes,
)
from loops import cost
from searches import PLAIN, SPLIT


def of_steps(key: tuple[object, ...], steps: int) -> LoopCost:
    """Return the costs of a loop of `PLAIN` or `SPLIT` with another number of steps."""
    return cost(*key[:4], steps, key[5])


def test_points_rise_from_one_step_with_halves_where_steps_are_few() -> None:
    """In short loops there is one for every count; half a step is a call of one of two conditions."""
    assert sizes(of_steps(PLAIN, 1)) == [1]
    assert sizes(of_steps(PLAIN, 4)) == [1, 2, 3]
    assert sizes(of_steps(SPLIT, 4)) == [1, 1.5, 2, 2.5, 3, 3.5]
    assert sizes(of_steps(SPLIT, MOST_WITH_HALVES + 2)) == [1, 2, 3, 4, 5, 6, 7]
    assert sizes(of_steps(PLAIN, FEW_STEPS)) == [*range(1, FEW_STEPS)]
    assert sizes(of_steps(PLAIN, 20)) == [2, 4, 6, 8, 10, 12, 16]


@given(kept=st.floats(0, 1), split=st.booleans())
def test_a_share_is_as_many_calls_as_it_pays_for(kept: float, split: bool) -> None:
    """Whole calls, at least a step of them and never all; one more would cost more than the share."""
    costs = of_steps(SPLIT if split else PLAIN, 6)
    size, call = size_within(costs, kept), 1 / costs.num_calls
    assert size / call == int(size / call)
    assert 1 <= size <= 6 - call
    assert size <= max(1.0, kept * 6 + 1e-6)
    assert size + call > min(kept * 6, 6 - call)


@given(left=st.floats(-5, 50), kept=st.floats(0, 1))
def test_what_is_left_is_divided_among_the_points(left: float, kept: float) -> None:
    """Each can run once, and all spend what there is; by size what is asked has most, high ones least."""
    costs = of_steps(PLAIN, 20)
    asked = size_within(costs, kept)
    points = sorted({*sizes(costs), asked})
    shares, rest = [], left
    for place in range(len(points)):
        shares.append(share_of_next(rest, points[place:], asked, costs))
        rest -= shares[-1]
    runs = [size / 20 for size in points]
    assert all(share >= run for share, run in zip(shares, runs, strict=True))
    assert sum(shares) == pytest.approx(max(left, sum(runs)))
    beyond = {size: share / run - 1 for size, share, run in zip(points, shares, runs, strict=True)}
    for size, more in beyond.items():
        assert more <= beyond[asked] + 1e-9
        if size != asked and size > costs.num_steps / 2:
            assert more <= min(beyond.values()) + 1e-9


@given(runs=st.floats(0, 60), kinds=st.integers(1, 6), shifts=st.sampled_from((0, 4)))
def test_an_effort_costs_no_more_than_it_may(runs: float, kinds: int, shifts: int) -> None:
    """It is the greatest that does; the least is for points that may run only once."""
    effort = effort_within(runs, kinds, shifts)
    if effort is not EFFORTS[0]:
        assert effort.price(kinds, shifts) <= runs
    for greater in EFFORTS[EFFORTS.index(effort) + 1 :]:
        assert greater.price(kinds, shifts) > runs
    prices = [each.price(kinds, shifts) for each in EFFORTS]
    assert all(less < more for less, more in pairwise(prices))
