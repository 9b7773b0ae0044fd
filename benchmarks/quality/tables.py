"""Tables of quality: PSNR and FID-like by method and kept share for each model, then errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.tables import Part, Section, Table, grouped, mean

from .offers import OUT_OF_REACH
from .rows import UNPRUNED, Row

TITLE = "Quality at matched cost"
GUIDE = """Columns are shares of the unpruned loop's MACs that were asked for, at most; the best of a column
is bold. A package may exceed it by 0.0125, and where it skips by what it sees, by more: `macs_kept` in
quality.csv says what ran. PSNR is to the unpruned result of the same noise, FID-like to real images
(EfficientNet-Lite0 features; comparable only inside this file). Of several seeds the first. Empty: no
setting keeps so little, it was not measured, or the method does not run on the model (last table)."""
SCORES: tuple[tuple[str, str, Callable[..., float]], ...] = (
    ("psnr_db", "PSNR in dB, higher is better", max),
    ("fid_like", "FID-like, lower is better", min),
    ("class_accuracy", "Share recognised as the class asked for, higher is better", max),
)


def parts(rows: Sequence[Row]) -> list[Part]:
    """Return a section for each model, scheduler and step count, and a table of errors."""
    sections = [Section(title, list(_tables(own)), _unpruned(own)) for title, own in groups(rows).items()]
    errors = list(_errors(rows))
    return [*sections, *([Table("Methods that could not run", errors)] if errors else [])]


def groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return rows by model, scheduler and steps."""
    return grouped(rows, lambda row: f"{row.model}, {row.scheduler}, {row.steps} steps")


def first_seed(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the lowest seed: some noise is harder, and not all seeds have all methods."""
    lowest = min(row.seed for row in rows)
    return [row for row in rows if row.seed == lowest]


def _tables(rows: Sequence[Row]) -> Iterator[Table]:
    chosen = first_seed(rows)
    for name, title, best in SCORES:
        if any(getattr(row, name) is not None and row.ratio_asked for row in chosen):
            yield Table(title, _by_method(chosen, name, best))
    if spread := _over_seeds(rows):
        yield Table("PSNR in dB over seeds: mean (lowest to highest)", spread)


def _unpruned(rows: Sequence[Row]) -> str:
    """Say what the unpruned loop scores."""
    own = [row for row in first_seed(rows) if row.method == UNPRUNED]
    found = {name: mean(getattr(row, name) for row in own) for name in ("fid_like", "class_accuracy")}
    told = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in found.items() if value is not None]
    return f"Unpruned: {', '.join(told)}." if told else ""


def _errors(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    told = {(row.model, row.method, row.error) for row in rows if row.error}
    for model, method, error in sorted(told):
        if not error.startswith(OUT_OF_REACH):
            yield {"model": model, "method": method, "error": error}


def _by_method(rows: Sequence[Row], name: str, best: Callable[..., float]) -> list[dict[str, Any]]:
    """Return one row a method and one column a kept share, the best of each column bold."""
    scores: dict[str, dict[float, float]] = {}
    for (method, ratio), own in _measured(rows, name).items():
        scores.setdefault(method, {})[ratio] = sum(own) / len(own)
    ratios = sorted({ratio for own in scores.values() for ratio in own})
    columns = {ratio: [own[ratio] for own in scores.values() if ratio in own] for ratio in ratios}
    worst = min if best is max else max

    def standing(method: str) -> float:
        """Mean of the columns, the worst of a column where there is none."""
        found = [scores[method].get(ratio, worst(columns[ratio])) for ratio in ratios]
        return sum(found) / len(found)

    def cell(method: str, ratio: float) -> str:
        if ratio not in scores[method]:
            return ""
        text = f"{scores[method][ratio]:.{3 if name == 'class_accuracy' else 2}f}"
        return f"**{text}**" if scores[method][ratio] == best(columns[ratio]) else text

    methods = sorted(scores, key=standing, reverse=best is max)
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


def _line(method: str, cells: dict[float, str]) -> dict[str, Any]:
    return {"method": method, **{f"{1 - ratio:.0%} kept": text for ratio, text in cells.items()}}


def _measured(rows: Sequence[Row], name: str) -> dict[tuple[str, float], list[float]]:
    """Return the finite values of a score by method and ratio, one a seed."""
    found: dict[tuple[str, float], list[float]] = {}
    for row in rows:
        value = getattr(row, name)
        if row.method != UNPRUNED and value is not None and math.isfinite(value):
            found.setdefault((row.method, row.ratio_asked), []).append(value)
    return found
