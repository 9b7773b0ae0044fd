"""Seconds before anything runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.architectures import SETTINGS
from benchmarks.speed import startup


def test_imports_are_timed_in_processes_of_their_own() -> None:
    """Each module once a round; a first round warms up."""
    (row,) = startup.import_rows(1, ["json"])
    assert row["import"] == "json"
    assert 0 <= row["median s"] < 1


def test_imports_are_interleaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """All once, then all again; the median leaves the first round out."""
    times = iter([9.0, 9.0, 1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(startup, "_imported", lambda name: next(times))
    rows = startup.import_rows(2, ["a", "b"])
    assert [(row["import"], row["median s"], row["fastest s"]) for row in rows] == [
        ("a", 2.0, 1.0),
        ("b", 3.0, 2.0),
    ]


def test_a_trace_says_how_large_its_graph_is() -> None:
    """Twice the steps have about twice the nodes."""
    few, more = (startup.trace_row(replace(SETTINGS["dit"], steps=steps), 1) for steps in (1, 2))
    assert 1.5 < more["nodes"] / few["nodes"] < 2.5
    assert (few["steps"], more["steps"]) == (1, 2)
