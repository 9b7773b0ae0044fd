"""Tables of quality: all methods of each model and share of MACs, with intervals, then errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.statistics import COMPARED, TOLD, Comparison, Statistic
from benchmarks.tables import Part, Section, Table, grouped, mean

from .comparing import Cell, cells
from .image_store import ImageStore
from .offers import OUT_OF_REACH
from .rows import OURS, UNPRUNED, Row

TITLE = "Quality at matched cost"
GUIDE = """Shares, in columns and headings, are of the unpruned loop's MACs, as they were asked for, at
most. A package may exceed it by 0.0125, and where it skips by what it sees, by more: `macs_kept` in
quality.csv says what ran. PSNR is to the unpruned result of the same noise unless it says converged: that is
the same noise in 250 steps of second order. In the tables by method a value is of one seed, the lowest, and
nothing is said of who is better. Empty: no setting keeps so little, it was not measured, or the method does
not run on the model (last table).

Where errors of single images were kept, a table a share has all methods: values over all seeds of a method,
and `dipgo_fx` minus the method on the images that both have, with the 95 % interval of a paired bootstrap.
Won and lost are differences whose interval leaves out 0, all others are open."""
SCORES = (
    ("psnr_db", "PSNR in dB, higher is closer to the unpruned result"),
    ("class_accuracy", "Share recognised as the class asked for"),
)


def parts(rows: Sequence[Row], images: ImageStore) -> list[Part]:
    """Return a section for each model, scheduler, step count and guidance, and a table of errors."""
    sections = [
        Section(title, list(_tables(own, images)), _unpruned(own)) for title, own in groups(rows).items()
    ]
    errors = list(_errors(rows))
    return [*sections, *([Table("Methods that could not run", errors)] if errors else [])]


def groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return rows by model, scheduler, steps and guidance."""
    return grouped(rows, lambda row: row.about)


