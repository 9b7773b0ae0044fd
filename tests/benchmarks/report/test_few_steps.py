"""Blocks on few steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.plans import DEFAULT, ONE_SEARCH, WHOLE_STEPS
from benchmarks.quality.comparing import Cell
from benchmarks.report import few_steps
from cells import cell

LEVELS = {
    DEFAULT.name: 1e-4,
    ONE_SEARCH.name: 1e-3,
    WHOLE_STEPS.name: 1e-3,
    "UniPC": 1e-2,
    "fewer steps": 1e-1,
}


def given(monkeypatch: pytest.MonkeyPatch, *cells: Cell) -> None:
    """Let these cells be all there are."""
    monkeypatch.setattr(few_steps, "every_cell", lambda: list(cells))


def test_nothing_is_said_of_what_was_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of many steps, nor of a search without anything beside it, nor of others without ours."""
    given(monkeypatch, cell(LEVELS, steps=20), cell({DEFAULT.name: 1e-4}), cell({"UniPC": 1e-2}))
    assert few_steps.table() == few_steps.summary() == ""


def test_a_line_has_the_best_other_and_whole_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is the search for the share; the other methods of ours are no others."""
    given(monkeypatch, cell(LEVELS))
    line = few_steps.table().splitlines()[-1]
    assert line.startswith("| digits DiT | DDIM | 4 | 70% | 1 | ")
    assert "(UniPC" in line
    assert line.count(", won |") == 2
    expected = "`dipgo_fx` is ahead of the best other method in all 1 cells and behind it in none"
    assert expected in few_steps.summary().replace("\n", " ")


def test_a_share_that_changes_nothing_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all do at a larger share what they do at a smaller one."""
    again = cell(LEVELS)
    smaller = replace_share(again, 0.5)
    given(monkeypatch, again, smaller, cell({**LEVELS, "UniPC": 1e-3}, steps=8))
    assert few_steps.few_cells()[0] is smaller
    assert len(few_steps.few_cells()) == 2


def replace_share(given: Cell, ratio: float) -> Cell:
    """Return the same rows, asked for another share."""
    rows = {
        name: {seed: replace(row, ratio_asked=ratio) for seed, row in own.items()}
        for name, own in given.rows.items()
    }
    return Cell(rows, given.errors)


def test_caches_are_said_to_be_there_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or on which models."""
    given(monkeypatch, cell(LEVELS))
    assert "without caches among" in few_steps.summary()
    given(monkeypatch, cell(LEVELS), cell({**LEVELS, "TaylorSeer": 1e-2}, steps=8))
    assert "with caches among the others" in few_steps.summary()


def test_what_one_of_both_lacks_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell may have no other method, or no whole steps."""
    given(
        monkeypatch,
        cell({DEFAULT.name: 1e-4, WHOLE_STEPS.name: 1e-5}),
        cell({DEFAULT.name: 1.0, "UniPC": 1.0}, steps=6),
    )
    first, second = few_steps.table().splitlines()[-2:]
    assert "| 1 |  | " in first
    assert first.endswith(", lost |")
    assert second.endswith(", open |  |  |")
    assert "4 and 6 steps" in few_steps.summary()
