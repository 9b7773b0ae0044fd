"""SmoothCache's schedules from a calibration run."""

from __future__ import annotations

import pytest

from benchmarks.cases import Case
from benchmarks.peers import Task
from benchmarks.peers.core import ActsOnNothing
from benchmarks.peers.smoothcache import LOOKAHEAD, calibrate, schedule_of, settings

pytestmark = pytest.mark.long

STEPS = 5


def task_of(name: str) -> Task:
    """Return a task of two samples."""
    return Task.of(Case(name, STEPS), samples=2, ratios=[0.5], full_runs=2.0)


@pytest.mark.parametrize(
    ("threshold", "schedule"),
    [(0.05, [1, 1, 1, 1, 1]), (0.15, [1, 0, 1, 1, 1]), (0.25, [1, 0, 0, 1, 1]), (9.0, [1, 0, 0, 0, 1])],
)
def test_the_longest_run_within_the_threshold_repeats(threshold: float, schedule: list[int]) -> None:
    """Row k has the change over k + 1 steps; the first and the last step are computed."""
    errors = [[0.1, 0.9, 0.9, 0.9], [0.2, 0.9, 0.9], [0.3, 0.9]]
    assert schedule_of(errors, threshold) == schedule
    assert schedule_of([[0.0, 0.0], [0.0]], threshold) == [1, 0, 1]


def test_changes_grow_with_the_distance() -> None:
    """A calibration compares each output with the last few, for attentions and feed-forwards."""
    errors = calibrate(task_of("digits-dit"))
    assert set(errors) == {"attn1", "ff"}
    for rows in errors.values():
        assert [len(row) for row in rows] == [STEPS - 1 - k for k in range(LOOKAHEAD)]
        assert 0 < rows[0][0] < rows[2][0]


def test_a_model_without_its_blocks_is_told() -> None:
    """The package wraps one class of blocks only."""
    with pytest.raises(ActsOnNothing, match="wraps BasicTransformerBlock only"):
        list(settings(task_of("digits-unet")))