def first_seed(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the lowest seed: some noise is harder, and not all seeds have all methods."""
    lowest = min(row.seed for row in rows)
    return [row for row in rows if row.seed == lowest]


def _tables(rows: Sequence[Row], images: ImageStore) -> Iterator[Table]:
    chosen = first_seed(rows)
    for name, title in SCORES:
        if any(getattr(row, name) is not None and row.ratio_asked for row in chosen):
            yield Table(title, _by_method(chosen, name))
    if spread := _over_seeds(rows):
        yield Table("PSNR in dB over seeds: mean (lowest to highest)", spread)
    for cell in cells(rows, images):
        yield from _of_cell(cell)


def _unpruned(rows: Sequence[Row]) -> str:
    """Say how many of its own samples the unpruned loop's classifier recognises."""
    share = mean(row.class_accuracy for row in first_seed(rows) if row.method == UNPRUNED)
    return "" if share is None else f"Unpruned: class accuracy {share:.3g}."


def _errors(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    told = {(row.model, row.method, row.error) for row in rows if row.error}
    for model, method, error in sorted(told):
        if not error.startswith(OUT_OF_REACH):
            yield {"model": model, "method": method, "error": error}


# -- all shares of one score


def _by_method(rows: Sequence[Row], name: str) -> list[dict[str, Any]]:
    """Return one row a method and one column a kept share, high values first."""
    scores: dict[str, dict[float, float]] = {}
    for (method, ratio), own in _measured(rows, name).items():
        scores.setdefault(method, {})[ratio] = sum(own) / len(own)
    ratios = sorted({ratio for own in scores.values() for ratio in own})
    lowest = {ratio: min(own[ratio] for own in scores.values() if ratio in own) for ratio in ratios}

    def standing(method: str) -> float:
        """Sum of the columns, the lowest of a column where there is none."""
        return sum(scores[method].get(ratio, lowest[ratio]) for ratio in ratios)

    def cell(method: str, ratio: float) -> str:
        digits = 3 if name == "class_accuracy" else 2
        return f"{scores[method][ratio]:.{digits}f}" if ratio in scores[method] else ""

    methods = sorted(scores, key=standing, reverse=True)
    return [_line(method, {ratio: cell(method, ratio) for ratio in ratios}) for method in methods]


def _over_seeds(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return mean and range of PSNR where several seeds were measured."""
    several = {key: own for key, own in _measured(rows, "psnr_db").items() if len(own) > 1}
    ratios = sorted({ratio for _, ratio in several})

    def cell(own: list[float] | None) -> str:
        return f"{sum(own) / len(own):.1f} ({min(own):.1f} to {max(own):.1f})" if own else ""

    return [
        _line(method, {ratio: cell(several.get((method, ratio))) for ratio in ratios})
        for method in dict.fromkeys(method for method, _ in several)
    ]


def _line(method: str, by_ratio: dict[float, str]) -> dict[str, Any]:
    return {"method": method, **{f"{1 - ratio:.0%} kept": text for ratio, text in by_ratio.items()}}


def _measured(rows: Sequence[Row], name: str) -> dict[tuple[str, float], list[float]]:
    """Return the finite values of a score by method and ratio, one a seed."""
    found: dict[tuple[str, float], list[float]] = {}
    for row in rows:
        value = getattr(row, name)
        if row.method != UNPRUNED and value is not None and math.isfinite(value):
            found.setdefault((row.method, row.ratio_asked), []).append(value)
    return found


# -- all scores of one share


def _of_cell(cell: Cell) -> Iterator[Table]:
    """Yield the values of a share, what they cost, and how ours compares, if errors of images were kept."""
    if not cell.errors:
        return
    share = f"{1 - cell.about.ratio_asked:.0%} kept"
    methods = sorted(cell.errors, key=lambda name: -(TOLD["psnr_db"].of(_errors_of(cell, name)) or 0.0))
    yield Table(f"{share}: values", [_values(cell, name) for name in methods])
    yield Table(f"{share}: what choosing cost, mean of seeds", [_cost(cell, name) for name in methods])
    against = [name for name in methods if not name.startswith(OURS) and cell.seeds(name)]
    if against:
        yield Table(f"{share}: `{cell.ours}` minus the method", [_difference(cell, name) for name in against])


def _errors_of(cell: Cell, method: str) -> list[Any]:
    return [cell.errors[method][seed] for seed in sorted(cell.errors[method])]


def _values(cell: Cell, method: str) -> dict[str, Any]:
    errors = _errors_of(cell, method)
    about = {"method": method, "seeds": len(errors), "images": sum(map(len, errors))}
    kept = mean(row.macs_kept for row in cell.rows[method].values())
    return {
        **about,
        "MACs kept": "" if kept is None else f"{kept:.3f}",
        **{each.title: number(each, each.of(errors)) for each in TOLD.values()},
    }


def _cost(cell: Cell, method: str) -> dict[str, Any]:
    rows = list(cell.rows[method].values())
    columns = {
        "full runs": (row.search_full_runs for row in rows),
        "seconds": (row.search_seconds for row in rows),
        "calls of the model": (row.search_calls for row in rows),
        "images": (row.search_images for row in rows),
        "settings": (row.settings_tried for row in rows),
        "settings that failed": (row.settings_failed for row in rows),
    }
    means = {title: mean(values) for title, values in columns.items()}
    return {
        "method": method,
        **{title: "" if value is None else f"{value:.1f}" for title, value in means.items()},
    }


def _difference(cell: Cell, method: str) -> dict[str, Any]:
    found = {column: cell.versus(method, column) for column in COMPARED}
    told = {COMPARED[column].title: interval(COMPARED[column], pair) for column, pair in found.items()}
    return {"method": method, "seeds": len(cell.seeds(method)), **told}


def interval(statistic: Statistic, pair: Comparison | None) -> str:
    """Return a difference with its interval and what that says."""
    if pair is None:
        return ""
    value, low, high = (
        f"{each:+.{statistic.digits}f}"
        for each in (pair.difference.value, pair.difference.low, pair.difference.high)
    )
    return f"{value} ({low} to {high}) {pair.verdict}"


def number(statistic: Statistic, value: float | None) -> str:
    """Return a value as tables print it."""
    return "" if value is None else f"{value:.{statistic.digits}f}"
