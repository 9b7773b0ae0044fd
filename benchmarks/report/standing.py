"""How `dipgo_fx` stands beside other methods where both have errors of the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.quality.comparing import Cell
from benchmarks.statistics import COMPARED, Comparison, Verdict

from .results import NAMES, OFF, OURS, cells
from .words import remarked, span

NO_INTERVAL = "no interval"


@dataclass(frozen=True)
class Pair:
    """One measure of `dipgo_fx` and another method in a cell."""

    cell: Cell
    method: str
    column: str
    comparison: Comparison

    @property
    def seeds(self) -> int:
        """How many both have."""
        return len(self.cell.seeds(self.method))


def own_cells() -> list[Cell]:
    """Return the cells in which the method of the tables was measured, and another one."""
    return [cell for cell in cells() if cell.ours == OURS and cell.others]


def cell_at(model: str, asked: float) -> Cell | None:
    """Return the cell of a model and a share, if it has `dipgo_fx`."""
    found = (cell for cell in own_cells() if cell.about.model == model)
    return next((cell for cell in found if abs(1 - cell.about.ratio_asked - asked) < 1e-6), None)


def pairs(cell: Cell, column: str) -> Iterator[Pair]:
    """Yield every other method that a measure can be compared with."""
    for method in cell.others:
        if (comparison := cell.versus(method, column)) is not None:
            yield Pair(cell, method, column, comparison)


def verdict_at(model: str, asked: float, column: str) -> Verdict | None:
    """Return whether `dipgo_fx` is ahead of all others there; `None` where nothing can be said."""
    cell = cell_at(model, asked)
    return None if cell is None else cell.verdict(column)


def verdict_on(model: str, asked: float, method: str, column: str) -> Verdict | None:
    """Return whether `dipgo_fx` is ahead of one method there; `None` where nothing can be said."""
    cell = cell_at(model, asked)
    pair = None if cell is None else cell.versus(method, column)
    return None if pair is None else pair.verdict


def told(column: str, comparison: Comparison | None) -> str:
    """Return the interval of a difference, as tables print it."""
    if comparison is None:
        return NO_INTERVAL
    digits, ends = COMPARED[column].digits, comparison.difference
    return f"{ends.low:+.{digits}f} to {ends.high:+.{digits}f}"


def kept_by(cell: Cell, method: str) -> str:
    """Say what a method kept of the MACs, if that is not what was asked for."""
    kept = [row.macs_kept for row in cell.rows[method].values() if row.macs_kept is not None]
    if all(abs(each - (1 - cell.about.ratio_asked)) <= OFF for each in kept):
        return ""
    return f"keeps {span((100 * each for each in kept), 0)}%"


def place(cell: Cell, seeds: int) -> list[str]:
    """Return model and share of a cell, with the seeds that something is of."""
    about = cell.about
    return [NAMES[about.model], remarked(f"{1 - about.ratio_asked:.0%}", f"{seeds} seed{'s' * (seeds > 1)}")]
