"""What an earlier run measured stays on the page."""

from __future__ import annotations

from pathlib import Path

from benchmarks.kept_tables import beside_earlier, kept_tables
from benchmarks.tables import Table, write


def test_only_tables_that_are_measured_anew_change(tmp_path: Path) -> None:
    """In their place; others stay word for word, and so do their files."""
    first = [Table("A", [{"x": 1}], "A note.", "a"), Table("B", [{"x": 2}], name="b")]
    page = tmp_path / "p.md"
    before = write("p", "P", beside_earlier(page, first), tmp_path)
    files = {name: (tmp_path / f"p-{name}.csv").read_text(encoding="utf-8") for name in "ab"}
    again = write("p", "P", beside_earlier(page, [Table("B", [{"x": 3}]), Table("C", [{"x": 4}])]), tmp_path)
    assert again.startswith(before.partition("## B")[0])
    assert [*kept_tables(page)] == ["A", "B", "C"]
    assert "| 3 |" in again
    assert "| 2 |" not in again
    assert files == {name: (tmp_path / f"p-{name}.csv").read_text(encoding="utf-8") for name in "ab"}


def test_a_page_that_is_not_there_has_no_tables(tmp_path: Path) -> None:
    """A first run has nothing to keep."""
    assert kept_tables(tmp_path / "none.md") == {}
