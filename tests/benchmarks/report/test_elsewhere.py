"""Blocks on other loops than the tables' own."""

from __future__ import annotations

import pytest

from benchmarks.plans import ONE_SEARCH
from benchmarks.quality.comparing import Cell
from benchmarks.report import elsewhere
from cells import cell

LEVELS = {ONE_SEARCH.name: 1e-4, "UniPC": 1e-2, "fewer steps": 1e-1}


def fashion(scheduler: str = "DDIM", steps: int = 20, guidance: float | None = None) -> Cell:
    """Return a cell of the Fashion-MNIST transformer."""
    return cell(LEVELS, "fashion-dit", scheduler, steps, guidance)


def given(monkeypatch: pytest.MonkeyPatch, *cells: Cell) -> None:
    """Let these cells be all there are."""
    monkeypatch.setattr(elsewhere, "every_cell", lambda: list(cells))


def test_the_tables_own_loop_and_few_steps_have_tables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of them here."""
    given(monkeypatch, fashion(), fashion(steps=8), fashion(steps=4, guidance=5.0))
    assert elsewhere.table() == elsewhere.summary() == ""


def test_a_line_has_fewer_steps_and_the_best_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is that differs."""
    given(monkeypatch, fashion(guidance=7.5), fashion("DPM-Solver++"), fashion(steps=50))
    lines = elsewhere.table().splitlines()[-3:]
    assert lines[0].startswith("| Fashion-MNIST DiT | DDIM | 20 | 7.5 | 70% | 1 | ")
    assert lines[1].startswith("| Fashion-MNIST DiT | DPM-Solver++ | 20 | 2 | 70% | 1 | ")
    assert lines[2].startswith("| Fashion-MNIST DiT | DDIM | 50 | ")
    assert all(" (UniPC" in line and line.endswith(", won |") for line in lines)
    told = " ".join(elsewhere.summary().split())
    assert (
        "In 3 other loops (20 steps, guidance 7.5; DPM-Solver++, 20 steps; 50 steps; searches of each: 1)"
        in told
    )
    assert "ahead of the best other method in all 3 cells and behind it in none" in told
