"""Blocks on quality: who is closest to the unpruned samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import compress

from benchmarks import plans
from benchmarks.quality.comparing import Cell
from benchmarks.statistics import COMPARED
from benchmarks.tables import grid, grouped

from .comparing import Duel, at_most_as_dear, behind, best, duels
from .results import ASKED, FIDELITY, LABELS, LEARNED, MEASURES, NAMES, OFF, OURS, Score, pruned, scores
from .standing import (
    NO_INTERVAL,
    Pair,
    cell_at,
    own_cells,
    pairs,
    place,
    told,
    verdict_at,
    verdict_on,
)
from .words import bold, listed, out_of, percent, remarked, span, wrapped

CACHES = (
    "DeepCache",
    "cache-dit SCM",
    "cache-dit DBCache",
    "Pyramid Attention Broadcast",
    "First Block Cache",
    "MagCache",
    "TaylorSeer",
    "SmoothCache",
    "SeaCache",
    plans.ANNEALED_REUSE.name,
    plans.ANNEALED_LINEAR.name,
)
BESIDE_ONE = {"won": "ahead", "open": "open", "lost": "behind"}
"""What an interval says of one other method: a cell is won beside all of them."""
COLUMNS = {
    "fewer steps": ("fewer steps",),
    "stock solver": ("DPM-Solver++", "UniPC", "DEIS", "iPNDM"),
    "searched steps": ("searched timesteps",),
    "learned sampler": LEARNED,
    "cache": CACHES,
    "uniform linear plans": ("uniform, linear",),
    "`dipgo_fx`": (OURS,),
}


def psnr() -> str:
    """Table of the first seed: the highest value of each group of methods, and how ours stands beside it."""
    first = [score for score in scores() if score.seed == 0]
    lines = []
    for model, asked in tabled():
        own = [score for score in first if (score.model, score.asked) == (model, asked)]
        lines.append([NAMES[model], percent(asked), *psnr_cells(own)])
    header = ["model", "MACs asked", *COLUMNS, "`dipgo_fx` minus the highest other"]
    filled = [any(column) for column in zip(*lines, strict=True)]
    return grid(compress(header, filled), (compress(line, filled) for line in lines))


def tabled() -> list[tuple[str, float]]:
    """Return the models and shares of the tables."""
    measured_on = {score.model for score in scores()}
    return [(model, asked) for model in NAMES if model in measured_on for asked in ASKED]


def psnr_cells(own: Sequence[Score]) -> list[str]:
    """Return the highest of each group, its name where the group has several, and the interval.

    Bold is only ours that is ahead of all others, or another method that is ahead of ours.
    """
    groups = [[score for score in own if score.method in methods] for methods in COLUMNS.values()]
    tops = [best(group, "psnr_db") for group in groups]
    line = []
    for top, methods in zip(tops, COLUMNS.values(), strict=True):
        name = top.label if top and len(methods) > 1 else ""
        line.append(remarked(bold(top.text("psnr_db"), ahead(top)), name, top.remark) if top else "")
    return [*line, difference(tops)]


def ahead(top: Score, measure: str = "psnr_db") -> bool:
    """Whether an interval says that ours is ahead of all others in its cell, or another ahead of ours."""
    if top.method == OURS:
        return verdict_at(top.model, top.asked, measure) == "won"
    return verdict_on(top.model, top.asked, top.method, measure) == "lost"


def difference(tops: Sequence[Score | None]) -> str:
    """Return the interval of ours minus the highest of the others."""
    highest = best([top for top in tops if top and top.method != OURS], "psnr_db")
    ours = any(top and top.method == OURS for top in tops)
    if highest is None or not ours:
        return ""
    cell = cell_at(highest.model, highest.asked)
    pair = None if cell is None else cell.versus(highest.method, "psnr_db")
    return told("psnr_db", pair) if pair is None else f"{told('psnr_db', pair)}, {BESIDE_ONE[pair.verdict]}"


def verdict() -> str:
    """In how many cells ours is ahead, by measure, as far as intervals tell."""
    cells = own_cells()
    judged = [cell for cell in cells if any(cell.seeds(name) for name in cell.others)]
    if not judged:
        return wrapped("No cell can be judged: errors of single images were not kept.")
    seeds = {len(cell.seeds(name)) for cell in judged for name in cell.others if cell.seeds(name)}
    unkept = dict.fromkeys(NAMES[c.about.model] for c in judged if not all(c.seeds(o) for o in c.others))
    text = (
        f"{out_of(len(judged), len(cells)).capitalize()} cells (a model and a share of MACs) can be judged, "
        f"over {span(seeds, 0)} seeds: won where the 95% interval of the paired difference is in favour of "
        "`dipgo_fx` beside every other method, lost where it is against it beside any, else open. "
    )
    if unkept:
        text += (
            f"Errors of single images of some methods were not kept on {listed(unkept)}: none is won there. "
        )
    text += "Feature distance is not of digits."
    return f"{wrapped(text)}\n\n{verdicts(judged)}"


def verdicts(cells: Sequence[Cell]) -> str:
    """Table of how many cells are won, open and lost, by measure."""
    counts = {name: Counter(cell.verdict(name) for cell in cells) for name in COMPARED}
    lines = [
        [COMPARED[name].title, *(str(count[each]) for each in ("won", "open", "lost"))]
        for name, count in counts.items()
        if set(count) != {None}
    ]
    return grid(["measure", "won", "open", "lost"], lines)


def lost_cells() -> str:
    """Table of cells that are lost or open, and of those without intervals where another value is better."""
    lines = [
        pair_line(pair)
        for name in FIDELITY
        for cell in own_cells()
        for pair in pairs(cell, name)
        if pair.comparison.verdict != "won"
    ]
    lines += [value_line(name, duel) for name in FIDELITY for duel in unjudged(name)]
    columns = ("measure", "model", "MACs asked", "other", "its value", "`dipgo_fx`", "difference", "verdict")
    return grid(columns, lines)


def pair_line(pair: Pair) -> list[str]:
    """Return a line of a comparison."""
    digits = COMPARED[pair.column].digits
    other, ours = (f"{each:.{digits}f}" for each in (pair.comparison.other, pair.comparison.ours))
    about = [MEASURES[pair.column].title, *place(pair.cell, pair.seeds)]
    label = LABELS.get(pair.method, pair.method)
    return [*about, label, other, ours, told(pair.column, pair.comparison), pair.comparison.verdict]


def unjudged(name: str) -> list[Duel]:
    """Return where the best other value is better and no interval can be made."""
    found = behind(duels(scores(), name))
    return [duel for duel in found if judged(duel, name) is None]


def judged(duel: Duel, name: str) -> str | None:
    """Return what the interval of a duel says, if there is one."""
    return verdict_on(duel.other.model, duel.other.asked, duel.other.method, name)


def value_line(name: str, duel: Duel) -> list[str]:
    """Return a line of two values without an interval."""
    ours, other = duel.ours, duel.other
    asked = remarked(percent(ours.asked), f"seed {ours.seed}")
    about = [MEASURES[name].title, NAMES[ours.model], asked]
    label = remarked(other.label, other.remark)
    return [*about, label, other.text(name), ours.text(name), NO_INTERVAL, "values only"]


def held() -> str:
    """Rows of other methods beside the row of ours that is at most as dear."""
    found = scores()
    # A setting may be the best for several shares.
    held_against = {
        (duel.other.method, duel.other.model, duel.other.seed, duel.other.kept): duel
        for duel in at_most_as_dear(found)
    }
    higher = behind(held_against.values())
    shares = {
        model: listed(percent(share) for share in sorted({score.kept for score in own}))
        for model, own in grouped((s for s in found if s.method == OURS), lambda s: NAMES[s.model]).items()
    }
    measured_at = "; ".join(
        f"{told} ({listed(own)})" for told, own in grouped(shares, shares.__getitem__).items()
    )
    text = (
        f"Values, without intervals. Packages may keep {percent(OFF, 2)} of the MACs more than asked, and "
        f"some keep less; `dipgo_fx` keeps {measured_at}. Of {len(held_against)} rows of other methods "
        f"{len(higher)} have a higher PSNR than its nearest row that keeps no more MACs than they do."
    )
    header = ["model", "seed", "other", "MACs", "dB", "`dipgo_fx`, MACs", "dB"]
    return f"{wrapped(text)}\n\n{grid(header, map(held_line, higher))}" if higher else wrapped(text)


def held_line(duel: Duel) -> list[str]:
    """Return two rows with the MACs that they keep."""
    values = [text for each in (duel.other, duel.ours) for text in (percent(each.kept), each.text("psnr_db"))]
    return [NAMES[duel.other.model], str(duel.other.seed), duel.other.label, *values]


def likeness() -> str:
    """Table of SSIM and feature distance of the first seed, ours beside the best other."""
    first = [score for score in scores() if score.seed == 0]
    names = ("ssim", "feature_distance")
    fought = {name: {(d.ours.model, d.ours.asked): d for d in duels(first, name)} for name in names}
    lines = []
    for model, asked in tabled():
        values = [text for name in names for text in pair(fought[name].get((model, asked)), name)]
        lines.append([NAMES[model], percent(asked), *values])
    header = [f"{MEASURES[name].title}, {who}" for name in names for who in ("best other", "`dipgo_fx`")]
    return grid(["model", "MACs asked", *header], lines)


def pair(duel: Duel | None, name: str) -> list[str]:
    """Return the best other of the first seed and ours, over all seeds that both have; bold is ahead."""
    if duel is None:
        return ["", ""]
    cell = cell_at(duel.ours.model, duel.ours.asked)
    over_all = None if cell is None else cell.versus(duel.other.method, name)
    values = [score.values[name] for score in (duel.other, duel.ours)]
    if over_all is not None:  # bold is said of all seeds, and so are the values
        values = [over_all.other, over_all.ours]
    other, ours = (f"{value:.{MEASURES[name].digits}f}" for value in values)
    return [
        remarked(bold(other, ahead(duel.other, name)), duel.other.label, duel.other.remark),
        bold(ours, ahead(duel.ours, name)),
    ]


def seeds() -> str:
    """Table of PSNR over seeds, of the methods that have several."""
    groups = grouped(pruned(), lambda score: (score.model, score.label))
    lines = []
    for model, method in sorted(groups, key=lambda key: list(NAMES).index(key[0])):
        own = groups[model, method]
        count = len({score.seed for score in own})
        if count > 1:
            lines.append([NAMES[model], method, str(count), *(over_seeds(own, asked) for asked in ASKED)])
    return grid(["model", "method", "seeds", *map(percent, ASKED)], lines)


def over_seeds(found: Iterable[Score], asked: float) -> str:
    """Return mean, lowest and highest PSNR at a share of the MACs."""
    own = [score for score in found if score.asked == asked]
    values = [score.values["psnr_db"] for score in own]
    return remarked(f"{sum(values) / len(values):.1f}", span(values), own[0].remark) if own else ""
