"""Blocks on quality: who is closest to the unpruned samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.tables import grid, grouped

from .comparing import Duel, at_most_as_dear, best, duels, lost, won
from .results import ASKED, FIDELITY, MEASURES, NAMES, OFF, OURS, Score, pruned, scores
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
)
COLUMNS = {
    "fewer steps": ("fewer steps",),
    "stock solver": ("DPM-Solver++", "UniPC"),
    "searched steps": ("searched timesteps",),
    "cache": CACHES,
    "uniform linear plans": ("uniform, linear",),
    "`dipgo_fx`": (OURS,),
}


def psnr() -> str:
    """Table of the first seed: the best of each group of methods."""
    first = [score for score in scores() if score.seed == 0]
    lines = []
    for model, asked in tabled():
        own = [score for score in first if (score.model, score.asked) == (model, asked)]
        lines.append([NAMES[model], percent(asked), *psnr_cells(own)])
    return grid(["model", "MACs asked", *COLUMNS], lines)


def tabled() -> list[tuple[str, float]]:
    """Return the models and shares of the tables."""
    return [(model, asked) for model in NAMES for asked in ASKED]


def psnr_cells(own: Sequence[Score]) -> list[str]:
    """Return the best of each group of methods, and its name where the group has several."""
    groups = [[score for score in own if score.method in methods] for methods in COLUMNS.values()]
    highest = best([score for group in groups for score in group], "psnr_db")
    cells = []
    for group, methods in zip(groups, COLUMNS.values(), strict=True):
        top = best(group, "psnr_db")
        name = top.label if top and len(methods) > 1 else ""
        cells.append(remarked(bold(top.text("psnr_db"), top is highest), name, top.remark) if top else "")
    return cells


def verdict() -> str:
    """In how many cells ours is best, by measure, and who is in the others."""
    found = scores()
    told = [verdict_on(duels(found, name), MEASURES[name].title) for name in FIDELITY]
    pairs = at_most_as_dear(found)
    return wrapped(
        "Of the cells (a model, a seed, a share of MACs) in which another method was measured too, "
        f"`dipgo_fx` has {'; '.join(told)}. Of {len(pairs)} rows of other methods {len(lost(pairs))} have a "
        "higher PSNR than the nearest row of `dipgo_fx` that keeps no more MACs than they do."
    )


def verdict_on(fought: Sequence[Duel], title: str) -> str:
    """Return how many cells are won in one measure, and which are lost to whom."""
    groups = grouped(lost(fought), lambda duel: (duel.other.label, duel.ours.model))
    ahead = [f"{method} on the {NAMES[model]} at {places(own)}" for (method, model), own in groups.items()]
    text = f"the best {title} in {out_of(won(fought), len(fought))}"
    return f"{text}, behind {listed(ahead)}" if ahead else text


def places(fought: Iterable[Duel]) -> str:
    """Return shares of MACs, each with its seeds."""
    shares = grouped(fought, lambda duel: duel.ours.asked)
    return listed(
        f"{percent(asked)} (seed{'s' * (len(own) > 1)} {listed(sorted(duel.ours.seed for duel in own))})"
        for asked, own in shares.items()
    )


def lost_cells() -> str:
    """Table of all cells in which another method is closer to the unpruned samples."""
    found = scores()
    lines = [lost_line(name, duel) for name in FIDELITY for duel in lost(duels(found, name))]
    return grid(("measure", "model", "seed", "MACs asked", "ahead", "its value", "`dipgo_fx`"), lines)


def lost_line(name: str, duel: Duel) -> list[str]:
    """Return a line of the table of lost cells."""
    ours, other = duel.ours, duel.other
    about = [MEASURES[name].title, NAMES[ours.model], str(ours.seed), percent(ours.asked)]
    return [*about, remarked(other.label, other.remark), other.text(name), ours.text(name)]


def held() -> str:
    """Rows of other methods beside the row of ours that is at most as dear."""
    found = scores()
    pairs = at_most_as_dear(found)
    shares = sorted({score.asked for score in found if score.method == OURS})
    text = (
        f"Packages may keep {percent(OFF, 2)} of the MACs more than asked, and some keep less; `dipgo_fx` "
        f"was measured at {listed(map(percent, shares))}. Of {len(pairs)} rows of other methods "
        f"{len(lost(pairs))} have a higher PSNR than its nearest row that keeps no more MACs than they do"
    )
    behind = [held_text(duel) for duel in lost(pairs)]
    return wrapped(f"{text}: {listed(behind)}." if behind else f"{text}.")


def held_text(duel: Duel) -> str:
    """Return two rows with the MACs that they keep."""
    ours, other = (f"{each.text('psnr_db')} dB at {percent(each.kept)}" for each in (duel.ours, duel.other))
    return f"{duel.other.label} on the {NAMES[duel.other.model]} ({other}, `dipgo_fx` {ours})"


def likeness() -> str:
    """Table of SSIM and feature distance of the first seed, ours beside the best other."""
    first = [score for score in scores() if score.seed == 0]
    names = FIDELITY[1:]
    fought = {name: {(d.ours.model, d.ours.asked): d for d in duels(first, name)} for name in names}
    lines = []
    for model, asked in tabled():
        values = [text for name in names for text in pair(fought[name].get((model, asked)), name)]
        lines.append([NAMES[model], percent(asked), *values])
    header = [f"{MEASURES[name].title}, {who}" for name in names for who in ("best other", "`dipgo_fx`")]
    return grid(["model", "MACs asked", *header], lines)


def pair(duel: Duel | None, name: str) -> list[str]:
    """Return the best other value and ours, the better one bold."""
    if duel is None:
        return ["", ""]
    other = bold(duel.other.text(name), duel.lead < 0)
    return [remarked(other, duel.other.label, duel.other.remark), bold(duel.ours.text(name), duel.lead > 0)]


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
