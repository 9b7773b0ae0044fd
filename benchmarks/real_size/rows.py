"""The rows of speed.csv: what is in them, and how those of an earlier run are kept."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import Row, Section, Table, grouped, machine

FILE = "speed.csv"
COLUMNS = (
    "model",
    "device",
    "dtype",
    "steps",
    "batch",
    "method",
    "ratio_asked",
    "macs_kept",
    "seconds_median",
    "seconds_min",
    "speedup",
    "efficiency",
    "peak_bytes",
    "compile_seconds",
    "graph_breaks",
    "recompiles",
    "max_abs_diff",
    "error",
)
SETTING = COLUMNS[:5]
"""What one table has in common."""
MORE = ("rounds", "clock")
"""How it was timed."""
KEY = (*SETTING, "method", "ratio_asked")
"""What makes two rows the same measurement."""
NOTE = (
    "Random weights; contestants in one process, in turns. `speedup`: over the eager loop of the same kind "
    "(plain, under guidance, compiled in the same way), median over rounds; `efficiency`: speed-up x share "
    "of MACs, asked 0.97 of whole steps and 0.95 of partial ones. `peak_bytes`: alive at once beside weights "
    "and inputs, in a run of its own. `compile_seconds`: first run less a later one. `max_abs_diff`: to what "
    "must be equal, the eager loop or the package's result; of a compiled loop to the same one uncompiled, "
    "which rounds otherwise. A GPU with one sample waits for Python in all but the largest models, so times "
    "scatter there."
)


def speed_row(**cells: Any) -> Row:
    """Return a row; what is not given is blank, numbers are rounded to what a clock tells."""
    unknown = set(cells) - {*COLUMNS, *MORE}
    if unknown:
        raise KeyError(f"speed.csv has no column {sorted(unknown)}")
    return {name: _rounded(cells.get(name)) for name in (*COLUMNS, *MORE)} | machine()


def read_rows(out: Path) -> list[Row]:
    """Return the rows that are there."""
    file = out / FILE
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def merge_rows(out: Path, new: Iterable[Row]) -> list[Row]:
    """Write rows in place of earlier ones of the same measurement, keep all others, and return all."""
    rows = {_key(row): row for row in read_rows(out)}
    rows |= {_key(row): row for row in new}
    together = [row for own in grouped(rows.values(), _setting).values() for row in own]
    out.mkdir(parents=True, exist_ok=True)
    draft = out / f"{FILE}.draft"  # a run that stops in the middle leaves the file as it was
    with draft.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=[*COLUMNS, *MORE, *machine()])
        writer.writeheader()
        writer.writerows(together)
    draft.replace(out / FILE)
    return read_rows(out)


def speed_section(rows: Sequence[Row]) -> list[Section]:
    """Return a table for each model, device and loop length, of the columns in which something is told."""
    tables = [_table(own) for own in grouped(rows, _setting).values()]
    return [Section("Speed", tables, NOTE)] if tables else []


def _table(rows: Sequence[Row]) -> Table:
    about = rows[0]
    told = [name for name in COLUMNS if name not in SETTING and any(row[name] for row in rows)]
    title = "{model}, {steps} steps, batch {batch}, {dtype} on {device}".format_map(about)
    timed = {name: ", ".join(sorted({str(row[name]) for row in rows})) for name in MORE}
    machines = ", ".join(sorted({str(row["machine"]) for row in rows}))
    note = "Rounds: {rounds}; seconds by the clock: {clock}. On ".format_map(timed) + f"{machines}."
    return Table(title, [{name: row[name] for name in told} for row in rows], note)


def _setting(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in SETTING)


def _key(row: Row) -> tuple[str, ...]:
    return tuple("" if row[name] is None else str(row[name]) for name in KEY)


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) and abs(value) >= 1e-3 else value
