"""What is written of measurements: Markdown and CSV files."""

from __future__ import annotations

import csv
from pathlib import Path

from benchmarks.tables import Section, Table, grouped, machine, mean, write

ROWS = [
    {"name": "a", "score": 12.3456789, "seconds": None},
    {"name": "b | c", "score": 0.5, "seconds": 3},
]


def test_a_table_as_markdown() -> None:
    """Numbers have four digits, nothing is an empty cell, and a bar does not end a cell."""
    lines = Table("Scores", ROWS, note="In dB.").markdown().splitlines()
    assert lines[:4] == ["## Scores", "", "In dB.", ""]
    assert lines[4:] == [
        "| name | score | seconds |",
        "| --- | --- | --- |",
        "| a | 12.35 |  |",
        "| b \\| c | 0.5 | 3 |",
    ]


def test_a_page_says_what_it_was_measured_with(tmp_path: Path) -> None:
    """Versions and the machine stand at the top, then the note, then sections with tables below them."""
    section = Section("Digits", [Table("PSNR", ROWS)], note="Unpruned: 1.")
    text = write("page", "Title", [section], tmp_path / "new", note="How to read it.")
    assert text == (tmp_path / "new" / "page.md").read_text()
    assert text.startswith(f"# Title\n\n{machine()['machine']}; python ")
    order = ("How to read it.\n\n", "## Digits\n\nUnpruned: 1.\n\n", "### PSNR\n\n| name |")
    assert sorted(order, key=text.index) == list(order)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["page.md"]


def test_a_table_with_a_name_is_a_file_too(tmp_path: Path) -> None:
    """Its rows carry versions and the machine, and every digit."""
    write("page", "Title", [Table("Scores", ROWS, name="scores")], tmp_path)
    with (tmp_path / "page-scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["score"] for row in rows] == ["12.3456789", "0.5"]
    assert rows[0]["torch"] == machine()["torch"]


def test_groups_and_means() -> None:
    """Groups keep their order; a mean is of the finite values there are."""
    assert grouped([3, 1, 5, 2], lambda number: number % 2) == {1: [3, 1, 5], 0: [2]}
    assert mean([1.0, None, float("inf"), 2.0]) == 1.5
    assert mean([None]) is None
