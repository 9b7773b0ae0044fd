"""Rows in a file: what is written is read, and nothing is taken for what it is not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results_store import ResultStore


@dataclass(frozen=True)
class Row:
    """A row with every kind of column."""

    name: str
    count: int
    score: float | None = None
    samples: int | None = None
    error: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes a row the same measurement."""
        return (self.name, self.count)


ROWS = [
    Row("a, b", 1, float("inf"), 3),
    Row("c", 2, error='TypeError: "x"\nsecond line'),
]


@pytest.fixture
def store(tmp_path: Path) -> ResultStore[Row]:
    """A store with two rows."""
    made = ResultStore(tmp_path / "new" / "rows.csv", Row)
    for row in ROWS:
        made.add(row)
    return made


def test_rows_survive_the_file(store: ResultStore[Row]) -> None:
    """What is written is what is read, commas, line breaks and types included."""
    assert store.rows() == ROWS
    assert [type(row.samples) for row in store.rows()] == [int, type(None)]
    assert store.keys() == {("a, b", 1), ("c", 2)}
    assert store.file.read_text().splitlines()[0] == "name,count,score,samples,error"


def test_what_was_measured_anew_counts(store: ResultStore[Row]) -> None:
    """Of rows with one key the last one is read."""
    store.add(Row("c", 2, 1.5))
    assert store.rows() == [ROWS[0], Row("c", 2, 1.5)]


def test_reading_makes_no_file(tmp_path: Path) -> None:
    """Without a file there are no rows, and none appears."""
    store = ResultStore(tmp_path / "rows.csv", Row)
    assert store.rows() == []
    assert not store.file.exists()


def test_rows_of_other_files_merge_once(store: ResultStore[Row], tmp_path: Path) -> None:
    """Merging adds what is missing and nothing twice."""
    other = ResultStore(tmp_path / "other.csv", Row)
    other.add(ROWS[0])
    assert other.merge(store.file) == 1
    assert other.merge(store.file) == 0
    assert other.rows() == ROWS


def test_a_file_without_later_columns_is_read_and_merged(store: ResultStore[Row], tmp_path: Path) -> None:
    """Columns that it lacks have their default; a row that says more is refused, a new file takes all."""
    old = ResultStore(tmp_path / "old.csv", Row)
    old.file.write_text("name,count,score\nd,4,0.5\n")
    assert old.rows() == [Row("d", 4, 0.5)]
    with pytest.raises(ValueError, match="without samples: merge it into a new file"):
        old.add(ROWS[0])
    assert store.merge(old.file) == 1
    assert store.rows() == [*ROWS, Row("d", 4, 0.5)]


def test_a_file_without_later_columns_goes_on_as_it_is(tmp_path: Path) -> None:
    """Processes of two versions add to it, as long as the later one has nothing to say in new columns."""
    old = ResultStore(tmp_path / "old.csv", Row)
    old.file.write_text("count,name,score\n4,d,0.5\n")
    old.add(Row("e", 5))
    assert old.file.read_text() == "count,name,score\n4,d,0.5\n5,e,\n"
    assert old.rows() == [Row("d", 4, 0.5), Row("e", 5)]
    old.renew()
    assert old.file.read_text() == "name,count,score,samples,error\nd,4,0.5,,\ne,5,,,\n"
    old.add(ROWS[0])
    assert old.rows() == [Row("d", 4, 0.5), Row("e", 5), ROWS[0]]
    assert [file.name for file in tmp_path.iterdir()] == ["old.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,count,seconds\na,1,2\n", "must have the columns name, count, .*; it has name, count, seconds"),
        ("name,score\na,1\n", "must have the columns"),
        ("name,count,count\na,1,1\n", "must have the columns"),
        ("", "must have the columns"),
        ("name,count\na,1\nb\n", r"line 3 must have 2 cells, got 1"),
        ("name,count\na,1,2\n", r"line 2 must have 2 cells, got 3"),
        ("name,count\na,\n", "line 2: invalid literal"),
        ("name,count,score\na,1,much\n", "line 2: could not convert"),
    ],
)
def test_what_is_no_row_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The message names the file, and the line if the header is right."""
    store = ResultStore(tmp_path / "rows.csv", Row)
    store.file.write_text(text)
    with pytest.raises(ValueError, match=f"rows.csv.*{message}"):
        store.rows()
