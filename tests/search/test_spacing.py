"""Which steps run: as many as a budget allows, for each call of the model, and where they matter."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipgo_fx.budget import fits
from dipgo_fx.placement import Placement
from dipgo_fx.search.spacing import (
    boundaries,
    even_steps,
    farthest_first,
    most_steps,
    place_runs,
    place_steps,
)
from loops import cost
from searches import PLAIN, SPLIT, Key

sensitivities = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40)
exponents, last_gaps = st.floats(0, 1), st.floats(0, 0.9)


# -- how many


@settings(max_examples=40)
@given(
    key=st.sampled_from((PLAIN, SPLIT)),
    kept=st.floats(0, 1),
    unconditional=st.floats(0, 1),
    history=st.integers(1, 3),
    bounded=st.booleans(),
)
def test_no_more_steps_fit(key: Key, kept: float, unconditional: float, history: int, bounded: bool) -> None:
    """The counts fit the budget, and one more conditional step with its unconditional ones does not."""
    costs = cost(*key)
    boundary = (0, costs.num_blocks // costs.num_calls - 1) if bounded else ()
    counts = most_steps(costs, boundary, kept, history, unconditional)
    assert len(counts) == costs.num_calls

    def fitting(counts: tuple[int, ...]) -> bool:
        runs = tuple(tuple(range(count)) for count in counts)
        return fits(costs, Placement(runs, boundary).keep(costs), kept, history)

    if counts[-1]:
        assert fitting(counts)
        assert all(1 <= count <= counts[-1] for count in counts)
        assert counts[0] == counts[-1] or not fitting((counts[0] + 1, *counts[1:]))
    if counts[-1] < costs.num_steps:
        more = counts[-1] + 1
        assert not fitting((*[max(1, round(unconditional * more))] * (costs.num_calls - 1), more))


def test_boundaries_go_from_nothing_to_a_third_of_each_end() -> None:
    """Some blocks by the input, one more by the output."""
    assert list(boundaries(9)) == [(), (0, 7, 8), (0, 1, 6, 7, 8), (0, 1, 2, 5, 6, 7, 8)]
    assert list(boundaries(1)) == [(), (0,)]


# -- which


@given(sensitivity=sensitivities, exponent=exponents, last_gap=last_gaps, data=st.data())
def test_as_many_steps_are_placed_as_asked(
    sensitivity: list[float], exponent: float, last_gap: float, data: st.DataObject
) -> None:
    """Distinct steps of the loop, rising from step 0, and all of them if all are asked for."""
    count = data.draw(st.integers(1, len(sensitivity)))
    steps = place_steps(sensitivity, count, exponent, last_gap)
    assert len(steps) == count
    assert steps[0] == 0
    assert list(steps) == sorted(set(steps))
    assert steps[-1] < len(sensitivity)


def test_steps_go_where_they_matter() -> None:
    """Exponent 0 is even; a higher one puts more steps where the sensitivity is high."""
    sensitivity = [16.0] * 10 + [1.0] * 10
    assert place_steps(sensitivity, 5, 0.0) == (0, 4, 8, 12, 16) == next(even_steps(20, 5))
    early = [sum(step < 10 for step in place_steps(sensitivity, 8, e)) for e in (0.0, 0.25, 0.5, 1.0)]
    assert early == sorted(early)
    assert early[0] == 4
    assert early[-1] == 8
    assert place_steps([1.0] * 20, 4, 0.0) == (0, 5, 10, 15)
    shorter = place_steps([1.0] * 20, 4, 0.0, last_gap=0.5)
    assert shorter == (0, 6, 11, 17), "the last gap is half as long as the others"


placings = given(
    sensitivity=st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=30),
    exponent=exponents,
    last_gap=last_gaps,
    data=st.data(),
)


@placings
def test_runs_begin_together_and_unconditional_ones_are_conditional_ones(
    sensitivity: list[float], exponent: float, last_gap: float, data: st.DataObject
) -> None:
    """All runs from a first step on, 0 or later; a step never makes the unconditional call alone."""
    steps = len(sensitivity)
    first = data.draw(st.integers(0, steps - 1))
    conditional = data.draw(st.integers(1, steps - first))
    unconditional = data.draw(st.integers(1, conditional))
    both, counts = [sensitivity[::-1], sensitivity], (unconditional, conditional)
    runs = place_runs(both, counts, exponent, last_gap, first)
    assert [len(own) for own in runs] == [unconditional, conditional]
    assert all(own == tuple(sorted({*own})) and own[-1] < steps for own in runs)
    assert runs[0][0] == runs[1][0] == first
    assert {*runs[0]} <= {*runs[1]}
    if first == 0:
        assert runs == place_runs(both, counts, exponent, last_gap)


@placings
def test_a_late_call_has_no_more_runs_than_steps(
    sensitivity: list[float], exponent: float, last_gap: float, data: st.DataObject
) -> None:
    """Where fewer steps are left than are asked for all of them run."""
    steps = len(sensitivity)
    first = data.draw(st.integers(0, steps - 1))
    count = data.draw(st.integers(steps - first, steps))
    assert place_runs([sensitivity], (count,), exponent, last_gap, first) == (tuple(range(first, steps)),)


@given(steps=st.integers(1, 30), data=st.data())
def test_even_steps_differ_and_start_at_0(steps: int, data: st.DataObject) -> None:
    """Each set has as many steps as asked, and none comes twice."""
    count = data.draw(st.integers(1, steps))
    found = list(even_steps(steps, count))
    assert len(found) == len({*found}) >= 1
    for chosen in found:
        assert len(chosen) == count
        assert chosen[0] == 0
        assert chosen == tuple(sorted({*chosen} & {*range(steps)}))


@given(steps=st.integers(1, 30), data=st.data())
def test_the_farthest_comes_first(steps: int, data: st.DataObject) -> None:
    """All steps come, the given ones first, each time the one that is farthest from all before."""
    first = {0, *data.draw(st.sets(st.integers(0, steps - 1)))}
    order = farthest_first(steps, tuple(sorted(first)))
    assert sorted(order) == list(range(steps))
    assert order[0] == 0
    assert {*order[: len(first)]} == first

    def distance(step: int, index: int) -> int:
        return min(abs(step - mark) for mark in (*order[:index], steps))

    for index in range(1, steps):
        rest = order[index : len(first)] if index < len(first) else order[index:]
        assert distance(order[index], index) == max(distance(step, index) for step in rest)


@pytest.mark.parametrize(("steps", "first", "order"), [(8, (0,), [0, 4, 2, 6]), (8, (0, 1), [0, 1, 4, 6])])
def test_every_prefix_lies_evenly(steps: int, first: tuple[int, ...], order: list[int]) -> None:
    """The end of the loop counts as taken."""
    assert farthest_first(steps, first)[:4] == order
