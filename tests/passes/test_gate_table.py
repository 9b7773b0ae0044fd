"""Gate tables by themselves: what they refuse, what their weights mean, and how much past they read."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx.passes import HISTORY, GateTable
from dipgo_fx.passes.gate_table import REPEAT, last_kept, terms
from tables import gate_tables, keeps

KEEP = torch.tensor([[True, True], [False, True], [True, False]])


def entries(keep: torch.Tensor, *entry: float) -> torch.Tensor:
    """Return weights that are one and the same entry everywhere."""
    return torch.tensor(entry, dtype=torch.float64).expand(*keep.shape, HISTORY).clone()


# -- what is no table


@pytest.mark.parametrize(
    "keep",
    [KEEP.long(), KEEP[0], KEEP[None], KEEP[:0], KEEP[:, :0]],
    ids=["int", "row", "3-d", "no step", "no block"],
)
def test_a_keep_table_is_a_bool_matrix(keep: torch.Tensor) -> None:
    """Another dtype, another number of dimensions and an empty table are refused with both."""
    with pytest.raises(ValueError, match=r"keep must be a bool tensor \(T, N\), got torch\.\w+ \("):
        GateTable.of(keep)


@given(keep=keeps(), late=st.integers(0, 3), data=st.data())
def test_the_first_step_keeps_all(keep: torch.Tensor, late: int, data: st.DataObject) -> None:
    """Nothing runs before it; whichever of its gates is closed, there is no earlier value to read."""
    rows = torch.cat([torch.zeros(late, keep.shape[1], dtype=torch.bool), keep])
    assert GateTable.of(rows).first == late
    block = data.draw(st.integers(0, keep.shape[1] - 1))
    rows[late] = True
    rows[late, block] = False
    if keep.shape[1] > 1:
        with pytest.raises(ValueError, match=rf"keep\[{late}\] must be true for every block"):
            GateTable.of(rows)
    rows[:] = False
    with pytest.raises(ValueError, match="must be true for every block"):
        GateTable(rows, entries(rows, *REPEAT))


@given(keep=keeps(), late=st.integers(0, 3))
def test_a_late_start_moves_a_linear_table(keep: torch.Tensor, late: int) -> None:
    """What is read after the first run is what it is in a loop that begins there."""
    rows = torch.cat([torch.zeros(late, keep.shape[1], dtype=torch.bool), keep])
    assert torch.equal(GateTable.of(rows, "linear").weights[late:], GateTable.of(keep, "linear").weights)


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 2), (2, 3, 3), (1, 3, 2, 3), ()], ids=str)
def test_weights_have_the_shape_of_the_gates(shape: tuple[int, ...]) -> None:
    """One entry of three weights a gate; the error names both shapes."""
    with pytest.raises(ValueError, match=r"weights must have shape \(3, 2, 3\), got \("):
        GateTable(KEEP, torch.ones(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_are_finite(value: float) -> None:
    """A sum with an infinite weight is nothing to compute."""
    weights = entries(KEEP, *REPEAT)
    weights[1, 0, 2] = value
    with pytest.raises(ValueError, match="weights must be finite"):
        GateTable(KEEP, weights)


def test_an_unknown_backup_is_refused() -> None:
    """The error lists the backups there are."""
    with pytest.raises(ValueError, match="'reuse' or 'linear', got 'cubic'"):
        GateTable.of(KEEP, cast(Any, "cubic"))


# -- what a table holds


@given(keep=keeps(), data=st.data())
def test_a_table_is_a_value(keep: torch.Tensor, data: st.DataObject) -> None:
    """It copies what it is given, in its own dtypes, and is equal to a table of the same values."""
    weights = data.draw(gate_tables(keep)).weights
    table, same = GateTable(keep, weights), GateTable(keep.clone(), weights.clone())
    assert (table.keep.dtype, table.weights.dtype) == (torch.bool, torch.float64)
    assert table == same
    keep[0] = False
    weights += 1
    assert table == same
    assert table.keep_rows == same.keep.tolist()
    assert table.weight_rows == same.weights.tolist()


@given(keep=keeps(), data=st.data())
def test_weights_mean_nothing_where_a_block_is_kept(keep: torch.Tensor, data: st.DataObject) -> None:
    """Two ways of writing what a plan decides give equal tables; where a gate is closed they are read."""
    one, other = data.draw(gate_tables(keep)), entries(keep, 0.5, -2.0, 3.0)
    mixed = GateTable(keep, torch.where(keep[..., None], other, one.weights))
    assert mixed == one
    assert torch.equal(mixed.weights[keep], entries(keep, *REPEAT)[keep])
    assert torch.equal(GateTable(keep, other).weights[~keep], other[~keep])


@given(keep=keeps(), data=st.data())
def test_a_table_says_which_entries_repeat(keep: torch.Tensor, data: st.DataObject) -> None:
    """Those that read the last value as it is, the ones that mean nothing among them."""
    table = data.draw(gate_tables(keep))
    said = [[tuple(entry) == REPEAT for entry in row] for row in table.weight_rows]
    assert table.repeats.tolist() == said
    assert bool(table.repeats[keep].all())


@given(keep=keeps(), data=st.data(), history=st.integers(1, HISTORY))
def test_the_history_is_what_the_weights_read(keep: torch.Tensor, data: st.DataObject, history: int) -> None:
    """1 if all repeat, 3 if a third value has a weight, else 2."""
    table = data.draw(gate_tables(keep, history))
    rows = [tuple(entry) for row in table.weight_rows for entry in row]
    assert table.history == (1 if {*rows} == {REPEAT} else 3 if any(entry[2] for entry in rows) else 2)


# -- what closed gates read


@given(keep=keeps())
def test_reuse_repeats_everything(keep: torch.Tensor) -> None:
    """A table of the paper's backup reads nothing but the last values."""
    table = GateTable.of(keep)
    assert table == GateTable(keep, entries(keep, *REPEAT))
    assert table.history == 1


