"""Blocks on how far to go: the share of the MACs from which on nearly all images stay close."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.quality.comparing import Cell
from benchmarks.tables import RESULTS, grid, grouped

from .few_steps import FEW
from .results import NAMES, cells_in, every_cell, guidance_of, strength
from .words import listed, percent, remarked, span, wrapped

CLOSE = 30.0  # dB, of the lowest 5% of single images
ABOUT = (
    "The least measured share of the MACs from which on 19 of 20 images have a PSNR of "
    f"{CLOSE:.0f} dB or more to the unpruned ones, at every seed measured. All that `dipgo_fx` has of a loop "
    "and seed is from one search at ratio 0.8 or, where there is none, from a search for each share."
)
Loop = tuple[str, str, int, float]  # model, sampler, steps, guidance


def loops() -> dict[Loop, list[Cell]]:
    """Return the cells in which our search was measured, by loop."""
    cells = [cell for cell in (*every_cell(), *cells_in(RESULTS / "frozen")) if cell.ours]
    return grouped(cells, lambda c: (c.about.model, c.about.scheduler, c.about.steps, guidance_of(c.about)))


def least(cells: Sequence[Cell]) -> float | None:
    """Return the least of the measured shares of the MACs that is close, as all larger ones are."""
    found = None
    for cell in sorted(cells, key=lambda cell: cell.about.ratio_asked):
        if not is_close(cell):
            break
        found = kept(cell)
    return found


def kept(cell: Cell) -> float:
    """Return the share of the MACs that ours keeps, the most of its seeds."""
    return max(row.macs_kept or 1.0 for row in cell.rows[cell.ours or ""].values())


def is_close(cell: Cell) -> bool:
    """Whether the lowest 5% of images are close at every seed."""
    rows = cell.rows[cell.ours or ""].values()
    return all(row.psnr_low_db is not None and row.psnr_low_db >= CLOSE for row in rows)


def table() -> str:
    """Table by loop."""
    lines = []
    for (model, scheduler, steps, guidance), cells in loops().items():
        shares = [f"{share:.0%}" for share in sorted({kept(cell) for cell in cells}, reverse=True)]
        seeds = {len(cell.rows[cell.ours or ""]) for cell in cells}
        enough = least(cells)
        told = "none measured" if enough is None else percent(enough)
        about = [NAMES[model], scheduler, str(steps), strength(guidance), span(seeds, 0)]
        lines.append([*about, ", ".join(shares), told])
    header = ("model", "sampler", "steps", "guidance", "seeds", "measured at", "close from")
    return f"{wrapped(ABOUT)}\n\n{grid(header, lines)}"


def sentence() -> str:
    """Say it of all loops, by guidance and steps."""
    found = {loop: least(cells) for loop, cells in loops().items()}
    few = [loop for loop in found if loop[2] <= FEW]
    told = []
    for guidance, own in sorted(grouped((set(found) - set(few)), lambda loop: loop[3]).items()):
        by_steps = grouped(own, lambda loop: loop[2])
        shares = {steps: reached([found[loop] for loop in by_steps[steps]]) for steps in sorted(by_steps)}
        alike = grouped(shares, shares.__getitem__)
        shown = listed(f"{share} at {listed(steps)}" for share, steps in alike.items())
        told.append(f"{f'guidance {guidance:g}' if guidance else 'no guidance'} {shown} steps")
    if few:
        steps = listed(sorted({loop[2] for loop in few}))
        told.append(f"at {steps} steps {reached([found[loop] for loop in few])}")
    return (
        f"**How far to go**: 19 of 20 images have a PSNR of {CLOSE:.0f} dB or more to the unpruned ones, at "
        f"every seed, from these shares of the MACs on, the least of those measured: {'; '.join(told)}."
    )


def reached(shares: Sequence[float | None]) -> str:
    """Return the shares of some loops, and in how many there is none."""
    there = [100 * share for share in shares if share is not None]
    if not there:
        return "no share"
    count = len(shares) - len(there)
    return remarked(f"{span(there, 0)}%", f"none in {count} of {len(shares)} loops" if count else "")
