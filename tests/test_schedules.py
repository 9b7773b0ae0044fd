"""Which steps run: as many as a budget allows, in halves where guidance is split."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipgo_fx.schedules import keep_table, most_steps, spread_runs, whole
from dipgo_fx.threshold import fits
from loops import cost

PLAIN = ("dit", "ddim", "block", None, 8, False)
SPLIT = ("dit", "ddim", "block", 2.0, 8, True)
keys = st.sampled_from((PLAIN, SPLIT))


@settings(max_examples=40)
@given(
    key=keys, budget=st.floats(0, 1), share=st.floats(0, 1), order=st.integers(1, 3), shelled=st.booleans()
)
def test_no_more_steps_fit(key: Any, budget: float, share: float, order: int, shelled: bool) -> None:
    """The counts fit the budget, and one more conditional step with its unconditional ones does not."""
    costs = cost(*key)
    shell = (0, costs.reads.num_blocks // costs.halves - 1) if shelled else ()
    counts = most_steps(costs, shell, budget, order, share)
    assert len(counts) == costs.halves

    def fitting(counts: tuple[int, ...]) -> bool:
        return fits(
            costs, keep_table(costs, tuple(tuple(range(count)) for count in counts), shell), budget, order
        )

    if counts[-1]:
        assert fitting(counts)
        assert all(1 <= count <= counts[-1] for count in counts)
    if counts[-1] < costs.num_steps:
        more = counts[-1] + 1
        assert not fitting((*[max(1, round(share * more))] * (costs.halves - 1), more))


@given(
    sensitivity=st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=30),
    exponent=st.floats(0, 1),
    end=st.floats(0, 0.9),
    data=st.data(),
)
def test_unconditional_steps_are_conditional_ones(
    sensitivity: list[float], exponent: float, end: float, data: st.DataObject
) -> None:
    """A step never runs the unconditional half alone."""
    conditional = data.draw(st.integers(1, len(sensitivity)))
    unconditional = data.draw(st.integers(1, conditional))
    runs = spread_runs([sensitivity[::-1], sensitivity], (unconditional, conditional), exponent, end)
    assert [len(steps) for steps in runs] == [unconditional, conditional]
    assert {*runs[0]} <= {*runs[1]}
    assert runs[0][0] == runs[1][0] == 0


@pytest.mark.parametrize("key", [PLAIN, SPLIT], ids=["plain", "split"])
def test_a_keep_table_runs_halves_at_their_steps(key: Any) -> None:
    """Each half of the blocks at its own steps, outer blocks of a shell at the others."""
    costs = cost(*key)
    blocks = costs.reads.num_blocks // costs.halves
    runs = ((0, 4), (0, 2, 4))[-costs.halves :]
    table = keep_table(costs, runs, shell=(0,))
    for t, row in enumerate(table):
        for half, steps in enumerate(runs):
            kept = row[half * blocks : (half + 1) * blocks]
            assert kept == ([True] * blocks if t in steps else [True, *[False] * (blocks - 1)])
    assert whole((0, 3), costs) == ((0, 3),) * costs.halves
