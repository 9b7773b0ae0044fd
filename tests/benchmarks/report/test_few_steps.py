"""Blocks on few steps."""

from __future__ import annotations

import pytest
import torch

from benchmarks.metrics import ImageErrors
from benchmarks.plans import DEFAULT, ONE_SEARCH, WHOLE_STEPS
from benchmarks.quality.comparing import Cell
from benchmarks.quality.rows import Row
from benchmarks.report import few_steps

LEVELS = {
    DEFAULT.name: 1e-4,
    ONE_SEARCH.name: 1e-3,
    WHOLE_STEPS.name: 1e-3,
    "UniPC": 1e-2,
    "fewer steps": 1e-1,
}


def cell(steps: int = 4, **levels: float) -> Cell:
    """Return a cell of one seed, with errors around a level for each method."""
    rows = {name: {0: Row("digits-dit", "DDIM", steps, name, 0.3)} for name in levels}
    return Cell(rows, {name: {0: errors(level)} for name, level in levels.items()})


def errors(level: float) -> ImageErrors:
    """Return errors of twenty images."""
    made = torch.rand((20,), generator=torch.Generator().manual_seed(0)).double() * level
    return ImageErrors(made, made, 1 - made, made, torch.ones(20).double(), made)


def given(monkeypatch: pytest.MonkeyPatch, *cells: Cell) -> None:
    """Let these cells be all there are."""
    monkeypatch.setattr(few_steps, "every_cell", lambda: list(cells))


def test_nothing_is_said_of_what_was_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of many steps, nor of a search without anything beside it, nor of others without ours."""
    given(monkeypatch, cell(20, **LEVELS), cell(**{DEFAULT.name: 1e-4}), cell(UniPC=1e-2))
    assert few_steps.table() == few_steps.summary() == ""


def test_a_line_has_the_best_other_and_whole_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is the search for the share; the other methods of ours are no others."""
    given(monkeypatch, cell(**LEVELS))
    line = few_steps.table().splitlines()[-1]
    assert line.startswith("| digits DiT | DDIM | 4 | 70% | 1 | ")
    assert "(UniPC) | " in line
    assert line.count(", won |") == 2
    expected = "`dipgo_fx` is ahead of the best other method in all 1 cells and behind it in 0"
    assert expected in few_steps.summary().replace("\n", " ")


def test_caches_are_said_to_be_there_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or on which models."""
    given(monkeypatch, cell(**LEVELS))
    assert "without caches among" in few_steps.summary()
    given(monkeypatch, cell(**LEVELS), cell(8, **LEVELS, TaylorSeer=1e-2))
    assert "with caches among the others" in few_steps.summary()


def test_what_one_of_both_lacks_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell may have no other method, or no whole steps."""
    given(
        monkeypatch,
        cell(**{DEFAULT.name: 1e-4, WHOLE_STEPS.name: 1e-5}),
        cell(6, **{DEFAULT.name: 1.0, "UniPC": 1.0}),
    )
    first, second = few_steps.table().splitlines()[-2:]
    assert "| 1 |  | " in first
    assert first.endswith(", lost |")
    assert second.endswith(", open |  |  |")
    assert "4 and 6 steps" in few_steps.summary()
