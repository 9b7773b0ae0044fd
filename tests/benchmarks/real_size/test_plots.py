"""The picture of efficiencies."""

from __future__ import annotations

from pathlib import Path

from benchmarks.real_size import plots
from benchmarks.tables import Row


def row(method: str, kept: float, efficiency: object, compiled: str = "", device: str = "cpu") -> Row:
    """Return a row of speed.csv."""
    cells = {"macs_kept": str(kept), "efficiency": str(efficiency), "compile_seconds": compiled}
    about = {"model": "M", "device": device, "dtype": "float32", "steps": "5", "batch": "1"}
    return {**about, "method": method, **cells}


ROWS = [
    row("eager loop", 1.0, 1.0),
    row("whole steps", 0.5, 0.96),
    row("whole steps", 0.2, 1.0),
    row("whole steps, loop.compile()", 0.2, 3.0, "9.5"),
    row("DeepCache's schedule as a plan, interval 5", 0.25, 0.95),
    row("cache-dit", 0.25, ""),
    row("1 of 5 whole, else the last 3 blocks", 0.3, 0.9, device="cuda"),
]


def test_points_are_of_pruned_loops_that_ran_as_they_are() -> None:
    """Few MACs first; another device is another line."""
    assert plots.points(ROWS) == {
        "M, 5 steps": [(0.2, 1.0, "o"), (0.25, 0.95, "D"), (0.5, 0.96, "o")],
        "M, 5 steps, batch 1, float32 on cuda": [(0.3, 0.9, "s")],
    }


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    """As a file of its own."""
    plots.draw(ROWS, tmp_path)
    assert (tmp_path / plots.FILE).stat().st_size > 1000
