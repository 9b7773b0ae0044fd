"""The table of what choosing would cost on large models."""

from __future__ import annotations

import pytest

from benchmarks.report import projected
from benchmarks.report.results import OURS, Score

SPENT = {"search_full_runs": 2.0, "search_images": 96.0, "search_calls": 7200.0}
LOOP = {
    "model": "Large",
    "device": "cuda",
    "dtype": "bfloat16",
    "method": "eager loop",
    "machine": "16 cores and A",
    "torch": "2.13.0+cu130",
}


def score(method: str, asked: float = 0.3, **values: float) -> Score:
    """Return a measurement that has a price."""
    return Score("digits-dit", 0, method, asked, asked, {**SPENT, **values})


@pytest.fixture(autouse=True)
def given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a loop that was timed on a GPU, one on a CPU, and measurements in the place of the files."""
    timed = [
        {**LOOP, "steps": "20", "batch": "2", "seconds_median": "20"},
        {**LOOP, "steps": "20", "batch": "1", "seconds_median": "99", "device": "cpu"},
    ]
    scores = [
        score(OURS),
        score("dear", search_calls=14400.0),
        score("dear", search_calls=21600.0),
        score("elsewhere", asked=0.5),
        score("counts nothing", search_calls=0.0),
    ]
    monkeypatch.setattr(projected, "read", lambda name: timed)
    monkeypatch.setattr(projected, "scores", lambda: scores)


def test_hours_are_calls_times_the_seconds_of_one() -> None:
    """Twenty steps of two samples in 20 s are half a second a call; of two seeds the mean is shown."""
    *_, cheap, dear = projected.table().splitlines()
    assert cheap == "| **`dipgo_fx`** | 2.0 | 96 | 7200 | 1.00 |"
    assert dear == "| dear | 2.0 | 96 | 18000 | 2.50 |"


def test_it_says_what_was_timed_where() -> None:
    """Only the GPU's loop is told, with what a call of it took."""
    text = " ".join(projected.table().splitlines())
    assert "on one A, bfloat16, torch 2.13.0, batch 1: 500 ms (Large)" in text
    assert "counts nothing" not in text
    assert "elsewhere" not in text
