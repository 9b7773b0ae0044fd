"""What the figures cannot show."""

from __future__ import annotations

import pytest

from benchmarks.report import limits
from benchmarks.report.results import OURS, UNPRUNED, Row, Score


def test_distances_are_told_only_where_they_were_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As differences from the unpruned model, with their intervals."""
    monkeypatch.setattr(limits, "read", lambda name: [])
    assert "were not drawn" in limits.frechet()
    row: Row = {"model": "digits-dit", "method": OURS, "ratio_asked": "0.8", "seed": "0", "images": "5000"}
    row |= {"distance": "12.34", "difference": "1.5", "difference_low": "-0.25", "difference_high": "2"}
    row |= {"class_accuracy": "0.9", "unpruned_class_accuracy": "0.92"}
    monkeypatch.setattr(limits, "read", lambda name: [row])
    assert "| digits DiT | `dipgo_fx` | 20% | 0 | 5000 | 12.3 | +1.50 (-0.25 to +2.00) |" in limits.frechet()


def test_rows_say_their_own_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older rows have what was noted for their model."""
    noted = {"digits-dit": 96}
    values = {"held_out_samples": 256.0}
    assert limits.images_of(Score("digits-dit", 0, OURS, 0.5, 0.5, values), noted) == 256
    assert limits.images_of(Score("digits-dit", 0, UNPRUNED, 0.5, 0.5, {}), noted) == 96


def test_prices_are_ranges() -> None:
    """Over shares and seeds."""
    values = [
        {"search_seconds": 10.0, "search_calls": 960.0, "search_images": 48.0},
        {"search_seconds": 20.0},
    ]
    found = [Score("digits-dit", seed, OURS, 0.5, 0.5, each) for seed, each in enumerate(values)]
    assert limits.prices(found) == ["10 to 20", "960", "48"]
