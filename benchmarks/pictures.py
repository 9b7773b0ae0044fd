"""Pictures of what the benchmarks measured; only matplotlib is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle

from dipgo_fx.states import COLOURS, MEANINGS, State

# Tableau's ten colours with three markers and line styles tell thirty methods apart.
STYLES = (("-", "o"), ("--", "s"), (":", "^"))
OURS = "#c1121f"

Line = Sequence[tuple[float, float]]


def pareto(
    lines: Mapping[str, Line],
    label: str,
    title: str,
    file: Path,
    ours: str,
) -> None:
    """Draw a score against the share of MACs kept, one line a method.

    Args:
        lines: for each method its points `(kept, score)`, from few MACs to many.
        label: of the score.
        ours: the method that is drawn over the others.
    """
    figure, axis = plt.subplots(figsize=(10, 6), layout="constrained")
    others = [name for name in lines if name != ours]
    for index, name in enumerate(others):
        style, marker = STYLES[index // 10 % len(STYLES)]
        axis.plot(
            *_columns(lines[name]), style, marker=marker, ms=4, lw=1.2, alpha=0.85, color=f"C{index % 10}"
        )
    if ours in lines:
        axis.plot(*_columns(lines[ours]), "-", marker="D", ms=7, lw=3, color=OURS, zorder=10)
    names = [*others, *([ours] if ours in lines else [])]
    _end_legend(axis, names)
    axis.set(xlabel="share of the unpruned loop's MACs", ylabel=label, title=title)
    axis.grid(alpha=0.3)
    _save(figure, file)


def curves(lines: Mapping[str, Line], across: str, up: str, title: str, file: Path) -> None:
    """Draw curves with a point a measurement.

    Args:
        lines: the points of each, from left to right.
        across: label of the horizontal axis.
        up: label of the vertical one.
    """
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for index, (name, line) in enumerate(lines.items()):
        style, marker = STYLES[index % len(STYLES)]
        axis.plot(*_columns(line), style, marker=marker, ms=5, lw=1.6, color=f"C{index}", label=name)
    axis.legend()
    axis.set(xlabel=across, ylabel=up, title=title)
    axis.grid(alpha=0.3)
    _save(figure, file)


def _end_legend(axis: Any, names: Sequence[str]) -> None:
    """Put a legend beside the axes, ours first."""
    pairs = list(zip(axis.get_lines(), names, strict=True))
    ordered = pairs[-1:] + pairs[:-1]
    axis.legend(*zip(*ordered, strict=True), loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)


def sample_grid(strips: Sequence[tuple[str, torch.Tensor]], title: str, file: Path) -> None:
    """Draw rows of images, uint8 `(n, 1 or 3, height, width)`, with a name each; columns share noise."""
    if not strips:
        return
    figure, axes = plt.subplots(
        len(strips), 1, figsize=(9, 0.95 * len(strips) + 0.4), squeeze=False, layout="constrained"
    )
    for axis, (name, images) in zip(axes[:, 0], strips, strict=True):
        row = torch.cat(list(images), dim=-1).movedim(0, -1)
        axis.imshow(row.squeeze(-1), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axis.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=10)
    _save(figure, file)


def similarity(maps: Mapping[str, torch.Tensor], title: str, file: Path) -> None:
    """Draw heat maps `(T, T)` of how alike a block's output is at each two steps."""
    figure, axes = plt.subplots(
        1, len(maps), figsize=(3.1 * len(maps) + 0.6, 3.4), squeeze=False, layout="constrained"
    )
    low = min(float(values.min()) for values in maps.values())
    for axis, (name, values) in zip(axes[0], maps.items(), strict=True):
        image = axis.imshow(values, vmin=low, vmax=1, cmap="viridis", origin="lower")
        axis.set(xlabel="step", title=name)
        axis.title.set_fontsize(8)
    axes[0, 0].set_ylabel("step")
    figure.colorbar(image, ax=axes[0].tolist(), label="cosine similarity", shrink=0.85)
    figure.suptitle(title, fontsize=10)
    _save(figure, file)


def states(tables: Mapping[str, torch.Tensor], blocks: Sequence[str], title: str, file: Path) -> None:
    """Draw what becomes of each block at each step under plans.

    Args:
        tables: for each plan `(T, N)` values of `State`.
        blocks: the names of the N blocks.
    """
    steps = next(iter(tables.values())).shape[0]
    width, height = 0.16 * steps + 3, 0.2 * len(blocks) + 0.8
    figure, axes = plt.subplots(
        len(tables), 1, figsize=(max(width, 6), height * len(tables)), squeeze=False, layout="constrained"
    )
    for axis, (name, table) in zip(axes[:, 0], tables.items(), strict=True):
        _draw_states(axis, table, blocks)
        axis.set_title(name, fontsize=9)
    axes[-1, 0].set_xlabel("step")
    handles = [Rectangle((0, 0), 1, 1, color=COLOURS[state]) for state in State]
    names = [MEANINGS[state] for state in State]
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8)
    figure.suptitle(title, fontsize=10)
    _save(figure, file)


def _draw_states(axis: Any, table: torch.Tensor, blocks: Sequence[str]) -> None:
    colours = ListedColormap([COLOURS[state] for state in State])
    axis.pcolormesh(table.T, cmap=colours, vmin=0, vmax=len(State) - 1, edgecolors="white", linewidth=0.5)
    axis.set_yticks([n + 0.5 for n in range(len(blocks))], blocks, fontsize=6)
    shown = range(0, len(table), max(1, len(table) // 20))
    axis.set_xticks([t + 0.5 for t in shown], [str(t) for t in shown], fontsize=7)
    axis.invert_yaxis()


def _columns(points: Line) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _save(figure: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
