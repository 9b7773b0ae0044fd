"""What the figures cannot show."""

from __future__ import annotations

from benchmarks.report.limits import inside
from benchmarks.report.results import OURS, UNPRUNED, Score


def score(method: str, fid: float, asked: float = 0.5) -> Score:
    """Return a row with a FID-like and the interval of the unpruned model."""
    return Score(
        "m", 0, method, asked, asked, {"fid_like": fid, "fid_like_low": 90.0, "fid_like_high": 110.0}
    )


def test_what_is_within_the_models_own_interval_is_no_worse() -> None:
    """Both ends count; other shares do not."""
    values = {UNPRUNED: 100.0, OURS: 90.0, "low": 89.9, "high": 110.1}
    found = [*(score(method, fid) for method, fid in values.items()), score("other", 100.0, asked=0.3)]
    assert inside(found, 0.5) == {OURS: True, "low": False, "high": False}
