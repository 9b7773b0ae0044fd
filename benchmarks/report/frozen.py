"""Blocks on the frozen test: a model and images that no choice was ever made on, measured once."""

from __future__ import annotations

from benchmarks.quality.comparing import Cell
from benchmarks.tables import RESULTS

from . import elsewhere
from .few_steps import best_other, counted
from .quality import verdicts
from .results import cells_in
from .words import listed, wrapped

DEAREST = "learned sampler"
"""Of the others, and mostly the best of them: cells are counted once it is measured."""


def frozen_cells() -> list[Cell]:
    """Return its cells, as far as they are measured."""
    return [cell for cell in cells_in(RESULTS / "frozen") if best_other(cell)]


def counted_cells() -> list[Cell]:
    """Return those that are measured to the end."""
    return [cell for cell in frozen_cells() if DEAREST in cell.others]


def table() -> str:
    """Table by steps and share; nothing where nothing was measured."""
    return elsewhere.table_of(frozen_cells())


def verdict() -> str:
    """In how many cells ours is ahead of all others, by measure; nothing where nothing was measured."""
    cells = counted_cells()
    return verdicts(cells) if cells else ""


def summary() -> str:
    """Say in how many cells ours is ahead; nothing where nothing was measured."""
    cells = counted_cells()
    if not cells:
        return ""
    steps = listed(sorted({cell.about.steps for cell in cells}))
    found = counted(map(best_other, cells), "the best other method")
    return wrapped(
        f"On a model and images that no choice was made on, measured once, at {steps} steps, PSNR of all "
        f"images together, by 95% intervals of paired differences: {found}."
    )
