"""Candidates: what they are chosen by, and when two are one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dipgo_fx.passes import GateTable
from dipgo_fx.placement import Placement
from dipgo_fx.search.candidate import Candidate

KEEP = torch.tensor([[True, True], [False, True], [False, False]])
FOUND = Candidate(GateTable.of(KEEP, "linear"), 3, Placement(((0,),)), "one", 0.5, 0.25)


def test_candidates_rank_by_loss_and_looks() -> None:
    """What counts is loss times 1 - SSIM; one that was not evaluated comes last."""
    assert FOUND.rank == 0.5 * 0.25
    assert Candidate(FOUND.table).rank == float("inf")


def test_other_weights_leave_the_rest() -> None:
    """Gates, history, placement, name and loss are those of the candidate they replace weights of."""
    weights = torch.full((*KEEP.shape, 3), 2.0)
    other = FOUND.with_weights(weights)
    assert other == replace(FOUND, table=GateTable(KEEP, weights))
    assert other != FOUND
    assert other.placement == FOUND.placement


@pytest.mark.parametrize(
    "changes", [{"history": 2}, {"name": "other"}, {"loss": 0.4}, {"unlikeness": 1.0}], ids=str
)
def test_candidates_are_compared_by_value(changes: dict[str, object]) -> None:
    """All that a search reads of one counts; where it was placed is told by its table."""
    assert replace(FOUND, table=GateTable.of(KEEP.clone(), "linear")) == FOUND
    assert replace(FOUND, placement=Placement(((0, 1),))) == FOUND
    assert replace(FOUND, **changes) != FOUND
