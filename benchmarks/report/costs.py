"""Blocks on the cost of a search, other step counts, speed and MACs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean

from benchmarks.tables import grouped
from dipgo_fx import PruneConfig

from .results import NAMES, OURS, Row, chosen, numbers, read, scores
from .words import bullets, listed, percent, sequence, span, wrapped

SEARCHED = ("digits-dit", "digits-unet")
"""The models whose searches had several budgets."""
Search = tuple[int, float]
USUAL: Search = (PruneConfig.samples, PruneConfig.full_runs)
QUICK: Search = (16, 8.0)
"""Samples and full runs of a search as it comes, and of a quick one."""
PEAKS = ("Gauss-Newton (default)", "gradient, recomputed (paper)", "gradient, all kept")


def cost() -> str:
    """What a search costs in unpruned runs."""
    ours = [score for score in scores() if score.method == OURS]
    searches = {(score.model, score.seed): score.values["search_full_runs"] for score in ours}
    rows = read("search_cost-runs-digits-dit")
    return (
        f"The {len(searches)} searches of these tables cost {span(searches.values())} full runs; at "
        f"{listed(row['steps'] for row in rows)} steps of the digits DiT a search costs "
        f"{sequence(numbers(rows, 'full_runs'))}."
    )


def memory() -> str:
    """How the memory of one step of a search grows with the steps of the loop."""
    rows = read("search_cost-memory-digits-dit")
    peaks = grouped(rows, lambda row: row["step of a search"])
    newton, again, stored = (numbers(peaks[name], "peak_MiB") for name in PEAKS)
    return (
        f"At {listed(dict.fromkeys(row['T'] for row in rows))} steps one Gauss-Newton step has "
        f"{sequence(newton)} MiB of tensors alive at its peak, {percent(newton[-1] / newton[0] - 1)} more at "
        "the most steps than at the fewest (digits DiT); the unpruned path that a search keeps, which grows "
        f"with the steps, is not in it. A gradient step through the SuperNet has {sequence(again)} MiB with "
        f"recomputation and {sequence(stored)} without."
    )


def step_counts() -> str:
    """What a plan loses at another step count."""
    rows = read("step_counts-digits-dit")
    own, moved, fewer = (numbers(rows, name) for name in ("searched at T", "searched at 20", "fewer steps"))
    behind = [ours - other for ours, other in zip(own, moved, strict=True)]
    more = [ours - other for ours, other in zip(moved, fewer, strict=True)]
    lost = [
        f"{row['T']} steps and {percent(float(row['asked']))}"
        for row, lead in zip(rows, more, strict=True)
        if lead < 0
    ]
    return (
        "A plan of the digits DiT that was searched at 20 steps and moved to "
        f"{listed(dict.fromkeys(row['T'] for row in rows))}, asked to keep "
        f"{listed(dict.fromkeys(percent(float(row['asked'])) for row in rows))} of the MACs and keeping "
        f"{listed(dict.fromkeys(percent(float(row['kept'])) for row in rows))}, is {span(behind)} dB below a "
        f"search for that count that may keep what was asked. Beside fewer steps at the same MACs it is "
        f"{span(more)} dB{f', behind at {listed(lost)}' if lost else ''} (one seed, no intervals)."
    )


def by_runs() -> str:
    """What a search gains or loses with other samples and budgets than it has as it comes."""
    images, changes = searches()
    told = [
        f"{signed(mean(changes[each]))} dB with {each[0]} samples and {each[1]:.0f} runs "
        f"({images[each]:.0f} images; at worst {signed(min(changes[each]))})"
        for each in sorted(changes, key=lambda each: images[each])
        if each != USUAL
    ]
    return (
        f"Beside a search of {USUAL[0]} samples that may spend {USUAL[1]:.0f} full runs, {images[USUAL]:.0f} "
        "images, plans of others have, in the mean of held-out images, mean over "
        f"{len(changes[USUAL])} cells of {listed(NAMES[name] for name in SEARCHED)}: {listed(told)}."
    )


def quick_search() -> str:
    """How many images a search makes, and what a quick one saves and loses."""
    images, changes = searches()
    own = changes[QUICK]
    return wrapped(
        f"A search costs as much as about {images[USUAL]:.0f} unpruned images. With "
        f"`config=dipgo_fx.PruneConfig(samples={QUICK[0]}, full_runs={QUICK[1]:.0f})` it is "
        f"about {images[QUICK]:.0f}, and the PSNR of held-out images, mean of images, changes by "
        f"{signed(mean(own))} dB, mean over {len(own)} cells of {listed(NAMES[name] for name in SEARCHED)} "
        f"({signed(min(own))} to {signed(max(own))}), both without guidance."
    )


def searches() -> tuple[dict[Search, float], dict[Search, list[float]]]:
    """Return how many images each search made on average, and dB beside the usual one, a number a cell."""
    images: dict[Search, list[float]] = {}
    changes: dict[Search, list[float]] = {}
    for name in SEARCHED:
        cells = grouped(read(f"search_runs-{name}"), lambda row: (row["seed"], row["ratio"]))
        for own in cells.values():
            found = {(int(row["samples"]), float(row["full runs"])): row for row in own}
            usual = float(found[USUAL]["mean of images"])
            for each, row in found.items():
                images.setdefault(each, []).append(float(row["images"]))
                changes.setdefault(each, []).append(float(row["mean of images"]) - usual)
    return {each: mean(counts) for each, counts in images.items()}, changes


def signed(value: float) -> str:
    """Return a difference with its sign, none that is rounded to nothing."""
    return f"{value:+.1f}" if abs(value) >= 0.05 else "0.0"


def speed() -> str:
    """Wall time of pruned and traced loops."""
    told = [speed_of(read(f"speed-wall-{name}")) for name in ("dit", "unet")]
    return (
        f"Times as fast as the eager loop, by wall time, one CPU thread, random weights: {'; '.join(told)}."
    )


def speed_of(rows: Sequence[Row]) -> str:
    """Return how fast one model's loops are."""
    return (
        f"{rows[0]['model']} {faster(rows, 'whole steps', '0.8')} with whole steps at ratio 0.8, "
        f"{faster(rows, '1 of 5')} with partial steps, {faster(rows, 'traced loop')} unpruned"
    )


