"""How much is left to measure, and about how long it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from benchmarks.tables import mean

from .rows import Row


def left(todo: Counter[tuple[str, str]], rows: Sequence[Row], samples: int) -> str:
    """Say how many rows are missing, and the hours that rows like them took.

    Args:
        todo: how many rows are missing by model and method.
        rows: those there are.
        samples: held-out samples of the missing ones.
    """
    text = f"{todo.total()} rows are missing"
    seconds = [(count, seconds_of(model, method, rows, samples)) for (model, method), count in todo.items()]
    known = [(count, each) for count, each in seconds if each is not None]
    untimed = sum(count for count, each in seconds if each is None)
    if known:
        text += f": about {sum(count * each for count, each in known) / 3600:.1f} hours, by rows like them"
    if untimed:
        text += f"; of {untimed} nothing is known, as no row of their model was timed"
    return f"{text}; targets that are not in the cache come on top"


def seconds_of(model: str, method: str, rows: Sequence[Row], samples: int) -> float | None:
    """Return seconds of a row: of the model's rows of that method, or of all its methods."""
    own = [row for row in rows if row.model == model and not row.error]
    return _mean([row for row in own if row.method == method], samples) or _mean(own, samples)


def _mean(rows: Iterable[Row], samples: int) -> float | None:
    """Return mean seconds of rows, as if they had so many samples; a search does not grow with them."""

    def of(row: Row) -> float | None:
        if row.row_seconds is None or not row.held_out_samples:
            return None
        search = min(row.search_seconds or 0.0, row.row_seconds)
        return search + (row.row_seconds - search) * samples / row.held_out_samples

    return mean(map(of, rows))
