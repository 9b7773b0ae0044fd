"""Tables of ablations."""

from __future__ import annotations

from benchmarks.report.ablations import ablated, way
from benchmarks.report.results import Row


def row(variant: str, psnr: float | str) -> Row:
    """Return a row of ablations.csv."""
    return {"variant": variant, "psnr_db": str(psnr), "search_full_runs": "3.8"}


def test_a_variant_is_told_by_its_value() -> None:
    """A variant that was not measured has an empty cell."""
    rows = [row("l1", 23.26), row("l2", 21.84)]
    assert [ablated(rows, name) for name in ("l1", "l2", "ssim")] == ["23.3", "21.8", ""]


def test_a_way_to_search_is_told_with_its_cost() -> None:
    """Nothing where it was not measured."""
    assert way([row("default", 31.21)]) == "31.2 (3.8 runs)"
    assert way([]) == ""
