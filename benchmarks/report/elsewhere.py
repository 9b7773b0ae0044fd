"""Other loops than the tables' own: stronger guidance, other samplers, other step counts that are not few."""

from __future__ import annotations

from benchmarks.quality.comparing import Cell
from benchmarks.tables import grid

from .few_steps import FEW, SCORE, best_other, caches_among, counted, judged, ours_in
from .results import FEWER, LABELS, NAMES, every_cell, guidance_of, is_of_the_tables, strength
from .standing import kept_by
from .words import percent, remarked, span, wrapped


def other_cells() -> list[Cell]:
    """Return the cells of such loops in which our search was measured beside something else."""
    found = [cell for cell in every_cell() if cell.about.steps > FEW and not is_of_the_tables(cell.about)]
    return [cell for cell in found if ours_in(cell) and best_other(cell)]


def table() -> str:
    """Table of other loops; nothing where nothing was measured."""
    return table_of(other_cells())


def table_of(cells: list[Cell]) -> str:
    """Table by model, sampler, steps, guidance and share; nothing without cells."""
    about = ("model", "sampler", "steps", "guidance", "MACs asked", "seeds")
    columns = ("fewer steps", "best other", "`dipgo_fx`", "minus the best other")
    return grid([*about, *columns], map(line, cells)) if cells else ""


def line(cell: Cell) -> list[str]:
    """Return a line of the table: PSNR in dB of all images together, and a paired interval."""
    about, other = cell.about, best_other(cell)
    assert other is not None  # see other_cells
    name, pair = other
    ours = ours_in(cell) or ""
    fewer = cell.between(ours, FEWER, SCORE)
    guidance = strength(guidance_of(about))
    return [
        *(NAMES[about.model], about.scheduler, str(about.steps), guidance, percent(1 - about.ratio_asked)),
        str(len(cell.seeds_of_both(ours, name))),
        f"{fewer.other:.1f}" if fewer else "",
        remarked(f"{pair.other:.1f}", LABELS.get(name, name), kept_by(cell, name)),
        remarked(f"{pair.ours:.1f}", kept_by(cell, ours)),
        judged(other),
    ]


def summary() -> str:
    """Say in how many cells ours is ahead; nothing where nothing was measured."""
    cells = other_cells()
    if not cells:
        return ""
    told = "; ".join(dict.fromkeys(map(settings, cells)))
    seeds = span([len(cell.rows[ours_in(cell) or ""]) for cell in cells], 0)
    found = counted(map(best_other, cells), "the best other method")
    return wrapped(
        f"In {len({*map(loop_of, cells)})} other loops ({told}; searches of each: {seeds}), "
        f"{caches_among(cells, loop_of)}: {found}."
    )


def loop_of(cell: Cell) -> str:
    """Return the loop of a cell in words."""
    return f"{NAMES[cell.about.model]}, {settings(cell)}"


def settings(cell: Cell) -> str:
    """Return how a loop is run, by DDIM if no sampler is told."""
    about = cell.about
    sampler = "" if about.scheduler == "DDIM" else f"{about.scheduler}, "
    guidance = "" if about.guidance is None else f", guidance {about.guidance:g}"
    return f"{sampler}{about.steps} steps{guidance}"
