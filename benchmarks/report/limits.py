"""Blocks on what the figures cannot show, and on what was spent and chosen on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.frechet import ENOUGH
from benchmarks.tables import grid, grouped

from .results import (
    LABELS,
    LEARNED,
    NAMES,
    OURS,
    UNPRUNED,
    Row,
    Score,
    measured,
    numbers,
    pruned,
    read,
    scores,
)
from .words import listed, out_of, percent, span, wrapped

SETS = {  # samples that choices were made on
    "search": "a search of `dipgo_fx`",
    "baselines": "uniform plans, random and genetic search",
    "papers_recipe": "the paper's recipe",
    "packages": "settings of packages",
}
PAPER = "paper's recipe"


def frechet() -> str:
    """Distances to real images, where thousands were drawn."""
    rows = read("quality-frechet")
    if not rows:
        return wrapped(
            f"Fréchet distances to real images are not reported: sets of fewer than {ENOUGH:,} images carry "
            "no evidence, and larger ones were not drawn."
        )
    header = ("model", "method", "MACs asked", "seed", "images", "distance", "minus the unpruned model's")
    return grid([*header, "recognised", "unpruned, recognised"], map(frechet_line, rows))


def frechet_line(row: Row) -> list[str]:
    """Return a method's distance to real images beside the unpruned model's."""
    asked = percent(1 - float(row["ratio_asked"]))
    low, high = float(row["difference_low"]), float(row["difference_high"])
    found = f"{float(row['difference']):+.2f} ({low:+.2f} to {high:+.2f})"
    about = [NAMES[row["model"]], LABELS.get(row["method"], row["method"]), asked, row["seed"], row["images"]]
    shares = [row["class_accuracy"], row["unpruned_class_accuracy"]]
    return [*about, f"{float(row['distance']):.1f}", found, *shares]


def recognised() -> str:
    """How many samples a classifier recognises, and that this is no measure of fidelity."""
    found = [score for score in scores() if "class_accuracy" in score.values]
    share = {(s.model, s.seed): s.values["class_accuracy"] for s in found if s.method == UNPRUNED}
    others = [s for s in found if s.method != UNPRUNED and (s.model, s.seed) in share]
    above = [s for s in others if s.values["class_accuracy"] > share[s.model, s.seed]]
    told = [f"{percent(value, 1)} ({NAMES[model]})" for (model, seed), value in share.items() if seed == 0]
    return wrapped(
        f"A classifier recognises {listed(told)} of the unpruned samples as the class asked for, and more of "
        f"the pruned ones in {out_of(len(above), len(others))} rows, so this is no measure of fidelity."
    )


def weak() -> str:
    """What the tables cannot show."""
    sets = read("quality-sets")
    by_method = grouped(pruned(), lambda s: s.method)
    runs = {name: span(s.values["search_full_runs"] for s in own) for name, own in by_method.items()}
    count = {name: span(numbers(sets, name), 0) for name in ("papers_steps", *SETS)}
    return wrapped(
        f"What is weak about this: held-out sets of {span(map(float, held_out().values()), 0)} samples; "
        f"{of_one_seed()}; choices of the design were made while looking at these very cells; {learned()}"
        f"random and genetic search had {runs['random search']} full runs and the paper's recipe "
        f"{runs[PAPER]} ({count['papers_steps']} gradient steps instead of its 1000 in rows without a count "
        f"of samples), a search of `dipgo_fx` {runs[OURS]}; packages chose their settings on "
        f"{tuned_on(count['packages'])} samples, `dipgo_fx` searched on {count['search']}; one sampler, and "
        f"small models that were trained for this{no_gpu()}."
    )


def no_gpu() -> str:
    """Say that no GPU was measured, for as long as none was."""
    return "" if any(row["device"] != "cpu" for row in read("speed")) else "; no GPU was measured"


def held_out() -> dict[tuple[str, int], int]:
    """Return the held-out samples of each model and seed, the fewest of its rows."""
    noted = {row["model"]: int(row["held_out"]) for row in read("quality-sets")}
    groups = grouped(scores(), lambda s: (s.model, s.seed))
    return {key: min(images_of(score, noted) for score in own) for key, own in groups.items()}


def images_of(score: Score, noted: Mapping[str, int]) -> int:
    """Return the images of a row: its own count, or that which was noted for rows without."""
    return int(score.values.get("held_out_samples", noted[score.model]))


def of_one_seed() -> str:
    """Say which methods have several seeds on every model that they were measured on."""
    groups = grouped(pruned(), lambda s: (s.label, s.model))
    seeds = grouped(groups.items(), lambda item: item[0][0])
    fewest = {name: min(len({s.seed for s in own}) for _, own in items) for name, items in seeds.items()}
    several = sorted(name for name, count in fewest.items() if count > 1)
    if len(several) == len(fewest):
        return f"{span(map(float, fewest.values()), 0)} seeds"
    named = listed(name if name.startswith("`") else f"`{name}`" for name in several)
    return (
        f"one seed on some model that they were measured on for all methods but {named}"
        if several
        else "one seed"
    )


def learned() -> str:
    """Say that no learned sampler was measured, for as long as none was."""
    names = {score.method for score in pruned()}
    return "" if names & set(LEARNED) else "no learned sampler is among the others; "


def tuned_on(noted: str) -> str:
    """Return on how many samples settings were tried, by the rows that say so and as noted for the others."""
    rows = measured()
    counts = {row["tuning_samples"] for row in rows if row["tuning_samples"]}
    return listed(sorted({noted, *counts}, key=lambda text: (len(text), text)))


def effort() -> str:
    """What each method spent on finding its settings or plans, and on how many samples."""
    by_label = grouped(pruned(), lambda score: score.label)
    spent = {name: [s.values["search_full_runs"] for s in own] for name, own in by_label.items()}
    dearest = sorted(spent, key=lambda name: -max(spent[name]))
    samples = grouped(held_out().items(), lambda item: item[0][0])
    counts = [f"{span((float(n) for _, n in own), 0)} ({NAMES[model]})" for model, own in samples.items()]
    chosen_on = [f"{title} {span(numbers(read('quality-sets'), name), 0)}" for name, title in SETS.items()]
    return wrapped(
        f"Full runs: {listed(f'{name} {span(spent[name])}' for name in dearest)}. Samples that were held "
        f"out: {listed(counts)}. Samples that choices were made on, in rows that do not say it themselves: "
        f"{listed(chosen_on)}."
    )


def price() -> str:
    """Table of what choosing cost a method, where it was measured: seconds, calls of the model, images."""
    timed = [score for score in pruned() if "search_seconds" in score.values]
    if not timed:
        return wrapped("Seconds, calls of the model and images of choosing were not measured yet.")
    groups = grouped(timed, lambda s: (s.model, s.label))
    lines = [[NAMES[model], label, *prices(own)] for (model, label), own in groups.items()]
    return grid(("model", "method", "seconds", "calls of the model", "images"), lines)


def prices(found: Sequence[Score]) -> list[str]:
    """Return the lowest and highest cost of some rows."""
    names = ("search_seconds", "search_calls", "search_images")
    columns = [[s.values[name] for s in found if name in s.values] for name in names]
    return [span(values, 0) if values else "" for values in columns]
