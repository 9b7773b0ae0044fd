"""Candidates: what they are chosen by, and when two are one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dipgo_fx.passes import GateTable, Steering
from dipgo_fx.placement import Placement
from dipgo_fx.search.candidate import Candidate

KEEP = torch.tensor([[True, True], [False, True], [False, False]])
STEERING = Steering.neutral(3, 1)
FOUND = Candidate(
    GateTable.of(KEEP, "linear"), 3, Placement(((0,),)), "one", STEERING, loss=0.5, unlikeness=0.25
)


def test_candidates_rank_by_loss_and_looks() -> None:
    """What counts is loss times 1 - SSIM; one that was not evaluated comes last."""
    assert FOUND.rank == 0.5 * 0.25
    assert Candidate(FOUND.table).rank == float("inf")


def test_a_rounding_error_of_looks_does_not_make_candidates_equal() -> None:
    """SSIM in single precision is 1, or above, for samples that are close: the loss then tells them apart."""
    for unlikeness in (0.0, -1e-7):
        near, nearer = (replace(FOUND, loss=loss, unlikeness=unlikeness) for loss in (1e-5, 1e-6))
        assert nearer.rank < near.rank
        assert replace(FOUND, loss=0.0, unlikeness=unlikeness).rank == 0


def test_other_weights_leave_the_rest() -> None:
    """Gates, history, placement, name and loss are those of the candidate they replace weights of."""
    weights = torch.full((*KEEP.shape, 3), 2.0)
    other = FOUND.with_weights(weights)
    assert other == replace(FOUND, table=GateTable(KEEP, weights))
    assert other != FOUND
    assert other.placement == FOUND.placement
    assert other.steering == STEERING


@pytest.mark.parametrize("steering", [None, STEERING], ids=["plain", "steered"])
def test_what_is_fitted_goes_out_and_in(steering: Steering | None) -> None:
    """Tables are copies in single precision, and a candidate with them is as it was but for them."""
    found = replace(FOUND, steering=steering)
    tables = found.tables(torch.device("cpu"))
    assert tables.keys() == {"weights"} | ({"told", "mix"} if steering else set())
    assert all(table.dtype == torch.float32 for table in tables.values())
    assert found.with_tables(tables) == found
    for table in tables.values():
        table[-1] += 0.5
    moved = found.with_tables(tables)
    assert found == replace(FOUND, steering=steering), "the candidate keeps its own"
    assert torch.equal(moved.table.weights[-1], found.table.weights[-1] + 0.5)
    if steering is not None:
        assert moved.steering is not None
        assert moved.steering.told.tolist() == [1.0, 1.0, 1.5]
        assert moved.steering.mix[-1, 0].tolist() == [0.5, 1.5, 0.5, 0.5]
    assert (moved.loss, moved.unlikeness) == (0.5, 0.25)


@pytest.mark.parametrize(
    "changes",
    [
        {"history": 2},
        {"name": "other"},
        {"loss": 0.4},
        {"unlikeness": 1.0},
        {"steering": None},
        {"steering": Steering(2 * STEERING.told, STEERING.mix)},
    ],
    ids=str,
)
def test_candidates_are_compared_by_value(changes: dict[str, object]) -> None:
    """All that a search reads of one counts; where it was placed is told by its table."""
    assert replace(FOUND, table=GateTable.of(KEEP.clone(), "linear")) == FOUND
    assert replace(FOUND, placement=Placement(((0, 1),))) == FOUND
    assert replace(FOUND, **changes) != FOUND
