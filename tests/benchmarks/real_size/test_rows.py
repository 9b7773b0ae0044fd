"""Rows of speed.csv, and which of an earlier run stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.real_size.rows import COLUMNS, merge_rows, read_rows, speed_row, speed_section
from benchmarks.tables import Row

ABOUT: dict[str, Any] = {"device": "cpu", "dtype": "float32", "steps": 5, "batch": 1}


def row(model: str, method: str, **cells: Any) -> Row:
    """Return a row."""
    return speed_row(model=model, method=method, **ABOUT, **cells)


def test_other_models_rows_stay(tmp_path: Path) -> None:
    """One measured again takes the place of the earlier row; a model's rows stand together."""
    merge_rows(tmp_path, [row("a", "eager loop", seconds_min=1.0), row("b", "eager loop", seconds_min=2.0)])
    new = [row("a", "eager loop", seconds_min=3.0), row("a", "whole steps", ratio_asked=0.8)]
    again = [row("a", "whole steps", ratio_asked=0.8), row("a", "whole steps", ratio_asked=0.5)]
    merge_rows(tmp_path, new)
    found = merge_rows(tmp_path, again)
    assert [(r["model"], r["method"], r["seconds_min"], r["ratio_asked"]) for r in found] == [
        ("a", "eager loop", "3.0", ""),
        ("a", "whole steps", "", "0.8"),
        ("a", "whole steps", "", "0.5"),
        ("b", "eager loop", "2.0", ""),
    ]
    assert [*found[0]][: len(COLUMNS)] == [*COLUMNS]
    assert found == read_rows(tmp_path)


def test_a_cell_without_a_column_is_refused() -> None:
    """A misspelled name would be lost."""
    with pytest.raises(KeyError, match="secs"):
        row("a", "eager loop", secs=1.0)


def test_small_numbers_are_not_rounded_away() -> None:
    """A difference of rounding is no zero."""
    assert row("a", "x", max_abs_diff=1.5e-7, speedup=1.23456)["max_abs_diff"] == 1.5e-7
    assert row("a", "x", speedup=1.23456)["speedup"] == 1.2346


def test_a_page_shows_the_columns_in_which_something_is_told() -> None:
    """A table a model; none without rows."""
    text = speed_section([row("a", "x", speedup=2.0, rounds=3, clock="wall")])[0].markdown()
    assert "### a, 5 steps, batch 1, float32 on cpu" in text
    assert "Rounds: 3; seconds by the clock: wall." in text
    assert "| method | speedup |" in text
    assert speed_section([]) == []
