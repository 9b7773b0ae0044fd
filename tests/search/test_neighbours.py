"""Neighbours of a plan."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx.search.neighbours import neighbour


@given(total=st.integers(1, 30), split=st.booleans(), seed=st.integers(0, 2**32), data=st.data())
def test_a_neighbour_costs_as_much(total: int, split: bool, seed: int, data: st.DataObject) -> None:
    """As many calls are made as before, step 0 among them; an unconditional one only where both are."""
    conditional = {0, *data.draw(st.sets(st.integers(0, total - 1)))}
    unconditional = {0, *data.draw(st.sets(st.sampled_from(sorted(conditional))))}
    runs = (tuple(sorted(unconditional)), tuple(sorted(conditional)))[0 if split else 1 :]
    rng = random.Random(seed)
    for _ in range(20):
        before, runs = runs, neighbour(runs, total, rng)
        assert sum(map(len, runs)) == sum(map(len, before))
        for steps in runs:
            assert steps == tuple(sorted({*steps}))
            assert steps[0] == 0
            assert steps[-1] < total
        assert {*runs[0]} <= {*runs[-1]}


@given(total=st.integers(2, 30), split=st.booleans(), seed=st.integers(0, 2**32), data=st.data())
def test_a_neighbour_of_a_late_plan_is_one_too(
    total: int, split: bool, seed: int, data: st.DataObject
) -> None:
    """As many calls are made as before, and all of a step begin at the same one, as a steering asks."""
    conditional = data.draw(st.sets(st.integers(1, total - 1), min_size=1))
    unconditional = {min(conditional), *data.draw(st.sets(st.sampled_from(sorted(conditional))))}
    runs = (tuple(sorted(unconditional)), tuple(sorted(conditional)))[0 if split else 1 :]
    rng = random.Random(seed)
    for _ in range(20):
        before, runs = runs, neighbour(runs, total, rng)
        assert sum(map(len, runs)) == sum(map(len, before))
        for steps in runs:
            assert steps == tuple(sorted({*steps}))
            assert 0 <= steps[0] == runs[0][0]
            assert steps[-1] < total
        assert {*runs[0]} <= {*runs[-1]}


def test_neighbours_reach_everything() -> None:
    """From any plan of four calls at four steps to any other."""
    rng, runs = random.Random(0), ((0, 1), (0, 1))
    seen = {runs}
    for _ in range(2000):
        runs = neighbour(runs, 4, rng)
        seen.add(runs)
    # Both at 0 and one more step, or unconditional at 0 alone and two more conditional ones.
    assert len(seen) == 3 + 3
