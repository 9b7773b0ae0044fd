"""Efficiency by share of MACs kept, a line a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import Row, grouped

from .rows import SETTING

FILE = "real_size-efficiency.png"
KINDS = {"whole steps": "o", "1 of": "s", "DeepCache's": "D", "DeepCache": "x", "cache-dit": "x"}
"""Markers by how a method's name begins, the longer name first."""
NAMES = {"o": "whole steps", "s": "partial steps", "D": "DeepCache's schedule as a plan", "x": "a package"}
ASKED = {"whole steps": 0.97, "partial steps": 0.95}


def points(rows: Iterable[Row]) -> dict[str, list[tuple[float, float, str]]]:
    """Return for each measurement `(kept, efficiency, marker)` of its pruned loops, few MACs first."""
    found: dict[str, list[tuple[float, float, str]]] = {}
    for about, own in grouped(rows, lambda row: tuple(row[name] for name in SETTING)).items():
        model, device, dtype, steps, batch = about
        told = [
            (float(row["macs_kept"]), float(row["efficiency"]), marker)
            for row in own
            if row["efficiency"] and not row["compile_seconds"] and (marker := marker_of(row["method"]))
        ]
        if told:
            where = "" if device == "cpu" else f", batch {batch}, {dtype} on {device}"
            found[f"{model}, {steps} steps{where}"] = sorted(told)
    return found


def marker_of(method: str) -> str:
    """Return the marker of a method, none for loops that are not drawn."""
    return next((marker for start, marker in KINDS.items() if method.startswith(start)), "")


def draw(rows: Iterable[Row], out: Path) -> None:
    """Draw the picture; nothing where matplotlib is not installed."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(12, 5.5), layout="constrained")
    colours = matplotlib.colormaps["tab20"].colors  # more models than the usual ten
    used = _draw_points(axis, points(rows), colours)
    for (name, value), style in zip(ASKED.items(), ("--", ":"), strict=True):
        axis.axhline(value, color="black", ls=style, lw=1, label=f"asked of {name}")
    for marker in used:
        axis.plot([], [], marker, color="grey", label=NAMES[marker])
    axis.set_xlabel("share of MACs kept")
    axis.set_ylabel("speed-up x share of MACs kept")
    axis.set_title("What pruned loops reach of the speed-up that MACs promise")
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(out / FILE, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _draw_points(
    axis: Any, lines: dict[str, list[tuple[float, float, str]]], colours: Sequence[Any]
) -> list[str]:
    """Draw a line through a model's whole steps, and all its points; return the markers in use."""
    used = set[str]()
    for number, (name, own) in enumerate(lines.items()):
        colour = colours[number % len(colours)]
        whole = [(kept, value) for kept, value, marker in own if marker == "o"]
        axis.plot(
            [kept for kept, _ in whole], [value for _, value in whole], color=colour, lw=1.2, label=name
        )
        for kept, value, marker in own:
            axis.plot(kept, value, marker, color=colour, ms=6, alpha=0.85)
            used.add(marker)
    return [marker for marker in NAMES if marker in used]
