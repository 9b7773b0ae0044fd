"""How much is left."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.quality.progress import left, seconds_of
from benchmarks.quality.rows import Row


def row(method: str, seconds: float, search: float = 0.0, samples: int = 100) -> Row:
    """Return a row that took some seconds."""
    about = Row("m", "DDIM", 20, method, 0.5)
    return Row(
        *(about.model, about.scheduler, about.steps, about.method, about.ratio_asked),
        row_seconds=seconds,
        search_seconds=search,
        held_out_samples=samples,
    )


def test_rows_like_the_missing_ones_tell_the_hours() -> None:
    """Of the method, or else of the model; a model without rows is said to be unknown."""
    rows = [row("a", 3600.0), row("b", 1800.0)]
    assert "3 rows are missing: about 2.5 hours" in left(Counter({("m", "a"): 2, ("m", "b"): 1}), rows, 100)
    assert "about 0.8 hours" in left(Counter({("m", "c"): 1}), rows, 100)
    text = left(Counter({("m", "a"): 1, ("other", "a"): 2}), rows, 100)
    assert "3 rows are missing: about 1.0 hours" in text
    assert "of 2 nothing is known" in text
    assert left(Counter(), rows, 100).startswith("0 rows are missing")


def test_more_samples_take_longer_and_a_search_does_not() -> None:
    """Only what was run on held-out samples grows."""
    assert seconds_of("m", "a", [row("a", 30.0, search=10.0)], 200) == pytest.approx(50.0)
    assert seconds_of("m", "a", [], 200) is None
