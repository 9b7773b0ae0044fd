"""Blocks for the first page: what a plan costs and gives, and where it is behind, each in a sentence."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from benchmarks.quality.comparing import Cell
from benchmarks.statistics import COMPARED
from benchmarks.tables import grid, grouped

from . import costs, elsewhere, enough, few_steps, frozen, real_size
from .quality import COLUMNS
from .results import ASKED, FEWER, LEARNED, NAMES, OURS, Score, chosen, numbers, read, scores
from .standing import own_cells
from .words import bullets, listed, out_of, percent, remarked, span

SCORE = "psnr_db"
SOLVERS = COLUMNS["stock solver"]


def price() -> str:
    """What a search costs, how much faster its plans are, and what they do to images."""
    return f"{bullets(search, speed, enough.sentence, images)}\n\n{images_table()}"


def search() -> str:
    """What one search spends."""
    ours = [score for score in scores() if score.method == OURS]
    timed = [score for score in ours if "search_seconds" in score.values]
    seconds = {s.model: s.values["search_seconds"] for s in timed}
    (apart,) = numbers(chosen(read("search_cost-runs-digits-dit"), steps="20"), "seconds")
    seconds["digits-dit"] = apart
    told = [f"{each:.0f} seconds ({NAMES[model]})" for model, each in sorted(seconds.items())]
    return (
        f"**Search**, once: {span(s.values['search_full_runs'] for s in ours)} unpruned runs of its "
        f"{span(numbers(read('quality-sets'), 'search'), 0)} samples, where it was timed {listed(told)} on "
        "one CPU thread. It serves every ratio."
    )


def images() -> str:
    """What the table below is of."""
    first = [score for score in scores() if score.seed == 0]
    return (
        "**Images** change. PSNR in dB to the unpruned ones of the same noise, all together and not clamped; "
        f"{len(models(first))} small models, 20 steps of DDIM, the first seed. *Higher on* counts the models "
        "on which a column is above `dipgo_fx`:"
    )


def images_table() -> str:
    """Table of how far pruned images are from unpruned ones, beside fewer steps and learned samplers."""
    first = [score for score in scores() if score.seed == 0 and SCORE in score.values]
    header = ["MACs left", "`dipgo_fx`", "fewer steps", "stock solvers", "our own learned samplers"]
    return grid(header, ([percent(asked), *at_share(first, asked)] for asked in ASKED))


def models(found: Iterable[Score]) -> set[str]:
    """Return whose scores they are."""
    return {score.model for score in found}


def at_share(found: Iterable[Score], asked: float) -> list[str]:
    """Return the spans over models at a share of the MACs, and on how many a group is ahead of ours."""
    own = [score for score in found if score.asked == asked]
    ours, *others = (highest(own, names) for names in ((OURS,), (FEWER,), SOLVERS, LEARNED))
    higher = [sum(value > ours.get(model, math.inf) for model, value in each.items()) for each in others]
    told = [
        remarked(span(each.values()), f"higher on {count}" if count else "")
        for each, count in zip(others, higher, strict=True)
    ]
    return [span(ours.values()), *told]


def highest(found: Iterable[Score], methods: Collection[str]) -> dict[str, float]:
    """Return the highest value that some methods have, by model."""
    by_model = grouped((s for s in found if s.method in methods), lambda s: s.model)
    return {model: max(s.values[SCORE] for s in own) for model, own in by_model.items()}


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
    """Where it is behind: other methods, few steps, speed."""
    few = [few_steps.sentence] if few_steps.few_cells() else []
    return bullets(lost, *few, slow)


def lost() -> str:
    """Name the cells that are lost, by measure."""
    told = []
    for name, measure in COMPARED.items():
        lost_in = [cell for cell in own_cells() if cell.verdict(name) == "lost"]
        if lost_in:
            told.append(f"{measure.title} ({places(lost_in)})")
    return f"Lost in the table above: {listed(told)}." if told else "No cell of the table above is lost."


def places(cells: Iterable[Cell]) -> str:
    """Return models and shares of cells, for a sentence."""
    shares = grouped(cells, lambda cell: NAMES[cell.about.model])
    return ", ".join(
        f"{model} at {listed(percent(1 - cell.about.ratio_asked) for cell in own)}"
        for model, own in shares.items()
    )


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
