"""Where a plan runs the model: whole steps of each call, and boundary blocks at the others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx.budget import TOLERANCE, fits
from dipgo_fx.placement import Placement, nearest_free, open_from_output, whole_steps
from loops import cost
from searches import PLAIN, Key, plain_and_split


@plain_and_split
def test_a_keep_table_makes_calls_at_their_steps(key: Key) -> None:
    """The blocks of each call run at its own steps, boundary blocks at the others too."""
    costs = cost(*key)
    blocks = costs.num_blocks // costs.num_calls
    runs = ((0, 4), (0, 2, 4))[-costs.num_calls :]
    table = Placement(runs, boundary=(0,)).keep(costs)
    assert table.shape == (costs.num_steps, costs.num_blocks)
    for t, row in enumerate(table.tolist()):
        for call, steps in enumerate(runs):
            kept = row[call * blocks : (call + 1) * blocks]
            assert kept == ([True] * blocks if t in steps else [True, *[False] * (blocks - 1)])


@plain_and_split
def test_whole_steps_make_all_calls(key: Key) -> None:
    """Under split guidance both, at the same steps."""
    costs = cost(*key)
    placement = whole_steps((0, 3), costs)
    assert placement == Placement(((0, 3),) * costs.num_calls)
    assert placement.size == 2 * costs.num_calls
    assert placement.keep(costs).all(1).nonzero().flatten().tolist() == [0, 3]


@pytest.mark.parametrize(
    ("placement", "said"),
    [
        (Placement(((0, 3),)), "2 whole steps"),
        (Placement(((0,), (0, 3))), "2 conditional and 1 unconditional whole steps"),
        (Placement(((0, 3),), (0, 5, 6)), "2 whole steps, 3 boundary blocks at the others"),
    ],
    ids=str,
)
def test_a_placement_says_what_runs(placement: Placement, said: str) -> None:
    """In words, for the origin of a plan."""
    assert str(placement) == said


@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize("kept", [0.3, 0.55, 0.8])
def test_what_is_left_is_spent(kept: float, by_step: bool) -> None:
    """Gates open while the budget lasts: the latest step first, or the block next to the output first."""
    costs = cost(*PLAIN)
    start = whole_steps((0, 3), costs).keep(costs)
    given = start.clone()
    table = open_from_output(start, kept, costs, 2, by_step)
    assert torch.equal(start, given)
    assert bool((table | ~start).all())
    assert fits(costs, table, kept, 2)
    opened = (table & ~start).nonzero().tolist()
    left = [gate for gate in (~table).nonzero().tolist() if gate[0]]
    assert kept - costs.kept_at_most(table, 2) < TOLERANCE / 4 or not any(
        fits(costs, _with(table, *gate), kept, 2) for gate in left
    )
    first = max(opened, key=lambda gate: gate if by_step else gate[::-1], default=None)
    assert first in (None, [costs.num_steps - 1, costs.num_blocks - 1])


def _with(table: torch.Tensor, step: int, block: int) -> torch.Tensor:
    other = table.clone()
    other[step, block] = True
    return other


@given(data=st.data(), count=st.integers(1, 12))
def test_every_position_gets_the_nearest_free_step(data: st.DataObject, count: int) -> None:
    """As many distinct steps as positions, rising; the first position gets its very nearest."""
    among = sorted(data.draw(st.sets(st.integers(0, 30), min_size=count, max_size=20)))
    positions = data.draw(st.lists(st.floats(-3, 33), min_size=count, max_size=count))
    found = nearest_free(positions, among)
    assert len(found) == count
    assert found == tuple(sorted({*found} & {*among}))
    assert min(abs(step - positions[0]) for step in among) == min(abs(s - positions[0]) for s in found)


def test_a_taken_step_pushes_the_next_aside() -> None:
    """Two positions nearest to one step get it and a neighbour."""
    assert nearest_free([2.1, 2.2, 2.3], range(9)) == (1, 2, 3)
