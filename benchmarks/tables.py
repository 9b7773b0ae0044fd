"""Write what a benchmark measured: Markdown and CSV, with versions and machine class."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "diffusers", "fvcore", "numpy")

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows with equal keys; `name` ends the CSV's file name, `note` says how to read the rows."""

    name: str
    title: str
    rows: Sequence[Row]
    note: str = ""

    def markdown(self) -> str:
        """Return the table as Markdown."""
        names = list(self.rows[0])
        lines = [_line(names), _line(["---"] * len(names))]
        lines += [_line([_text(row[name]) for name in names]) for row in self.rows]
        note = [self.note, ""] if self.note else []
        return "\n".join([f"## {self.title}", "", *note, *lines, ""])


def machine() -> Row:
    """Return versions and machine class: no names of hosts, no paths."""
    found: Row = {"python": platform.python_version()}
    found.update({name: version(name) for name in PACKAGES})
    gpu = f" and {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    found["machine"] = f"{platform.machine()} CPU with {os.cpu_count()} cores{gpu}"
    found["threads"] = torch.get_num_threads()
    return found


def write(name: str, title: str, tables: Sequence[Table], out: Path = RESULTS) -> str:
    """Write `{name}.md` and one `{name}-{table}.csv` a table; return the Markdown."""
    out.mkdir(parents=True, exist_ok=True)
    about = ", ".join(f"{key} {value}" for key, value in machine().items() if key != "machine")
    head = [f"# {title}", "", f"{machine()['machine']}; {about}.", ""]
    text = "\n".join([*head, *(table.markdown() for table in tables)])
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    for table in tables:
        _write_csv(out / f"{name}-{table.name}.csv", table.rows)
    return text


def _write_csv(file: Path, rows: Sequence[Row]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=[*rows[0], *machine()])
        writer.writeheader()
        writer.writerows({**row, **machine()} for row in rows)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
