"""The heat maps of a report: how alike outputs of blocks are at every two steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from .arguments import check
from .report_page import INK, paragraph, png, short, spread, step_ticks, svg, text

MOST = 12
"""How many blocks are drawn; of more, as many that are evenly spread."""
LETTERS = 26
"""How many of a name there is room for."""
SIDE, LEFT, TOP, BOTTOM = 150, 26, 32, 52
VIRIDIS = ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725")
"""From low to high: lighter all the way, and told apart by eyes that do not see all hues."""


def check_maps(similarity: Any, steps: int) -> None:
    """Raise `TypeError` or `ValueError` unless these are maps of a loop of so many steps, or `None`."""
    wanted = "a mapping of blocks to tensors, as measure_similarity() returns it, or None"
    check("similarity", similarity, (Mapping, type(None)), wanted)
    for block, values in (similarity or {}).items():
        check("each of similarity", block, str, "the name of a block")
        check(f"similarity[{block!r}]", values, torch.Tensor, "a tensor")
        if not values.is_floating_point() or values.shape != (steps, steps):
            raise ValueError(
                f"similarity[{block!r}] must be a floating-point tensor of shape ({steps}, {steps}), by "
                f"steps of this plan, got {values.dtype} {tuple(values.shape)}"
            )
        if not bool((values.abs() <= 1).all()):
            raise ValueError(f"similarity[{block!r}] must hold cosines, in [-1, 1]")


def maps_pictures(similarity: Mapping[str, torch.Tensor], runs: Mapping[str, list[int]]) -> Iterator[str]:
    """Yield a map for each of a few blocks, the colours' legend, and what there is to see.

    Args:
        similarity: `(T, T)` in [-1, 1] for each block, as `measure_similarity` returns them; at least one.
        runs: the steps at which a plan runs a block, for the blocks that it knows.
    """
    names = [*similarity]
    shown = [names[n] for n in spread(len(names), MOST)]
    values = {name: similarity[name].to("cpu", torch.float64).numpy() for name in shown}
    low = min(float(table.min()) for table in values.values())
    low = min(low, 1 - 1e-6)
    maps = [_map(name, table, low, runs.get(name)) for name, table in values.items()]
    yield f'<div class="maps">{"".join([*maps, _legend(low)])}</div>'
    some = "" if len(shown) == len(names) else f"{len(shown)} of {len(names)} blocks, evenly spread. "
    marks = "Bars below a map are steps at which this plan runs the block. " if runs else ""
    yield paragraph(
        f"{some}Cosine of what a block returns at one step and at another in the unpruned loop: where a map "
        f"is bright, there is little that is new. {marks}"
    )


def colours(values: Any, low: float) -> Any:
    """Return the uint8 colours `(..., 3)` of an array of values from `low` to 1."""
    places = np.linspace(low, 1, len(VIRIDIS))
    anchors = np.array([[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in VIRIDIS])
    channels = [np.interp(values, places, anchors[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _map(name: str, values: Any, low: float, runs: list[int] | None) -> str:
    """Return the map of one block; step 0 is on the left and at the bottom."""
    steps = len(values)
    cell = SIDE / steps
    pixels = colours(values[::-1], low).repeat(-(-SIDE // steps), axis=0).repeat(-(-SIDE // steps), axis=1)
    near = np.diagonal(values, 1)
    beside = f"neighbours {near.mean():.3f}" if steps > 1 else ""
    words = f"{name}: cosine between steps, {values.min():.3g} to 1, {beside or 'one step'}"
    parts = [
        f"<title>{text(words)}</title>",
        *_name(name),
        f'<image x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" preserveAspectRatio="none" '
        f'href="{png(pixels)}"/>',
        *_bars(runs or (), cell),
        *_ticks(steps, cell),
        f'<text x="{LEFT}" y="{TOP + SIDE + 36}">step</text>',
        f'<text x="{LEFT + SIDE}" y="{TOP + SIDE + 36}" text-anchor="end">{beside}</text>',
    ]
    return svg(LEFT + SIDE + 8, TOP + SIDE + BOTTOM - 12, parts, words)


def _name(name: str) -> Iterator[str]:
    """Yield a block's name above its map; the call of the model that it belongs to has a line of its own."""
    path, at, call = name.rpartition("@")
    lines = [short(path, LETTERS), f"@{short(call, LETTERS - 1)}"] if at else [short(name, LETTERS)]
    for line, words in enumerate(reversed(lines)):
        yield f'<text class="name" x="{LEFT}" y="{TOP - 7 - 12 * line}">{text(words)}</text>'


def _bars(runs: Any, cell: float) -> Iterator[str]:
    path = "".join(f"M{LEFT + cell * (t + 0.1):.2f} {TOP + SIDE + 4}h{cell * 0.8:.2f}" for t in runs)
    if path:
        yield f'<path class="runs" d="{path}" stroke="{INK}" stroke-width="4"/>'


def _ticks(steps: int, cell: float) -> Iterator[str]:
    for step in step_ticks(steps, cell):
        place = cell * (step + 0.5)
        yield f'<text x="{LEFT + place:.1f}" y="{TOP + SIDE + 20}" text-anchor="middle">{step}</text>'
        yield f'<text x="{LEFT - 5}" y="{TOP + SIDE - place + 4:.1f}" text-anchor="end">{step}</text>'


def _legend(low: float) -> str:
    """Return the scale of the colours."""
    scale = png(colours(np.linspace(1, low, SIDE), low)[:, None])
    parts = [
        f'<text x="0" y="{TOP - 7}">cosine</text>',
        f'<image x="0" y="{TOP}" width="14" height="{SIDE}" preserveAspectRatio="none" href="{scale}"/>',
        *(
            f'<text x="19" y="{TOP + 4 + SIDE * share:.1f}">{1 - share * (1 - low):.{_digits(low)}f}</text>'
            for share in (0, 0.5, 1)
        ),
    ]
    return svg(70, TOP + SIDE + BOTTOM - 12, parts, f"colours from {low:.3g} to 1")


def _digits(low: float) -> int:
    """Return how many digits tell the ends and the middle of a scale apart."""
    return 2 + max(0, int(np.ceil(-np.log10(1 - low))))
