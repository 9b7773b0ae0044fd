"""A block on what choosing would cost on models of the size that people run."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean

from benchmarks.cases import CALIBRATION
from benchmarks.tables import grid, grouped

from .real_size import place
from .results import OURS, Row, Score, chosen, read, scores
from .words import bold, listed, wrapped

EAGER = "eager loop"
SHARE = 0.3
"""The share of MACs whose settings are chosen; our own search has others beside."""
SPENT = {"search_full_runs": "full runs", "search_images": "images", "search_calls": "calls of the model"}


def table() -> str:
    """What choosing cost each method, and the hours that as many calls of large models take on one GPU."""
    prices = {row["model"]: seconds_a_call(row) for row in timed()}
    methods = grouped((score for score in scores() if is_counted(score)), lambda score: score.method)
    spent = {
        method: [mean(score.values[name] for score in own) for name in SPENT]
        for method, own in methods.items()
    }
    lines = [
        [bold(own[0].label, method == OURS), *numbers_of(spent[method], prices.values())]
        for method, own in sorted(methods.items(), key=lambda each: spent[each[0]][-1])
    ]
    header = ["method", *SPENT.values(), *(f"{model}, hours" for model in prices)]
    return f"{said(prices)}\n\n{grid(header, lines)}"


def said(prices: dict[str, float]) -> str:
    """Return what the table is of."""
    each = listed(f"{1000 * seconds:.0f} ms ({model})" for model, seconds in prices.items())
    return wrapped(
        f"What choosing a setting for 20 steps of DDIM cost, mean of the models and seeds measured: at "
        f"{SHARE:.0%} kept for all but `dipgo_fx`, whose one search has every share. A full run is one of "
        f"{CALIBRATION} samples; images are those brought to the end, of searches with all their samples. "
        "Hours are projected, not measured: the calls, one sample each, times what a call took there on "
        f"{listed(dict.fromkeys(map(place, timed())))}, batch 1: {each}. Neither guidance nor decoding is in "
        "them."
    )


def timed() -> list[Row]:
    """Return the unpruned loops that were timed on a GPU."""
    return [row for row in chosen(read("speed"), method=EAGER) if row["device"] != "cpu"]


def seconds_a_call(row: Row) -> float:
    """Return the seconds of one call of the model for one sample."""
    return float(row["seconds_median"]) / int(row["steps"]) / int(row["batch"])


def is_counted(score: Score) -> bool:
    """Tell whether a measurement is of a method that chose something and was counted doing it."""
    return score.asked == SHARE and all(score.values.get(name) for name in SPENT)


def numbers_of(spent: list[float], prices: Iterable[float]) -> list[str]:
    """Return the numbers of a line: what was spent, and the hours of its calls."""
    runs, images, calls = spent
    hours = [f"{calls * seconds / 3600:.2f}" for seconds in prices]
    return [f"{runs:.1f}", f"{images:.0f}", f"{calls:.0f}", *hours]
