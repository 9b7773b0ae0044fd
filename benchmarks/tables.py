"""Write what a benchmark measured: Markdown and CSV, with versions and machine class."""

from __future__ import annotations

import csv
import math
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "diffusers", "fvcore", "numpy")

Row = dict[str, Any]
Item = TypeVar("Item")
Key = TypeVar("Key")


@dataclass(frozen=True)
class Table:
    """Rows with equal keys.

    Attributes:
        title: its heading.
        rows: at least one.
        note: how to read them.
        name: ends the name of its CSV file; without one there is none.
    """

    title: str
    rows: Sequence[Row]
    note: str = ""
    name: str = ""

    def markdown(self, level: int = 2) -> str:
        """Return the table as Markdown under a heading of a level."""
        names = list(self.rows[0])
        lines = grid(names, ([_text(row[name]) for name in names] for row in self.rows))
        note = [self.note, ""] if self.note else []
        return "\n".join([f"{'#' * level} {self.title}", "", *note, lines, ""])


@dataclass(frozen=True)
class Section:
    """Tables under a heading of their own; `note` stands before them."""

    title: str
    tables: Sequence[Table]
    note: str = ""

    def markdown(self) -> str:
        """Return the section as Markdown."""
        tables = (table.markdown(level=3) for table in self.tables)
        return "\n".join([f"## {self.title}", "", f"{self.note}\n" if self.note else "", *tables])


Part = Table | Section


def machine() -> Row:
    """Return versions and machine class: no names of hosts, no paths."""
    found: Row = {"python": platform.python_version()}
    found.update({name: version(name) for name in PACKAGES})
    gpu = f" and {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    found["machine"] = f"{platform.machine()} CPU with {os.cpu_count()} cores{gpu}"
    found["threads"] = torch.get_num_threads()
    return found


def write(name: str, title: str, parts: Sequence[Part], out: Path = RESULTS, note: str = "") -> str:
    """Write `{name}.md`, and `{name}-{table}.csv` for each table with a name; return the Markdown."""
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(title, parts, note)
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    for table in _tables(parts):
        if table.name:
            _write_csv(out / f"{name}-{table.name}.csv", table.rows)
    return text


def markdown(title: str, parts: Sequence[Part], note: str = "") -> str:
    """Return tables and sections as one page that says what it was measured with."""
    about = ", ".join(f"{key} {value}" for key, value in machine().items() if key != "machine")
    head = [f"# {title}", "", f"{machine()['machine']}; {about}.", "", *([note, ""] if note else [])]
    return "\n".join([*head, *(part.markdown() for part in parts)])


def grid(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table of texts."""
    names = list(header)
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, ["---"] * len(names), *lines))


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Return items by key, in the order in which the keys come up."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the finite values there are, or `None`."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    return sum(found) / len(found) if found else None


def _tables(parts: Sequence[Part]) -> Iterator[Table]:
    for part in parts:
        if isinstance(part, Section):
            yield from part.tables
        else:
            yield part


def _write_csv(file: Path, rows: Sequence[Row]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=[*rows[0], *machine()])
        writer.writeheader()
        writer.writerows({**row, **machine()} for row in rows)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
