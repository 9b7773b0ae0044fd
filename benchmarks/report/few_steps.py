"""Blocks on loops of few steps: the best other method, ours, and ours without blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from benchmarks.plans import DEFAULT, PLACED_WHOLE_STEPS, WHOLE_STEPS
from benchmarks.quality.comparing import Cell
from benchmarks.statistics import Comparison
from benchmarks.tables import grid, grouped

from .quality import CACHES
from .results import LABELS, NAMES, every_cell
from .standing import kept_by, told
from .words import listed, out_of, percent, remarked, wrapped

FEW = 10  # steps
SCORE = "psnr_db"
WHOLE = (WHOLE_STEPS.name, PLACED_WHOLE_STEPS.name)  # of the frontier, and placed for the share


def model_of(cell: Cell) -> str:
    """Return the name of a cell's model."""
    return NAMES[cell.about.model]


def few_cells() -> list[Cell]:
    """Return the cells of few steps in which our search was measured beside something else."""
    few = [cell for cell in every_cell() if cell.about.steps <= FEW and ours_in(cell)]
    found = [cell for cell in few if best_other(cell) or beside_whole_steps(cell)]
    return [cell for cell in found if not any(is_again(cell, other) for other in found)]


def is_again(cell: Cell, smaller: Cell) -> bool:
    """Whether everybody does the same at a smaller share, as no plan can use what is between."""
    one, other = cell.about, smaller.about
    return (
        (one.model, one.scheduler, one.steps, one.guidance)
        == (other.model, other.scheduler, other.steps, other.guidance)
        and one.ratio_asked < other.ratio_asked
        and best_other(cell) == best_other(smaller)
    )


def ours_in(cell: Cell) -> str | None:
    """Return the method that is ours: a search for the share, as a frontier has no blocks for others."""
    return DEFAULT.name if DEFAULT.name in cell.errors else cell.ours


def best_other(cell: Cell) -> tuple[str, Comparison] | None:
    """Return the other method of the highest PSNR, over the seeds that both have, and ours beside it."""
    return best_of(cell, cell.others)


def beside_whole_steps(cell: Cell) -> tuple[str, Comparison] | None:
    """Return the better way to a plan of whole steps only, and ours beside it."""
    return best_of(cell, WHOLE)


def best_of(cell: Cell, names: Iterable[str]) -> tuple[str, Comparison] | None:
    """Return the method of the highest PSNR among some, and ours beside it."""
    ours = ours_in(cell) or ""
    found = [(name, pair) for name in names if (pair := cell.between(ours, name, SCORE))]
    return max(found, key=lambda item: item[1].other, default=None)


def table() -> str:
    """Table by model, sampler, steps and share; nothing where nothing was measured."""
    cells = few_cells()
    columns = ("best other", "`dipgo_fx`", "minus the best other", "whole steps only", "minus whole steps")
    about = ("model", "sampler", "steps", "MACs asked", "seeds")
    return grid([*about, *columns], map(line, cells)) if cells else ""


def line(cell: Cell) -> list[str]:
    """Return a line of the table: PSNR in dB of all images together, and paired intervals."""
    about, other, whole = cell.about, best_other(cell), beside_whole_steps(cell)
    either = other or whole
    assert either is not None  # see few_cells
    name, pair = either
    seeds = cell.seeds_of_both(ours_in(cell) or "", name)
    head = [NAMES[about.model], about.scheduler, str(about.steps), percent(1 - about.ratio_asked)]
    return [
        *(*head, str(len(seeds))),
        remarked(f"{other[1].other:.1f}", LABELS.get(other[0], other[0]), kept_by(cell, other[0]))
        if other
        else "",
        remarked(f"{pair.ours:.1f}", kept_by(cell, ours_in(cell) or "")),
        judged(other),
        f"{whole[1].other:.1f}" if whole else "",
        judged(whole),
    ]


def judged(found: tuple[str, Comparison] | None) -> str:
    """Return an interval and what it says."""
    return "" if found is None else f"{told(SCORE, found[1])}, {found[1].verdict}"


def summary() -> str:
    """Say in how many cells ours is ahead; nothing where nothing was measured."""
    return wrapped(sentence()) if few_cells() else ""


def sentence() -> str:
    """Say in how many of the measured cells ours is ahead."""
    cells = few_cells()
    steps = listed(sorted({cell.about.steps for cell in cells}))
    text = f"At {steps} steps, {caches_among(cells)}: "
    told_of = (
        counted(map(best_other, cells), "the best other method"),
        counted(map(beside_whole_steps, cells), "the best plan of whole steps only"),
    )
    return f"{text}{'; '.join(filter(None, told_of))}."


def caches_among(cells: Iterable[Cell], name: Callable[[Cell], str] = model_of) -> str:
    """Say on which models, or what else cells are named by, caches are among the others."""
    groups = grouped(cells, name)
    having = [
        which for which, own in groups.items() if any(not set(CACHES).isdisjoint(cell.others) for cell in own)
    ]
    if not having:
        return "without caches among the others"
    where = " among the others" if len(having) == len(groups) else f" only on the {listed(having)}"
    return f"with caches{where}"


def counted(found: Iterable[tuple[str, Comparison] | None], other: str) -> str:
    """Say how often ours is ahead of another and behind it; nothing where they were not compared."""
    verdicts = Counter(each[1].verdict for each in found if each)
    if not verdicts:
        return ""
    ahead = out_of(verdicts["won"], verdicts.total())
    return f"`dipgo_fx` is ahead of {other} in {ahead} cells and behind it in {verdicts['lost'] or 'none'}"
