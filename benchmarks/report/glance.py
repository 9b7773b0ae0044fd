"""Blocks for the first page: what a plan costs and gives, and where it is behind, each in a sentence."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from benchmarks.statistics import COMPARED
from benchmarks.tables import grid, grouped

from . import costs, elsewhere, enough, few_steps, frozen, real_size
from .quality import CACHES, COLUMNS
from .results import ASKED, FEWER, LEARNED, NAMES, OURS, Row, Score, chosen, numbers, read, scores
from .standing import own_cells
from .words import bullets, listed, out_of, percent, remarked, span, wrapped

SCORE, CONVERGED = "psnr_db", "converged_psnr_db"
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
    told = [f"{each:.0f} seconds for the {NAMES[model]}" for model, each in sorted(seconds.items())]
    count, _ = costs.searches()
    usual, quick = (f"{round(count[each], -1):,.0f}" for each in (costs.USUAL, costs.QUICK))
    return (
        f"**Search**, once, costs as much as {usual} images ({listed(told)} on one CPU thread), a [quick one]"
        f"(dipgo_fx/GUIDE.md#prune-your-pipeline) {quick}. Plans for other ratios come with it, fitted with "
        "less care."
    )


def images() -> str:
    """What the table below is of."""
    first = [score for score in scores() if score.seed == 0]
    return (
        "**Images** change. PSNR in dB to the unpruned ones of the same noise, all together and not clamped; "
        f"{len(models(first))} small models, 20 steps of DDIM, the first seed. *Higher on* counts the models "
        "on which a column is above `dipgo_fx`; learned samplers are code of the benchmarks only:"
    )


def images_table() -> str:
    """Table of how far pruned images are from unpruned ones, beside what a user would do instead."""
    first = [score for score in scores() if score.seed == 0 and SCORE in score.values]
    header = ["MACs left", "`dipgo_fx`", "fewer steps", "stock solvers", "caches", "our own learned samplers"]
    return grid(header, ([percent(asked), *at_share(first, asked)] for asked in ASKED))


def models(found: Iterable[Score]) -> set[str]:
    """Return whose scores they are."""
    return {score.model for score in found}


def at_share(found: Iterable[Score], asked: float) -> list[str]:
    """Return the spans over models at a share of the MACs, and on how many a group is ahead of ours."""
    own = [score for score in found if score.asked == asked]
    ours, *others = (highest(own, names) for names in ((OURS,), (FEWER,), SOLVERS, CACHES, LEARNED))
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
    large = [row for row in real_size.timed(read("speed")) if row["device"] != "cpu"]
    alone, guided = (
        chosen(large, method=f"{calls}whole steps", ratio_asked="0.8")
        for calls in ("", "guidance, one call, ")
    )
    half = chosen(large, method=real_size.HALF_JOINED)
    where = listed(dict.fromkeys(real_size.place(row).partition(",")[0] for row in alone))
    small = costs.loops(rows, "whole steps", "0.8")
    return (
        "**Time** follows MACs where a step is one call of the model: at ratio 0.8 plans of whole steps run "
        f"{span(numbers(small, 'speed-up'))} times as fast on one CPU thread (two small models), "
        f"{span(numbers(alone, 'speedup'))} on {where} ({names(alone)}, batch 1); under guidance "
        f"{span(numbers(guided, 'speedup'))} there, but half a step saves little: without half of the "
        f"unconditional ones {span(numbers(half, 'speedup'), 2)} instead of the "
        f"{span([1 / kept for kept in numbers(half, 'macs_kept')], 2)} that MACs promise."
    )


def names(rows: Iterable[Row]) -> str:
    """Return the models of rows, without their sizes."""
    return listed(row["model"].partition(",")[0] for row in rows)


def beyond() -> str:
    """Where no choice was made, and in other loops than the tables'."""
    return wrapped(" ".join(filter(None, (frozen.summary(), elsewhere.summary()))))


def behind() -> str:
    """Where it is behind: other methods, few steps, speed."""
    few = [few_steps.sentence] if few_steps.few_cells() else []
    return bullets(lost, *few, slow)


def lost() -> str:
    """Name the cells that are lost, and by how many measures."""
    measures = [name for name in COMPARED if name != CONVERGED]
    told = []
    for cell in own_cells():
        count = sum(cell.verdict(name) == "lost" for name in measures)
        if count:
            where = f"{NAMES[cell.about.model]} at {percent(1 - cell.about.ratio_asked)}"
            told.append(f"{where} by {count}")
    far = [verdict for cell in own_cells() if (verdict := cell.verdict(CONVERGED))]
    return (
        f"Lost in the table above, by so many of the {len(measures)} measures beside the unpruned images: "
        f"{listed(told) if told else 'none'}; {out_of(far.count('lost'), len(far))} cells by the one beside "
        "the converged images."
    )


def slow() -> str:
    """How many loops at full width are slower than was asked, and the slowest."""
    rows = [row for row in real_size.timed(read("speed")) if real_size.asked_of(row)]
    short = sorted(real_size.shortfalls(rows), key=lambda item: item[1] / item[2])
    text = (
        f"At full width, with random weights, {out_of(len(short), len(rows))} loops miss our goal for the "
        "share of the speed-up by MACs that they reach"
    )
    if not short:
        return f"{text}."
    name, value, asked = short[0]
    return f"{text}, at worst {value:.2f} of it instead of {asked:g}: {name}."
