"""What a run has alive, step by step."""

from __future__ import annotations

import argparse

import pytest
import torch

from benchmarks.real_size.held import Step, held_rows, marked, step_rows, summary
from benchmarks.real_size.subjects import Size, Subject

OPTIONS = argparse.Namespace(device="cpu", dtype="float32", batch=1, seed=0)


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A transformer of few blocks at full width."""
    return Subject.of("dit", Size(side=8, layers=8, steps=5), OPTIONS)


def test_marks_leave_a_loop_what_it_is(subject: Subject) -> None:
    """Once a step, and the same result."""
    calls: list[int] = []
    with torch.no_grad():
        found = marked(subject.loop, lambda: calls.append(1))(**subject.inputs)
    assert len(calls) == 5
    assert torch.equal(found, subject.loop(**subject.inputs))


def test_a_pruned_run_has_no_more_alive_than_what_it_carries(subject: Subject) -> None:
    """Each of two plans, at every step."""
    summaries, steps = held_rows(subject)
    assert [row["within"] for row in summaries] == ["yes", "yes"]
    assert summaries[0]["values alive"] < summaries[1]["values alive"]
    assert len(steps) == 3 * 5
    assert all(row["peak"] >= row["held"] for row in steps)


def test_values_are_alive_from_the_step_that_makes_them() -> None:
    """To the last that reads them; a peak above is told."""
    plain = [Step(0, 10), Step(1, 12), Step(1, 12)]
    rows = step_rows("M", "P", [Step(0, 17), Step(6, 9), Step(1, 13)], plain)
    assert [row["values alive"] for row in rows] == [5, 5, 0]
    assert [row["bound"] for row in rows] == [17, 17, 12]
    found = summary(rows, plain, 0.5)
    assert (found["within"], found["pruned peak"], found["values alive"]) == ("no", 17, 5)
