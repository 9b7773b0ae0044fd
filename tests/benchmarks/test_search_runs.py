"""Quality by what a search makes."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import pictures
from benchmarks.search_runs import Search, draw


def test_a_curve_has_the_mean_of_seeds_for_each_search(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A line a ratio, its searches from few images to many."""
    drawn: list[Any] = []
    monkeypatch.setattr(pictures, "curves", lambda *given: drawn.append(given))
    scores = {(7, 24.0): 50.0, (8, 24.0): 52.0, (7, 6.0): 40.0, (8, 6.0): 44.0}
    found = [
        {
            "seed": seed,
            "samples": 4,
            "full runs": runs,
            "images": 4 * runs + seed,
            "ratio": 0.5,
            "mean of images": score,
        }
        for (seed, runs), score in scores.items()
    ]
    draw("digits-dit", found, Namespace(steps=20, seeds=[7, 8], out=tmp_path))
    ((lines, *_, title, file),) = drawn
    assert lines == {"50% kept": [(31.5, 42.0), (103.5, 51.0)]}
    assert title == "digits-dit, 20 steps, 2 seeds"
    assert file == tmp_path / "search_runs-digits-dit.png"


def test_a_search_is_read_from_its_numbers() -> None:
    """Samples, then full runs; anything else is refused with an example of what is wanted."""
    assert Search.read("16x8") == Search(16, 8.0)
    for wrong in ("16", "x8", "16x", "a lot"):
        with pytest.raises(ArgumentTypeError, match="16x8"):
            Search.read(wrong)
