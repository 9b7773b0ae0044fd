"""The demo's two pictures: samples at every ratio, and which block runs at which step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

from ..plan import Plan
from ..states import COLOURS, MEANINGS, State


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


def grey_image(values: torch.Tensor) -> Image.Image:
    """Return values `(h, w)` in [-1, 1] as an image."""
    return Image.fromarray((values.clamp(-1, 1) * 127.5 + 127.5).round().byte().numpy())


def draw_plan(plan: Plan, path: Path) -> None:
    """Write what becomes of each block at each step, and below it what each step costs.

    Args:
        plan: one that knows its cost.
        path: PNG file.
    """
    states, kept = plan.states(), plan.kept_by_step()
    steps, blocks = states.shape
    figure = Figure(figsize=(0.28 * steps + 2.8, 0.26 * blocks + 2.4), layout="constrained")
    table, bars = figure.subplots(2, 1, sharex=True, height_ratios=(blocks, 3))
    colours = torch.tensor([[int(COLOURS[state][i : i + 2], 16) for i in (1, 3, 5)] for state in State])
    table.imshow(colours[states.T].numpy().astype("uint8"), aspect="auto", interpolation="nearest")
    table.set_yticks(range(blocks), plan.blocks, fontsize=7)
    table.set_xticks([t - 0.5 for t in range(steps)], minor=True)
    table.set_yticks([n - 0.5 for n in range(blocks)], minor=True)
    table.grid(which="minor", color="white", linewidth=0.6)
    table.tick_params(which="both", length=0)
    table.set_title(f"{plan.ratio:.1%} of the MACs removed", fontsize=10)
    bars.bar(range(steps), [100 * share for share in kept], color=COLOURS[State.RUNS], width=0.9)
    bars.set_ylim(0, 100)
    bars.set_ylabel("MACs\nkept, %", fontsize=8)
    bars.set_xticks(range(0, steps, max(1, steps // 10)))
    bars.tick_params(which="minor", length=0)
    bars.set_xlabel("step")
    for state, colour in COLOURS.items():
        table.plot([], [], "s", color=colour, label=MEANINGS[state])
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(path, dpi=160)
