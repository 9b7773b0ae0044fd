"""Neighbours of a plan."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx.search.neighbours import neighbour


@given(
    total=st.integers(1, 30),
    late=st.booleans(),
    split=st.booleans(),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_a_neighbour_costs_as_much(
    total: int, late: bool, split: bool, seed: int, data: st.DataObject
) -> None:
    """As many calls are made as before, an unconditional one only where both are, and both begin together.

    Step 0 stays the first; where a later one is, it may move, but no other call begins before it.
    """
    steps = st.integers(int(late and total > 1), total - 1)
    conditional = {data.draw(steps) if late else 0, *data.draw(st.sets(steps))}
    unconditional = {min(conditional), *data.draw(st.sets(st.sampled_from(sorted(conditional))))}
    runs = (tuple(sorted(unconditional)), tuple(sorted(conditional)))[0 if split else 1 :]
    is_late = runs[-1][0] > 0
    rng = random.Random(seed)
    for _ in range(20):
        before, runs = runs, neighbour(runs, total, rng)
        assert sum(map(len, runs)) == sum(map(len, before))
        for of_call in runs:
            assert of_call == tuple(sorted({*of_call}))
            assert of_call[0] == runs[0][0]
            assert of_call[-1] < total
        assert (runs[0][0] > 0) == is_late
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
