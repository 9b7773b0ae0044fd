"""Blocks for the first page: what a plan costs and gives, and where it is behind, each in a sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from benchmarks.quality.comparing import Cell
from benchmarks.statistics import COMPARED
from benchmarks.tables import grid, grouped

from . import costs, elsewhere, enough, few_steps, frozen, real_size
from .results import ASKED, FEWER, LEARNED, NAMES, OURS, Score, numbers, read, scores
from .standing import own_cells, verdict_on
from .words import bullets, listed, out_of, percent, span

SCORE = "psnr_db"


def price() -> str:
    """What a search costs, how much faster its plans are, and what they do to images."""
    return f"{bullets(search, speed, enough.sentence, images)}\n\n{images_table()}"


def search() -> str:
    """What one search spends."""
    ours = [score.values for score in scores() if score.method == OURS]
    seconds = [values["search_seconds"] for values in ours if "search_seconds" in values]
    return (
        f"**Search**, once: {span(values['search_full_runs'] for values in ours)} unpruned runs of its "
        f"{span(numbers(read('quality-sets'), 'search'), 0)} samples; on the small models of the benchmarks "
        f"that took {span(seconds, 0)} seconds on a CPU, where it was timed. It serves every ratio."
    )


def images() -> str:
    """What the table below is of."""
    first = [score for score in scores() if score.seed == 0]
    return (
        f"**Images** change. PSNR in dB to the unpruned ones of the same noise, on {len(models(first))} "
        "small models at 20 steps of DDIM, the first seed; higher is closer:"
    )


def images_table() -> str:
    """Table of how far pruned images are from unpruned ones, beside fewer steps and learned samplers."""
    first = [score for score in scores() if score.seed == 0 and SCORE in score.values]
    learned = models(score for score in first if score.method in LEARNED)
    header = [
        "MACs left",
        "`dipgo_fx`",
        "fewer steps",
        f"a learned sampler of our own ({len(learned)} models)",
    ]
    return grid(header, ([percent(asked), *at_share(first, asked)] for asked in ASKED))


def models(found: Iterable[Score]) -> set[str]:
    """Return whose scores they are."""
    return {score.model for score in found}


def at_share(found: Iterable[Score], asked: float) -> list[str]:
    """Return the spans over models at a share of the MACs."""
    own = [score for score in found if score.asked == asked]
    return [highest(own, names) for names in ((OURS,), (FEWER,), LEARNED)]


def highest(found: Iterable[Score], methods: Collection[str]) -> str:
    """Return the span over models of the highest value that some methods have."""
    by_model = grouped((s for s in found if s.method in methods), lambda s: s.model)
    return span(max(s.values[SCORE] for s in own) for own in by_model.values())


def speed() -> str:
    """How much faster loops are."""
    rows = [row for name in ("dit", "unet") for row in read(f"speed-wall-{name}")]
    return (
        "**Time** follows MACs on one CPU thread: at ratio 0.8 plans of whole steps run "
        f"{costs.faster(rows, 'whole steps', '0.8')} times as fast on two small models."
    )


def beyond() -> str:
    """Where no choice was made, and in other loops than the tables'."""
    return "\n\n".join(filter(None, (frozen.summary(), elsewhere.summary())))


def behind() -> str:
    """Where it is behind: other methods, few steps, other step counts, speed."""
    few = [few_steps.sentence] if few_steps.few_cells() else []
    return bullets(lost, *few, costs.step_counts, slow)


def lost() -> str:
    """Name the cells that are lost, by PSNR of all images together."""
    cells = own_cells()
    behind = [f"{place(cell)} ({listed(ahead_in(cell))})" for cell in cells if cell.verdict(SCORE) == "lost"]
    title = COMPARED[SCORE].title
    return (
        f"{title}, lost to the method in brackets: {listed(behind)}."
        if behind
        else f"{title}: no cell is lost."
    )


def ahead_in(cell: Cell) -> list[str]:
    """Return the methods that are ahead of ours in a cell."""
    about = cell.about
    asked = 1 - about.ratio_asked
    return [name for name in cell.others if verdict_on(about.model, asked, name, SCORE) == "lost"]


def place(cell: Cell) -> str:
    """Return model and share of a cell, for a sentence."""
    return f"{NAMES[cell.about.model]} at {percent(1 - cell.about.ratio_asked)}"


def slow() -> str:
    """How many loops at full width are slower than was asked, and the slowest."""
    rows = [row for row in real_size.timed(read("speed")) if real_size.asked_of(row)]
    short = sorted(real_size.shortfalls(rows), key=lambda item: item[1] / item[2])
    text = (
        f"At full width, with random weights, {out_of(len(short), len(rows))} loops reach less of the "
        "speed-up that MACs promise than was asked"
    )
    if not short:
        return f"{text}."
    name, value, asked = short[0]
    return f"{text}, at worst {value:.2f} instead of {asked:g} ({name})."
