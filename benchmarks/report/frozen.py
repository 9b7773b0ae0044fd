"""Blocks on the frozen test: a model and images that no choice was ever made on, measured once."""

from __future__ import annotations

from benchmarks.quality.comparing import Cell
from benchmarks.tables import RESULTS, grid

from . import elsewhere
from .few_steps import best_other, caches_among, counted
from .quality import verdicts
from .results import LABELS, cells_in
from .standing import told
from .words import listed, percent, remarked, span, wrapped

DEAREST = "learned sampler"
"""Of the others, and mostly the best of them: cells are counted once it is measured."""


def frozen_cells() -> list[Cell]:
    """Return its cells, as far as they are measured."""
    return [cell for cell in cells_in(RESULTS / "frozen") if best_other(cell)]


def counted_cells() -> list[Cell]:
    """Return those that are measured to the end."""
    return [cell for cell in frozen_cells() if DEAREST in cell.others]


def table() -> str:
    """Tables by steps and share; nothing where nothing was measured."""
    cells = frozen_cells()
    return f"{elsewhere.table_of(cells)}\n\n{likeness(cells)}" if cells else ""


def likeness(cells: list[Cell]) -> str:
    """Table of SSIM, which PSNR says little of: the best other and ours."""
    lines = []
    for cell in cells:
        pairs = {name: pair for name in cell.others if (pair := cell.versus(name, "ssim"))}
        best, pair = max(pairs.items(), key=lambda item: item[1].other)
        about = [str(cell.about.steps), percent(1 - cell.about.ratio_asked)]
        other = remarked(f"{pair.other:.3f}", LABELS.get(best, best))
        lines.append([*about, other, f"{pair.ours:.3f}", f"{told('ssim', pair)}, {pair.verdict}"])
    return grid(
        ["steps", "MACs asked", "SSIM, best other", "SSIM, `dipgo_fx`", "minus the best other"], lines
    )


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
    seeds = span({len(cell.seeds_of_both(cell.ours, DEAREST)) for cell in cells}, 0)
    return wrapped(
        f"On a model and images that no choice was made on (the frozen test), at {steps} steps, "
        f"{seeds} seeds each, {caches_among(cells)}: {found}."
    )
