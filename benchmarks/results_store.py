"""Rows in a CSV file that a benchmark adds to, one at a time, and does not measure twice."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, asdict, fields
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_args, get_type_hints


class Keyed(Protocol):
    """A row of a store: a dataclass of texts and numbers."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def key(self) -> Hashable:
        """What makes two rows the same measurement."""


Kind = TypeVar("Kind", bound=Keyed)


class ResultStore(Generic[Kind]):
    """Rows of a dataclass in a file, each appended at once: a run that stops loses nothing.

    The columns are the fields. A file may lack columns of fields that have a default, as files of earlier
    versions do; such a file takes rows that have the default there, see `renew`. An empty cell is `None`, or
    an empty text where the field is a text. Of rows with one key the last one counts: it was measured anew.
    """

    def __init__(self, file: Path, kind: type[Kind]) -> None:
        self.file, self.kind = file, kind
        self._types = get_type_hints(kind)
        self._names = [field.name for field in fields(kind)]

    def rows(self) -> list[Kind]:
        """Read all rows, of equal keys the last; there are none without a file.

        Raises `ValueError` naming the file and what is wrong in it.
        """
        return self._read(self.file) if self.file.exists() else []

    def keys(self) -> set[Hashable]:
        """Return the keys of all rows."""
        return {row.key for row in self.rows()}

    def add(self, row: Kind) -> None:
        """Append a row. Raises `ValueError` if the file has no column for something that the row says."""
        if not self.file.exists():
            self._create()
        self.check(row)
        values = asdict(row)
        self._append(["" if values[name] is None else values[name] for name in self._header()])

    def check(self, row: Kind) -> None:
        """Raise `ValueError` if there is a file without a column for something that a row says."""
        values = asdict(row)
        self.check_columns(field.name for field in fields(self.kind) if values[field.name] != field.default)

    def merge(self, other: Path) -> int:
        """Add the rows of another file that are not here; return how many."""
        known = self.keys()
        new = [row for row in self._read(other) if row.key not in known]
        for row in new:
            self.add(row)
        return len(new)

    def check_columns(self, names: Iterable[str]) -> None:
        """Raise `ValueError` if there is a file and it lacks one of these columns."""
        lacking = set(names) - set(self._header()) if self.file.exists() else set()
        if lacking:
            raise ValueError(
                f"{self.file} has columns of an earlier version, without {', '.join(sorted(lacking))}: "
                "merge it into a new file, or renew it"
            )

    def renew(self) -> None:
        """Give a file of an earlier version the columns of today.

        A process of that version that still adds rows stops with an error at its next one.
        """
        text = "".join(map(_line, [self._names, *(list(asdict(row).values()) for row in self.rows())]))
        draft = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.file)

    def _create(self) -> None:
        """Write the header, unless another process was faster."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), self.file.open("x", encoding="utf-8") as stream:
            stream.write(_line(self._names))

    def _header(self) -> list[str]:
        with self.file.open(newline="", encoding="utf-8") as stream:
            header = next(csv.reader(stream), [])
        self._check_header(self.file, header)
        return header

    def _read(self, file: Path) -> list[Kind]:
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            self._check_header(file, header)
            rows = (self._parsed(f"{file}, line {reader.line_num}", header, cells) for cells in reader)
            return list({row.key: row for row in rows}.values())

    def _check_header(self, file: Path, header: Sequence[str]) -> None:
        needed = {f.name for f in fields(self.kind) if f.default is MISSING and f.default_factory is MISSING}
        unknown, missing = set(header) - set(self._names), needed - set(header)
        if unknown or missing or len(set(header)) < len(header):
            raise ValueError(
                f"{file} must have the columns {', '.join(self._names)}; it has {', '.join(header)}"
            )

    def _parsed(self, place: str, header: Sequence[str], cells: Sequence[str]) -> Kind:
        if len(cells) != len(header):
            raise ValueError(f"{place} must have {len(header)} cells, got {len(cells)}")
        try:
            values = {n: _value(self._types[n], text) for n, text in zip(header, cells, strict=True)}
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        return self.kind(**values)

    def _append(self, values: Sequence[Any]) -> None:
        # One write at the file's end for a whole line: several processes do not mix theirs.
        handle = os.open(self.file, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, _line(values).encode())
        finally:
            os.close(handle)


def _line(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _value(kind: Any, text: str) -> Any:
    """Return a cell as a value of a field's type: a text, a number, or `None` where the type has it."""
    kinds = get_args(kind) or (kind,)
    if not text and NoneType in kinds:
        return None
    (wanted,) = (each for each in kinds if each is not NoneType)
    return wanted(text)
