"""What becomes of each block at each step, and how it is drawn."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx.passes import GateTable
from dipgo_fx.passes.liveness import StepReads
from dipgo_fx.states import GLYPHS, MEANINGS, State, drawn, states_of
from tables import gate_tables, keeps

# Three blocks one after the other, the last of which is all that the prediction reads.
CHAIN = StepReads(3, ((), (0,), (1,)), (2,), (0, 1, 2))


@given(data=st.data())
def test_every_block_has_one_state(data: st.DataObject) -> None:
    """It runs if it is open and read; a backup that is read repeats or forecasts; all else is dead."""
    keep = data.draw(keeps(blocks=3))
    table = data.draw(gate_tables(keep))
    live = CHAIN.liveness(table)
    states = states_of(table, live)
    assert states.dtype == torch.int64
    for t, row in enumerate(states.tolist()):
        for n, state in enumerate(row):
            assert (state == State.RUNS) == live.runs(t, n)
            repeats = table.weight_rows[t][n] == [1, 0, 0]
            assert (state == State.REPEATS) == (live.reads_backup(t, n) and repeats)
            assert (state == State.FORECASTS) == (live.reads_backup(t, n) and not repeats)


def test_states_by_hand() -> None:
    """Closing the end of a chain kills what comes before, open or closed; a kept dead block does not run."""
    keep = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 0, 0]]).bool()
    weights = GateTable.of(keep).weights.clone()
    weights[2, 0] = torch.tensor([2.0, -1.0, 0.0])  # reads the value at step 1, which runs for that alone
    table = GateTable(keep, weights)
    runs, dead, repeats, forecasts = State
    assert states_of(table, CHAIN.liveness(table)).tolist() == [
        [runs, runs, runs],
        [runs, dead, repeats],
        [forecasts, runs, runs],
        [dead, dead, repeats],
    ]


def test_every_state_can_be_drawn_and_told_apart() -> None:
    """One glyph of one character and one meaning each."""
    assert set(GLYPHS) == set(MEANINGS) == set(State)
    assert len({*GLYPHS.values()}) == len({*MEANINGS.values()}) == len(State)
    assert {*map(len, GLYPHS.values())} == {1}


@given(
    states=st.lists(st.lists(st.sampled_from(State), min_size=3, max_size=3), min_size=1, max_size=9),
    blocks=st.lists(st.text("abc.", min_size=1, max_size=20), min_size=3, max_size=3),
)
def test_a_drawing_has_a_row_a_block_and_a_column_a_step(
    states: list[list[State]], blocks: list[str]
) -> None:
    """Names and tables of any size are aligned, and each glyph is that of the block's state at the step."""
    *rows, costs, legend = drawn(blocks, torch.tensor(states), [1.0] * len(states))
    for n, (row, block) in enumerate(zip(rows, blocks, strict=True)):
        assert row.split() == [block, "".join(GLYPHS[step[n]] for step in states)]
    assert {*map(len, [*rows, costs])} == {len(costs)}
    assert costs.endswith("  " + "#" * len(states))
    assert all(f"{GLYPHS[state]} {MEANINGS[state]}" in legend for state in State)


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0"),
        (0.04, "0"),
        (0.1, "1"),
        (0.26, "3"),
        (0.89, "9"),
        (0.94, "9"),
        (0.95, "9"),
        (0.96, "#"),
        (1, "#"),
        (1.2, "#"),
    ],
)
def test_what_a_step_costs_is_drawn_in_tenths(share: float, shown: str) -> None:
    """One character a step, a whole one has a glyph of its own."""
    *_, costs, legend = drawn(["a"], torch.zeros(2, 1, dtype=torch.int64), [share, 1.0])
    assert costs == f"MACs kept  {shown}#"
    assert "tenths of a step" in legend
