"""The demo's two pictures: samples at every ratio, and which block runs at which step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure

from ..plan import Plan, repeats

RUNS, REPEATS, EXTRAPOLATES = 0, 1, 2
COLOURS = ("#1b4965", "#f2c14e", "#cfe8ef")


def draw_samples(rows: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a grid of grey images `(n, 1, h, w)` in [-1, 1], one labelled row each."""
    count = min(len(images) for images in rows.values())
    figure = Figure(figsize=(0.55 * count + 1.6, 0.62 * len(rows) + 0.2), layout="constrained")
    grid = figure.subplots(len(rows), 1, squeeze=False)
    for axes, (label, images) in zip(grid[:, 0], rows.items(), strict=True):
        strip = torch.nn.functional.pad(images[:count, 0].clamp(-1, 1), (1, 1, 1, 1), value=1.0)
        axes.imshow(torch.cat(list(strip), dim=1), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
    figure.savefig(path, dpi=160)


def draw_plan(plan: Plan, live: torch.Tensor, path: Path) -> None:
    """Write the step by block table: what runs, and what a closed gate's readers take instead.

    Args:
        plan: gives blocks and weights.
        live: `(T, N)` bool, the blocks that run.
        path: PNG file.
    """
    kinds = torch.where(repeats(plan.weights), REPEATS, EXTRAPOLATES)
    kinds = torch.where(live, RUNS, kinds)
    steps, blocks = kinds.shape
    figure = Figure(figsize=(0.28 * steps + 2.8, 0.26 * blocks + 1.3), layout="constrained")
    axes = figure.subplots()
    colours = torch.tensor([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in COLOURS])
    axes.imshow(colours[kinds.T].numpy().astype("uint8"), aspect="auto", interpolation="nearest")
    axes.set_xticks(range(0, steps, max(1, steps // 10)))
    axes.set_yticks(range(blocks), plan.blocks, fontsize=7)
    axes.set_xticks([t - 0.5 for t in range(steps)], minor=True)
    axes.set_yticks([n - 0.5 for n in range(blocks)], minor=True)
    axes.grid(which="minor", color="white", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("step")
    axes.set_title(f"{plan.ratio:.1%} of the MACs removed", fontsize=10)
    for colour, label in zip(COLOURS, ("runs", "closed, repeats", "closed, extrapolates"), strict=True):
        axes.plot([], [], "s", color=colour, label=label)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=160)
