"""Runs are timed in turns."""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks.speed.clocks import CLOCKS, interleaved


def test_no_contestant_has_always_the_same_place() -> None:
    """The order turns round every time, and the first round only warms up."""
    order: list[str] = []

    def run(name: str) -> torch.Tensor:
        order.append(name)
        return torch.zeros(())

    seconds = interleaved({name: lambda name=name: run(name) for name in "abc"}, repeats=2)  # type: ignore[misc]
    assert "".join(order) == "cba" + "abc" + "cba"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_what_has_run_before_needs_no_warm_up() -> None:
    """Every round counts, by the clock that is given."""
    times = iter(range(10))
    seconds = interleaved({"a": lambda: None, "b": lambda: None}, 2, lambda run: next(times), warm_up=False)
    assert seconds == {"a": [0, 3], "b": [1, 2]}


@pytest.mark.parametrize("name", ["wall", "processor"])
def test_a_run_is_timed_in_seconds(name: str) -> None:
    """Waiting is no work of the processor."""
    seconds = CLOCKS[name](lambda: time.sleep(0.05))
    assert (seconds >= 0.05) == (name == "wall")
    assert 0 <= seconds < 1
