"""Blocks on what the figures cannot show, and on what was spent and chosen on."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tables import grouped

from .comparing import duels, lost, won
from .results import LABELS, NAMES, OURS, UNPRUNED, Score, numbers, pruned, read, scores
from .words import listed, out_of, percent, span, wrapped

SETS = {  # samples that choices were made on
    "search": "a search of `dipgo_fx`",
    "baselines": "uniform plans, random and genetic search",
    "papers_recipe": "the paper's recipe",
    "packages": "settings of packages",
}
PAPER = "paper's recipe"


def fid() -> str:
    """How little FID-like says."""
    found = scores()
    models = [model for model in NAMES if any("fid_like" in s.values for s in found if s.model == model)]
    half = {model: inside([s for s in found if (s.model, s.seed) == (model, 0)], 0.5) for model in models}
    told = [f"{out_of(sum(own.values()), len(own))} ({NAMES[model]})" for model, own in half.items()]
    ours = sum(own[OURS] for own in half.values())
    fought = duels(found, "fid_like")
    samples = numbers([row for row in read("quality-sets") if row["model"] in models], "held_out")
    return wrapped(
        f"FID-like, to real images, tells little: it goes by {span(samples, 0)} samples and 112 features. At "
        f"half of the MACs {listed(told)} methods lie within the unpruned model's own 95% interval, "
        f"`dipgo_fx` on {out_of(ours, len(models))} models. It has the lowest in "
        f"{out_of(won(fought), len(fought))} cells."
    )


def inside(found: Sequence[Score], asked: float) -> dict[str, bool]:
    """Return by method whether its FID-like is within the unpruned model's interval."""
    base = next(score.values for score in found if score.method == UNPRUNED)
    own = [score for score in found if score.asked == asked and score.method != UNPRUNED]
    return {s.method: base["fid_like_low"] <= s.values["fid_like"] <= base["fid_like_high"] for s in own}


def recognised() -> str:
    """How many samples a classifier recognises, and that this is no measure of fidelity."""
    found = [score for score in scores() if "class_accuracy" in score.values]
    share = {(s.model, s.seed): s.values["class_accuracy"] for s in found if s.method == UNPRUNED}
    others = [score for score in found if score.method != UNPRUNED]
    above = [s for s in others if s.values["class_accuracy"] > share[s.model, s.seed]]
    told = [f"{percent(value, 1)} ({NAMES[model]})" for (model, seed), value in share.items() if seed == 0]
    fought = duels(found, "class_accuracy")
    return wrapped(
        f"A classifier recognises {listed(told)} of the unpruned samples as the class asked for, and more of "
        f"the pruned ones in {out_of(len(above), len(others))} rows, so this is no measure of fidelity. "
        f"`dipgo_fx` has the highest share in {out_of(won(fought), len(fought))} cells, another method in "
        f"{len(lost(fought))}."
    )


def weak() -> str:
    """What the tables cannot show."""
    sets = read("quality-sets")
    by_method = grouped(pruned(), lambda s: s.method)
    seeded = {own[0].label for own in by_method.values() if {s.seed for s in own} != {0}} - {LABELS[OURS]}
    runs = {name: span(s.values["search_full_runs"] for s in own) for name, own in by_method.items()}
    count = {name: span(numbers(sets, name), 0) for name in ("held_out", "papers_steps", *SETS)}
    return wrapped(
        f"What is weak about this: held-out sets of {count['held_out']} samples; one seed for all other "
        f"methods but {listed(sorted(seeded))}, which have more on some models; choices of the design were "
        "made while looking at these very cells; no learned sampler is among the others; random and genetic "
        f"search had {runs['random search']} full runs and the paper's recipe {runs[PAPER]} "
        f"({count['papers_steps']} gradient steps instead of its 1000), a search of `dipgo_fx` {runs[OURS]}; "
        f"packages chose their settings on {count['packages']} samples, `dipgo_fx` searched on "
        f"{count['search']}; one sampler, and small models that were trained for this; no GPU was measured."
    )


def effort() -> str:
    """What each method spent on finding its settings or plans, and on how many samples."""
    by_label = grouped(pruned(), lambda score: score.label)
    spent = {name: [s.values["search_full_runs"] for s in own] for name, own in by_label.items()}
    dearest = sorted(spent, key=lambda name: -max(spent[name]))
    sets = read("quality-sets")
    held_out = [f"{row['held_out']} ({NAMES[row['model']]})" for row in sets]
    chosen_on = [f"{title} {span(numbers(sets, name), 0)}" for name, title in SETS.items()]
    return wrapped(
        f"Full runs: {listed(f'{name} {span(spent[name])}' for name in dearest)}. Samples that were held "
        f"out: {listed(held_out)}. Samples that choices were made on: {listed(chosen_on)}."
    )
