"""Blocks on how far to go: the share of the MACs from which on nearly all images stay close."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import trainings
from benchmarks.quality.comparing import Cell
from benchmarks.reference.models import WEIGHTS
from benchmarks.tables import RESULTS, grid, grouped

from .few_steps import FEW
from .results import NAMES, cells_in, every_cell
from .words import listed, percent, span, wrapped

CLOSE = 30.0  # dB, of the lowest 5% of single images
ABOUT = (
    "The least measured share of the MACs from which on 19 of 20 images have a PSNR of "
    f"{CLOSE:.0f} dB or more to the unpruned ones, at every seed measured. All that `dipgo_fx` has of a loop "
    "and seed is from one search at ratio 0.8 or, where there is none, from a search for each share."
)
Loop = tuple[str, str, int, float]  # model, sampler, steps, guidance
NO_GUIDANCE = 0.0


def loops() -> dict[Loop, list[Cell]]:
    """Return the cells in which our search was measured, by loop."""
    known = trainings.read(WEIGHTS)

    def loop_of(cell: Cell) -> Loop:
        about = cell.about
        own = known.get(about.model, {}).get("guidance", NO_GUIDANCE)
        guidance = own if about.guidance is None else about.guidance
        return about.model, about.scheduler, about.steps, guidance

    cells = [*every_cell(), *cells_in(RESULTS / "frozen")]
    return grouped((cell for cell in cells if cell.ours), loop_of)


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
        about = [NAMES[model], scheduler, str(steps), words(guidance), span(seeds, 0)]
        lines.append([*about, ", ".join(shares), told])
    header = ("model", "sampler", "steps", "guidance", "seeds", "measured at", "close from")
    return f"{wrapped(ABOUT)}\n\n{grid(header, lines)}"


def sentence() -> str:
    """Say it of loops of more than a few steps, by guidance."""
    many = {loop: cells for loop, cells in loops().items() if loop[2] > FEW}
    groups = grouped(many, lambda loop: loop[3])
    told = [told_of([many[loop] for loop in groups[guidance]], guidance) for guidance in sorted(groups)]
    return (
        f"**How far to go**: 19 of 20 images have a PSNR of {CLOSE:.0f} dB or more to the unpruned ones, at "
        f"every seed, from these shares of the MACs on, the least of those measured: {'; '.join(told)}."
    )


def told_of(group: Sequence[Sequence[Cell]], guidance: float) -> str:
    """Return the shares of loops of one guidance."""
    shares = [100 * share for cells in group if (share := least(cells)) is not None]
    steps = listed(sorted({cells[0].about.steps for cells in group}))
    enough = f"{span(shares, 0)}%" if len(shares) == len(group) else "not everywhere"
    models = listed(dict.fromkeys(NAMES[cells[0].about.model] for cells in group))
    scale = f", guidance {guidance:g}" if guidance else " without guidance"
    return f"{enough} at {steps} steps{scale} ({models})"


def words(guidance: float) -> str:
    """Return a scale of guidance as text."""
    return f"{guidance:g}" if guidance else "none"
