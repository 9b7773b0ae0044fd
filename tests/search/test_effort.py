"""Which points a frontier has, and with how much care each is fitted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx.cost import LoopCost
from dipgo_fx.search.effort import (
    ASKED,
    FEW_HALVES,
    HALVES,
    HIGH,
    LOW,
    MIDDLE,
    MOST_WITH_HALVES,
    effort_at,
    size_within,
    sizes,
)
from loops import cost
from searches import PLAIN, SPLIT


def of_steps(key: tuple[object, ...], steps: int) -> LoopCost:
    """Return the costs of a loop of `PLAIN` or `SPLIT` with another number of steps."""
    return cost(*key[:4], steps, key[5])


def test_points_rise_from_one_step_with_halves_where_steps_are_few() -> None:
    """Half a step is a call of one of two conditions; in long loops it is next to nothing."""
    assert sizes(of_steps(PLAIN, 4)) == [1, 2, 3]
    assert sizes(of_steps(SPLIT, 4)) == [1, 1.5, 2, 2.5, 3, 3.5]
    assert sizes(of_steps(SPLIT, MOST_WITH_HALVES + 2)) == [1, 2, 3, 4, 6]
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


def test_care_falls_with_size_and_goes_to_what_was_asked() -> None:
    """Low points get the most, high ones little; the one asked for gets more than its like."""
    costs = of_steps(SPLIT, 20)
    assert effort_at(2, costs, False) is effort_at(6, costs, True) is LOW
    assert effort_at(8, costs, False) is MIDDLE
    assert effort_at(16, costs, False) is HIGH
    assert effort_at(8, costs, True) is effort_at(16, costs, True) is ASKED
    assert effort_at(8.5, costs, True) is HALVES
    assert effort_at(8.5, costs, False) is FEW_HALVES
    assert ASKED.left > MIDDLE.left > HIGH.left
