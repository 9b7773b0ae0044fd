"""Blocks on the frozen test."""

from __future__ import annotations

import pytest

from benchmarks.plans import ONE_SEARCH
from benchmarks.quality.comparing import Cell
from benchmarks.reference.models import FROZEN
from benchmarks.report import frozen
from cells import cell

FLOW = "flow-match Euler"


def given(monkeypatch: pytest.MonkeyPatch, *cells: Cell) -> None:
    """Let these cells be all there are."""
    monkeypatch.setattr(frozen, "cells_in", lambda folder: list(cells))


def test_nothing_is_counted_before_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the end: the table has what there is."""
    given(monkeypatch, cell({ONE_SEARCH.name: 1e-3, "UniPC": 1e-2}, FROZEN, FLOW, 20))
    assert frozen.summary() == frozen.verdict() == ""
    assert all(table.endswith(", won |") for table in frozen.table().split("\n\n"))


def test_lost_cells_are_told_as_won_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few steps and many, in one table."""
    won = cell({ONE_SEARCH.name: 1e-4, "learned sampler": 1e-2}, FROZEN, FLOW, 8)
    lost = cell({ONE_SEARCH.name: 1e-2, "learned sampler": 1e-4}, FROZEN, FLOW, 20)
    given(monkeypatch, won, lost)
    psnr, likeness = frozen.table().split("\n\n")
    first, second = psnr.splitlines()[-2:]
    assert first.startswith("| MNIST Sana | flow-match Euler | 8 | 3 | 70% | 1 | ")
    assert first.endswith(", won |")
    assert second.endswith(", lost |")
    assert [line.split(", ")[-1] for line in likeness.splitlines()[-2:]] == ["won |", "lost |"]
    told = " ".join(frozen.summary().split())
    assert "at 8 and 20 steps" in told
    assert "ahead of the best other method in 1 of 2 cells and behind it in 1" in told
    assert "| PSNR, all images together | 1 | 0 | 1 |" in frozen.verdict()