def loops(rows: Iterable[Row], start: str, end: str = "") -> list[Row]:
    """Return the rows of loops by how their names begin and end."""
    return [row for row in rows if row["loop"].startswith(start) and row["loop"].endswith(end)]


def faster(rows: Iterable[Row], start: str, end: str = "") -> str:
    """Return how much faster than the eager loop some loops are, and what their MACs promise."""
    own = loops(rows, start, end)
    return f"{span(numbers(own, 'speed-up'), 2)} (by MACs {span(numbers(own, 'ideal'), 2)})"


def tracing() -> str:
    """Seconds of tracing, and whether that is as fast as was asked."""
    rows = read("speed-trace")
    told = [f"{float(row['median CPU s']):.1f} s for {row['model']} at {row['steps']} steps" for row in rows]
    slow = [row["model"] for row in rows if float(row["median CPU s"]) > float(row["asked s"])]
    missed = f", missed by {listed(slow)}" if slow else ""
    return (
        f"Tracing takes, of one processor's time, {listed(told)} (medians; the goal is "
        f"{span(numbers(rows, 'asked s'), 0)} s{missed})."
    )


def guidance() -> str:
    """What two calls of the model a step cost instead of one."""
    told = []
    for name in ("dit", "unet"):
        (row,) = chosen(read(f"speed-guidance-{name}"), loop="two calls a step")
        told.append(f"{percent(1 / float(row['speed-up']))} on {row['model']}")
    return (
        "Guidance in two calls of the model a step, instead of one on twice the rows, takes this share of "
        f"the time, unpruned, on one CPU thread, in two rounds: {listed(told)}."
    )


def macs() -> str:
    """How near our counts are to the paper's."""
    rows = read("macs-paper")
    kinds = grouped(rows, lambda row: "unpruned" if float(row["ratio"]) == 0 else "pruned")
    far = {kind: max(abs(float(row["difference"].split()[0])) for row in own) for kind, own in kinds.items()}
    first = rows[0]
    return (
        f"MACs of the paper's settings differ from its tables by at most {far['unpruned']:.2f}% unpruned "
        f"and {far['pruned']:.1f}% pruned; {first['model']} at {first['steps']} steps has "
        f"{float(first['ours without']):.2f} T without attention's products and {float(first['ours']):.2f} T "
        "with them."
    )


def small() -> str:
    """List of what was measured on small models, and of tracing and MACs."""
    return bullets(speed, guidance, tracing, macs)


def searching() -> str:
    """List of what a search costs and what its plan is worth elsewhere."""
    return bullets(cost, by_runs, memory, step_counts)
