"""Sentences on the cost of a search, other step counts, speed and MACs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.report import costs
from benchmarks.report.results import Row

Given = Callable[..., None]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """Put rows in the place of every file that is read."""

    def put(*rows: dict[str, object]) -> None:
        texts: list[Row] = [{key: str(value) for key, value in row.items()} for row in rows]
        monkeypatch.setattr(costs, "read", lambda name: texts)

    return put


def _searches() -> list[dict[str, object]]:
    """Return two seeds of the quick search, of the usual one and of a dearer one."""
    of_seeds = {7: (40, 50, 51), 8: (46, 50, 53)}
    return [
        {
            "seed": seed,
            "ratio": 0.5,
            "samples": n,
            "full runs": runs,
            "images": n * runs,
            "mean of images": db,
        }
        for seed, scores in of_seeds.items()
        for (n, runs), db in zip((costs.QUICK, costs.USUAL, (48, 50.0)), scores, strict=True)
    ]


def test_other_searches_are_held_against_the_usual_one(given: Given) -> None:
    """Cell by cell: the mean of the differences, and the worst of them; the cheapest search first."""
    given(*_searches())
    text = costs.by_runs()
    assert "48 samples that may spend 24 full runs, 1152 images" in text
    assert "mean over 4 cells of digits DiT and digits U-Net" in text  # the same rows for both models
    assert "-7.0 dB with 16 samples and 8 runs (128 images; at worst -10.0) and +2.0 dB with 48" in text


def test_a_quick_search_is_told_with_what_it_loses(given: Given) -> None:
    """From the worst cell to the best, and on average."""
    given(*_searches())
    text = " ".join(costs.quick_search().split())
    assert "about 1152 unpruned images" in text
    assert "PruneConfig(samples=16, full_runs=8)` it is about 128" in text
    assert "changes by -7.0 dB, mean over 4 cells" in text
    assert "(-10.0 to -4.0)" in text


def test_memory_is_told_from_the_fewest_steps_to_the_most(given: Given) -> None:
    """Growth is between the ends."""
    given(
        *(
            {"step of a search": kind, "T": steps, "peak_MiB": base * factor}
            for kind, base in zip(costs.PEAKS, (2.0, 10.0, 20.0), strict=True)
            for steps, factor in ((10, 1.0), (20, 1.5))
        )
    )
    text = costs.memory()
    assert text.startswith("At 10 and 20 steps one Gauss-Newton step has 2.0 and 3.0 MiB")
    assert "50% more at the most steps" in text
    assert "10.0 and 15.0 MiB with recomputation and 20.0 and 30.0 without" in text


def test_a_moved_plan_is_between_two_others(given: Given) -> None:
    """A case in which it is behind fewer steps is counted as one."""
    rows = [
        {
            "T": 10,
            "asked": 0.5,
            "kept": 0.4,
            "searched at 20": 36.0,
            "searched at T": 46.0,
            "fewer steps": 32.0,
        },
        {
            "T": 30,
            "asked": 0.5,
            "kept": 0.5,
            "searched at 20": 39.0,
            "searched at T": 44.0,
            "fewer steps": 40.0,
        },
    ]
    given(*rows)
    text = costs.step_counts()
    assert "moved to 10 and 30, asked to keep 50% of the MACs and keeping 40% and 50%," in text
    assert "is 5.0 to 10.0 dB below a search" in text
    assert "it is -1.0 to 4.0 dB, behind at 30 steps and 50% (one seed, no intervals)." in text


def test_speed_is_a_range_beside_what_macs_promise() -> None:
    """Loops are found by how their names start and end."""
    loops = {"whole steps, reuse, 0.8": 4.9, "whole steps, linear, 0.8": 5.1, "whole steps, reuse, 0.5": 2.0}
    rows = [{"loop": name, "speed-up": str(value), "ideal": "5.0"} for name, value in loops.items()]
    assert costs.faster(rows, "whole steps", "0.8") == "4.90 to 5.10 (by MACs 5.00)"


@pytest.mark.parametrize(
    ("seconds", "end"), [(4.0, "the goal is 5 s)."), (6.0, "the goal is 5 s, missed by M).")]
)
def test_a_missed_goal_is_told(given: Given, seconds: float, end: str) -> None:
    """And one that is not missed is not."""
    given({"model": "M", "steps": 50, "median CPU s": seconds, "asked s": 5.0})
    start = f"Tracing takes, of one processor's time, {seconds:.1f} s for M at 50 steps"
    assert costs.tracing() == f"{start} (medians; {end}"


def test_guidance_in_two_calls_is_told_as_a_share(given: Given) -> None:
    """Slower is more than all."""
    given({"model": "M", "loop": "one call a step", "speed-up": 1.0}, *_two_calls(0.8))
    assert costs.guidance().endswith("125% on M and 125% on M.")


def _two_calls(speed_up: float) -> list[dict[str, object]]:
    return [{"model": "M", "loop": "two calls a step", "speed-up": speed_up}]


def test_the_largest_difference_counts_whatever_its_sign(given: Given) -> None:
    """Unpruned and pruned rows apart."""
    about = {"model": "M", "steps": 50, "ours": 20.0, "ours without": 17.0}
    given(*({**about, "ratio": r, "difference": d} for r, d in ((0.0, "+0.06 %"), (0.8, "-1.60 %"))))
    assert "at most 0.06% unpruned and 1.6% pruned; M at 50 steps has 17.00 T" in costs.macs()