def test_linear_weights_by_hand() -> None:
    """At step t, with s > r computed last, a = (t - s) / (s - r) ahead: 1 + a and -a.

    Where only one step was computed that one repeats.
    """
    keep = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]).bool()
    ahead = torch.tensor(
        [
            [0, 0, 0],
            [0, 0, 0],  # only step 0 was computed
            [1, 0, 0],  # steps 0, 1: one step on
            [2, 0, 0.5],  # block 2: steps 0, 2
            [0, 1 / 3, 1],  # block 1: steps 0, 3
            [1 / 3, 2 / 3, 1.5],  # block 0: steps 1, 4
        ],
        dtype=torch.float64,
    )
    linear = GateTable.of(keep, "linear").weights
    assert torch.equal(linear, torch.stack([1 + ahead, -ahead, 0 * ahead], -1))


@given(keep=keeps(), start=st.floats(-9, 9), slope=st.floats(-9, 9))
def test_linear_goes_on_in_a_straight_line(keep: torch.Tensor, start: float, slope: float) -> None:
    """Whatever was kept, values on a line are continued on it; one value alone is repeated."""
    table = GateTable.of(keep, "linear")
    rows = last_kept(keep.tolist())
    for t, n in (~keep).nonzero().tolist():
        past = [start + slope * step for step in rows[t][n]]
        read = sum(w * value for w, value in zip(table.weight_rows[t][n], past, strict=True))
        last, before, _ = rows[t][n]
        assert read == pytest.approx(start + slope * (t if last != before else last))


@given(entry=st.lists(st.sampled_from((0.0, 1.0, -0.5)), min_size=3, max_size=3), count=st.integers(1, 3))
def test_terms_are_what_has_a_weight(entry: list[float], count: int) -> None:
    """Of the values at hand; if none has a weight the last one is read for its shape."""
    found = terms(entry, count)
    assert found
    assert sum(weight * 10**k for k, weight in found) == sum(w * 10**k for k, w in enumerate(entry[:count]))
    assert all(weight for _, weight in found) or found == [(0, 0.0)]
    assert [k for k, _ in found] == sorted({k for k, _ in found} & {*range(count)})


@given(keep=keeps())
def test_the_last_kept_steps_are_those_before(keep: torch.Tensor) -> None:
    """Newest first; step 0, which is always kept, stands in where there are too few."""
    for t, row in enumerate(last_kept(keep.tolist())):
        for n, found in enumerate(row):
            before = keep[:t, n].nonzero().flatten().tolist()[::-1]
            assert list(found) == [*before, *[0] * HISTORY][:HISTORY]
