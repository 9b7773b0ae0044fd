"""Sentences on speed at full width, memory, tracing and compiling."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.report import real_size
from benchmarks.report.results import Row

Given = Callable[..., None]
BLANK = {
    "model": "M",
    "device": "cpu",
    "dtype": "float32",
    "steps": "5",
    "batch": "1",
    "ratio_asked": "",
    "macs_kept": "0.2",
    "compile_seconds": "",
    "error": "",
    "clock": "wall",
    "rounds": "2",
    "graph_breaks": "",
    "recompiles": "",
    "max_abs_diff": "",
}
SCHEDULE, PACKAGE = "DeepCache's schedule as a plan, interval 5", "DeepCache 0.1.1, interval 5"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """Put rows in the place of every file that is read."""

    def put(*rows: Row) -> None:
        monkeypatch.setattr(real_size, "read", lambda name: list(rows))

    return put


def row(method: str, efficiency: float | str, **cells: str) -> Row:
    """Return a row of speed.csv."""
    return {**BLANK, "method": method, "efficiency": str(efficiency), "speedup": str(efficiency), **cells}


def test_efficiencies_are_told_by_kind(given: Given) -> None:
    """A package beside the plan of its schedule; what was compiled, or failed, is left out."""
    given(
        row("eager loop", 1.0),
        row("traced loop", 1.01),
        row("whole steps", 0.97, ratio_asked="0.3"),
        row("whole steps", 1.0, ratio_asked="0.8"),
        row("whole steps, loop.compile()", 5.0, compile_seconds="9.0"),
        row("1 of 5 whole, else the last 3 blocks", 0.9),
        row(SCHEDULE, 0.95),
        row(PACKAGE, 0.91),
        row("cache-dit", "", error="ValueError: no"),
    )
    assert real_size.speed() == (
        "At full width, with random weights, loops reach this share of the speed-up that MACs promise: on "
        "one CPU thread by wall time unpruned 1.01, whole steps 0.97 to 1.00, partial steps 0.90, "
        "DeepCache's schedule as a plan 0.95 and a package 0.91 (M)."
    )


def test_another_device_has_figures_of_its_own(given: Given) -> None:
    """Its card is named, and its dtype; another clock has too."""
    other = {"device": "cuda", "dtype": "bfloat16", "model": "N", "clock": "events"}
    other |= {"machine": "x86_64 CPU with 16 cores and NVIDIA H200", "torch": "2.11.0+cu130"}
    given(
        row("traced loop", 1.0), row("traced loop", 1.2, clock="processor"), row("traced loop", 1.1, **other)
    )
    assert real_size.speed().endswith(
        "on one CPU thread by wall time unpruned 1.00 (M); on one CPU thread by processor time unpruned 1.20 "
        "(M); on one NVIDIA H200, bfloat16, torch 2.11.0 by events time unpruned 1.10 (N)."
    )


def test_what_is_behind_is_told_plainly(given: Given) -> None:
    """Of a loop against what was asked of its kind, and of a plan against the package."""
    given(
        row("traced loop", 0.98),
        row("whole steps", 0.96, ratio_asked="0.5"),
        row("whole steps", 0.966, ratio_asked="0.8"),
        row("1 of 5 whole, else the last 3 blocks", 0.95),
        row(SCHEDULE, 0.96, max_abs_diff="0.5"),
        row(PACKAGE, 0.99, max_abs_diff="0.0"),
        row("guidance, two calls, whole steps", 0.86),
    )
    assert real_size.behind().partition("): ")[2] == (
        "M, traced loop (5 steps) 0.98 instead of 1; M, whole steps (at 0.5, 5 steps) 0.96 instead of 0.97; "
        "M, guidance, two calls, whole steps (5 steps) 0.86 instead of 0.97; "
        f"M, {SCHEDULE} (5 steps) 0.96 times as fast as the eager loop, the package 0.99; "
        f"M, {SCHEDULE} (5 steps) differs by 0.5 from what it must equal."
    )


def test_nothing_behind_is_told_too(given: Given) -> None:
    """In one sentence."""
    given(row("traced loop", 1.0))
    assert real_size.behind() == "No loop is behind what was asked of it."


def test_guidance_is_told_with_and_without_some_calls(given: Given) -> None:
    """By seconds, and by what is kept."""
    rows = [
        row(real_size.ONE_CALL, 1.0, seconds_median="10.0"),
        row(real_size.TWO_CALLS, 0.9, seconds_median="12.0"),
        row(real_size.HALF_CALLS, 0.95, seconds_median="8.0"),
    ]
    given(*rows)
    assert real_size.guidance().endswith("both run): M (one CPU thread) 1.20 and 0.95.")
    joined = row(real_size.JOINED, 1.0, seconds_median="10.0"), row(real_size.HALF_JOINED, 0.97)
    given(*rows, *joined)
    assert real_size.guidance().endswith("both run): M (one CPU thread) 1.20 [1.00] and 0.95 [0.97].")


@pytest.mark.parametrize(("within", "end"), [("yes", "; so at every step."), ("no", "; not so with `P`.")])
def test_a_run_that_has_more_alive_is_told(given: Given, within: str, end: str) -> None:
    """Bytes as MiB."""
    bytes_of = {"unpruned peak": str(3 * 2**20), "pruned peak": str(2 * 2**20), "values alive": str(2**19)}
    given({"model": "M", "plan": "P", "within": within, **bytes_of})
    text = real_size.runs()
    assert "3.00 MiB unpruned, 2.00 MiB by the plan `P`, of which 0.50 live from" in text
    assert text.endswith(end)


def test_growth_is_told_by_step(given: Given) -> None:
    """Processor seconds, and milliseconds a step."""
    given(
        *({"model": "M", "steps": steps, "median CPU s": s} for steps, s in (("50", "1.0"), ("100", "1.5")))
    )
    assert real_size.growth() == (
        "Tracing M on the meta device takes, of the processor's time: 50 steps 1.0 s and 100 steps 1.5 s; "
        "milliseconds a step: 20 and 15."
    )


def test_compiling_is_told_by_model(given: Given) -> None:
    """Seconds, and what went wrong on the way."""
    told = {"graph_breaks": "1", "recompiles": "2"}
    given(row("eager loop", 1.0), row("loop.compile()", 1.0, compile_seconds="9.6", **told))
    assert real_size.compiled() == (
        "Compiling at full width takes: M (one CPU thread) loop.compile() 10 s; 1 graph breaks and 2 "
        "recompiles in all."
    )


def test_a_table_has_a_line_a_model(given: Given) -> None:
    """Spans, the shares kept behind them, and what failed."""
    given(
        row("eager loop", 1.0),
        row("whole steps", 0.97, macs_kept="0.7"),
        row("whole steps", 1.0),
        row("cache-dit 1.5.3, static mask, 1 of 5", "", error="ValueError: no"),
        row("whole steps, loop.compile()", 1.0, compile_seconds="9.6", model="N"),
    )
    assert real_size.table().splitlines()[-1] == (
        "| M | one CPU thread | 5 | wall, 2 |  | 0.97 to 1.00 (0.20 to 0.70) |  |  |  | cache-dit 1.5.3 |"
    )


def test_only_what_was_measured_is_told(given: Given) -> None:
    """A sentence without rows is left out."""
    given()
    every = (real_size.speed, real_size.runs, real_size.growth, real_size.guidance, real_size.compiled)
    assert real_size.present(*every) == [real_size.speed]


def test_ways_to_compile_are_told_one_by_one() -> None:
    """Plans of whole steps first, those with partial steps in brackets."""
    shared, blocks, whole = real_size.COMPILED

    def row(way: str, blocks_at_others: int, of_plain: float) -> Row:
        return {"way": way, "blocks at others": str(blocks_at_others), "of plain": str(of_plain)}

    found = [row("denoiser", 0, 1.0), row(shared, 0, 0.75), row(shared, 0, 1.1), row(shared, 2, 2.4)]
    found += [row(blocks, 0, 0.5), row(whole, 0, 11.6)]
    assert real_size.compared(found) == (
        "`loop.compile()` 0.8 to 1.1 (2.4 with partial steps), blocks compiled in place 0.5 and "
        "`torch.compile(loop)` 11.6"
    )
