"""The page of the coverage: counts, then every class with what holds of it and why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.tables import Part, Table, grouped

from .checks import CHECKS
from .rows import Row, holds

TITLE = "Which models, schedulers and pipelines of diffusers run by a plan"
GUIDE = (
    "Each class is checked in a tiny version of a stock pipeline with random weights, which runs through "
    "its own `__call__`. `traced`: the graph of a call returns what the denoiser returns, bit for bit. "
    "`enabled`: a run by a random plan equals one whose blocks are skipped by hand, bit for bit, and "
    "`disable` leaves nothing behind. `compiled`: every step is one graph for "
    "`torch.compile(fullgraph=True)` (what a backend makes of it is not looked at). `searchable`: the "
    "whole loop is one graph for any number of samples and ends with the pipeline's own latents, so that "
    "`prune_pipeline` can search on it; models that are not can be searched by `prune(model, scheduler)` "
    "where their inputs have a row a sample, and run any plan. A class counts where one of its pipelines "
    "does."
)
KINDS: dict[str, tuple[str, Callable[[Row], str]]] = {
    "pipelines": ("pipeline", lambda row: row.name),
    "denoisers": ("denoiser", lambda row: row.name if row.kind == "denoiser" else row.denoiser),
    "schedulers": ("scheduler", lambda row: row.name),
}


def of_kind(rows: Sequence[Row], kind: str) -> list[Row]:
    """Return the rows that say something of the classes of a kind."""
    if kind == "denoisers":
        return [row for row in rows if row.kind == "denoiser" or (row.kind == "pipeline" and row.denoiser)]
    return [row for row in rows if row.kind == KINDS[kind][0]]


def parts(rows: Sequence[Row]) -> list[Part]:
    """Return the tables of the page."""
    return [counts(rows), *(table for kind in KINDS for table in of_classes(rows, kind))]


def counts(rows: Sequence[Row]) -> Table:
    """Return how many classes there are, and of how many each check holds."""
    lines = []
    for kind, (_, name_of) in KINDS.items():
        own = of_kind(rows, kind)
        found = {check: sum(holds(own, name_of, check).values()) for check in ("built", *CHECKS)}
        lines.append({"kind": kind, "classes": len({name_of(row) for row in own}), **found})
    return Table("Counts", lines, "`built`: there is a tiny pipeline with it.", "counts")


def of_classes(rows: Sequence[Row], kind: str) -> list[Table]:
    """Return a table of the classes that were built, and one of the others."""
    title, name_of = KINDS[kind]
    groups = grouped(of_kind(rows, kind), name_of)
    is_built = holds(of_kind(rows, kind), name_of, "built")
    built = {name: own for name, own in groups.items() if is_built[name]}
    absent = {name: own for name, own in groups.items() if name not in built}
    tables = [Table(f"{kind.capitalize()}", [_line(title, name, own) for name, own in sorted(built.items())])]
    if absent:
        lines = [{title: name, "why": own[0].failure} for name, own in sorted(absent.items())]
        tables.append(Table(f"{kind.capitalize()} without a tiny pipeline", lines))
    return tables


def _line(title: str, name: str, rows: Sequence[Row]) -> dict[str, Any]:
    checks = {
        check: "yes" if any(row.check == check and not row.failure for row in rows) else "no"
        for check in CHECKS
    }
    failed = [row for row in rows if row.failure and checks.get(row.check) == "no"]
    reasons = dict.fromkeys(row.failure for row in failed)
    cases = dict.fromkeys(row.case for row in rows if row.case)
    return {title: name, "tiny pipelines": ", ".join(cases), **checks, "why not": "; ".join(reasons)}
