"""Rows in a CSV file that a benchmark adds to, one at a time, and does not measure twice."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

Kind = TypeVar("Kind")


class Book(Generic[Kind]):
    """Rows of a dataclass in a file, appended at once: a run that stops loses nothing.

    An empty cell is `None`, or an empty text where the field is a text. `key` of a row, if the rows are
    merged, makes it the same measurement.
    """

    def __init__(self, file: Path, kind: type[Kind]) -> None:
        self.file, self.kind = file, kind
        self._types = get_type_hints(kind)
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or not file.stat().st_size:
            self._append([each.name for each in fields(kind)])  # type: ignore[arg-type]

    def rows(self) -> list[Kind]:
        """Read all rows."""
        return self._read(self.file)

    def add(self, row: Kind) -> None:
        """Append a row."""
        self._append(["" if value is None else value for value in asdict(row).values()])  # type: ignore[call-overload]

    def merge(self, other: Path) -> int:
        """Add the rows of another file that are not here; return how many."""
        known = {row.key for row in self.rows()}  # type: ignore[attr-defined]
        new = [row for row in self._read(other) if row.key not in known]  # type: ignore[attr-defined]
        for row in new:
            self.add(row)
        return len(new)

    def _read(self, file: Path) -> list[Kind]:
        with file.open(newline="", encoding="utf-8") as stream:
            return [self._parsed(cells) for cells in csv.DictReader(stream)]

    def _parsed(self, cells: dict[str, str]) -> Kind:
        values = {name: self._value(self._types[name], text) for name, text in cells.items()}
        return self.kind(**values)

    def _value(self, kind: Any, text: str) -> Any:
        if kind is str:
            return text
        if not text:
            return None
        return int(text) if kind is int else float(text)

    def _append(self, values: Sequence[Any]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        # One write at the file's end for a whole line: several processes do not mix theirs.
        handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.getvalue().encode())
        finally:
            os.close(handle)
