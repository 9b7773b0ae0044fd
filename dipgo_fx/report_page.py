"""A report as HTML with inline SVG, made as text: no library, no script, nothing from the network.

Whatever is shown may come from a stranger's file, so all text goes through `text`.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from io import BytesIO
from itertools import groupby
from typing import Any

import torch
from PIL import Image

from .states import COLOURS, MEANINGS, State

INK, FAINT = "#222222", "#d5d8dc"
STYLE = f"""
.dipgo-fx {{ background: #ffffff; color: {INK}; font: 14px/1.45 system-ui, sans-serif; padding: 12px 16px; }}
.dipgo-fx h1 {{ font-size: 20px; margin: 4px 0; }}
.dipgo-fx h2 {{ font-size: 15px; margin: 20px 0 6px; }}
.dipgo-fx p {{ margin: 4px 0; max-width: 76ch; }}
.dipgo-fx table {{ border-collapse: collapse; color: {INK}; }}
.dipgo-fx th, .dipgo-fx td {{ border-bottom: 1px solid {FAINT}; padding: 2px 18px 2px 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; background: #ffffff; color: {INK}; }}
.dipgo-fx .number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.dipgo-fx .wide {{ overflow-x: auto; }}
.dipgo-fx svg text {{ font: 11px system-ui, sans-serif; fill: {INK}; }}
.dipgo-fx svg text.name {{ font: 10px ui-monospace, Consolas, monospace; }}
.dipgo-fx .key {{ display: inline-block; width: 11px; height: 11px; margin: 0 5px -1px 0;
  border: 1px solid #8a8f98; }}
.dipgo-fx p.keys {{ max-width: none; }}
.dipgo-fx .keys span.item {{ margin-right: 18px; white-space: nowrap; }}
.dipgo-fx .maps svg {{ margin: 0 10px 8px 0; }}
.dipgo-fx table.strips th, .dipgo-fx table.strips td {{ border: none; padding: 0 8px 6px 0;
  vertical-align: middle; }}
.dipgo-fx table.strips th {{ font-weight: normal; vertical-align: bottom; }}
.dipgo-fx table.strips .number {{ padding-right: 16px; }}
.dipgo-fx table.strips img {{ display: block; max-width: none; margin: 0; image-rendering: pixelated; }}
"""
SHOWN = 400
"""Characters of a text that are shown."""
TABLE_WIDTH, LEAST_CELL, MOST_CELL = 720, 3.0, 22
TABLE_HEIGHT, LEAST_ROW, BAR = 420, 5.0, 40
LETTER, NAME = 6.1, 52
"""Width of a letter of a name, and how many of them are shown."""


# -- text


def printable(value: object) -> str:
    """Return a value as text on one line, without what a terminal or a parser might take for more."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value)[: SHOWN + 1])
    return shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + "..."


def text(value: object) -> str:
    """Return a value as text that HTML takes for nothing else, inside of elements and of attributes."""
    return escape(printable(value), quote=True)


def document(title: str, body: str) -> str:
    """Return a page of its own; it is well-formed XML too."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/><title>{text(title)}</title></head>\n'
        f'<body style="margin: 0">{body}</body></html>\n'
    )


def fragment(title: str, parts: Iterable[str]) -> str:
    """Return an element for a page or a notebook; its style touches nothing else there."""
    return (
        f'<div class="dipgo-fx"><style>{STYLE}</style>\n<h1>{text(title)}</h1>\n'
        + "\n".join(parts)
        + "\n</div>"
    )


def section(title: str, *parts: str) -> str:
    """Return parts below a title."""
    return f"<h2>{text(title)}</h2>\n" + "\n".join(parts)


def paragraph(words: object) -> str:
    """Return a sentence."""
    return f"<p>{text(words)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table whose first column are labels and whose other columns stand to the right.

    Without a `head` both columns are texts.
    """
    kind = ' class="number"' if head else ""
    lines = [_row("th", head, kind)] if head else []
    lines += [_row("td", row, kind) for row in rows]
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def _row(cell: str, values: Sequence[object], kind: str) -> str:
    label, *others = (text(value) for value in values)
    rest = "".join(f"<{cell}{kind}>{other}</{cell}>" for other in others)
    return f"<tr><{cell}>{label}</{cell}>{rest}</tr>\n"


def svg(width: float, height: float, parts: Iterable[str], words: str) -> str:
    """Return a picture of a size in pixels; `words` say what it is for those who do not see it."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{text(words)}">\n{body}\n</svg>'
    )


def png(pixels: Any) -> str:
    """Return the address that an image in a page has if it lies in the page itself.

    Args:
        pixels: uint8 array `(height, width, 3)`; nothing else goes into the page, no name and no comment.
    """
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode('ascii')}"


def spread(count: int, most: int) -> list[int]:
    """Return up to `most` of the first `count` whole numbers, evenly spread, both ends included."""
    shown = min(count, most)
    return [index * (count - 1) // max(1, shown - 1) for index in range(shown)]


# -- which block runs at which step


def states_picture(
    blocks: Sequence[str],
    states: torch.Tensor,
    macs: Sequence[int],
    kept_by_step: Sequence[float],
    timesteps: Sequence[float],
) -> str:
    """Return the table of what becomes of each block at each step, what each step costs, and a legend.

    Args:
        blocks: names of the N blocks.
        states: `(T, N)`, of `states_of`.
        macs: what each of the N blocks costs at a step, which rows are as high as.
        kept_by_step: what each step costs, as a share of an unpruned step.
        timesteps: T noise levels.
    """
    steps = len(states)
    cell = max(LEAST_CELL, min(MOST_CELL, TABLE_WIDTH / steps))
    left = 12 + LETTER * max(len("MACs kept"), *(len(short(block)) for block in blocks))
    heights = _heights(macs)
    tops = [4 + sum(heights[:n]) for n in range(len(heights) + 1)]
    bars = tops[-1] + 8
    parts = [
        *_labels(blocks, tops, left),
        *_cells(blocks, states, tops, left, cell),
        *_grid(steps, tops, left, cell),
        *_bars(kept_by_step, timesteps, bars, left, cell),
        *_step_axis(steps, bars + BAR + 14, left, cell),
    ]
    picture = svg(left + cell * steps + 30, bars + BAR + 36, parts, "which block runs at which step")
    return f'{_legend(states)}\n<div class="wide">{picture}</div>'


def short(name: str, most: int = NAME) -> str:
    """Return a block's name without its middle if it is long: names differ at both ends."""
    shown, half = printable(name), most // 2
    return shown if len(shown) <= most else f"{shown[: half - 3]}...{shown[-half:]}"


def _heights(macs: Sequence[int]) -> list[float]:
    """Return how high each row is: as its block's MACs, and never too low to be seen."""
    total = max(1, sum(macs))
    height = max(min(TABLE_HEIGHT, 26 * len(macs)), 12 * len(macs) if len(macs) < 60 else 0)
    return [max(LEAST_ROW, height * cost / total) for cost in macs]


def _labels(blocks: Sequence[str], tops: Sequence[float], left: float) -> Iterator[str]:
    """Yield names beside rows, of as many as there is room for."""
    below = -math.inf
    for block, top, bottom in zip(blocks, tops[:-1], tops[1:], strict=True):
        middle = (top + bottom) / 2
        if middle - below >= 10:
            below = middle
            yield (
                f'<text class="name" x="{left - 6:.1f}" y="{middle + 3.5:.1f}" text-anchor="end">'
                f"{text(short(block))}<title>{text(block)}</title></text>"
            )


def _cells(
    blocks: Sequence[str], states: torch.Tensor, tops: Sequence[float], left: float, cell: float
) -> Iterator[str]:
    """Yield one rectangle for all steps in a row at which a block has the same state."""
    for n, block in enumerate(blocks):
        step = 0
        for value, run in groupby(states[:, n].tolist()):
            count, state = len(list(run)), State(value)
            last = step + count - 1
            when = f"step {step}" if count == 1 else f"steps {step} to {last}"
            x, width, height = left + cell * step, cell * count, tops[n + 1] - tops[n]
            yield (
                f'<rect fill="{COLOURS[state]}" x="{x:.2f}" y="{tops[n]:.2f}" width="{width:.2f}" '
                f'height="{height:.2f}"><title>{text(block)}, {when}: {MEANINGS[state]}</title></rect>'
            )
            step += count


def _grid(steps: int, tops: Sequence[float], left: float, cell: float) -> Iterator[str]:
    """Yield the lines between rows and between columns, thin where those are narrow."""
    right, bottom = left + cell * steps, tops[-1]
    columns = "".join(f"M{left + cell * t:.2f} {tops[0]:.2f}V{bottom:.2f}" for t in range(1, steps))
    rows = "".join(f"M{left:.2f} {top:.2f}H{right:.2f}" for top in tops[1:-1])
    for path, width in ((columns, min(1.0, cell / 8)), (rows, 0.6)):
        if path:
            yield f'<path d="{path}" stroke="#ffffff" stroke-width="{width:.2f}" pointer-events="none"/>'


def _bars(
    shares: Sequence[float], timesteps: Sequence[float], top: float, left: float, cell: float
) -> Iterator[str]:
    """Yield what each step costs, a bar each, of which one as high as the frame is an unpruned step."""
    yield f'<text x="{left - 6:.1f}" y="{top + BAR / 2 + 4:.1f}" text-anchor="end">MACs kept</text>'
    yield (
        f'<rect x="{left:.2f}" y="{top:.2f}" width="{cell * len(shares):.2f}" height="{BAR}" fill="none" '
        f'stroke="{FAINT}"/>'
    )
    for step, (share, timestep) in enumerate(zip(shares, timesteps, strict=True)):
        height = BAR * min(1.0, share)
        yield (
            f'<rect fill="{COLOURS[State.RUNS]}" x="{left + cell * (step + 0.05):.2f}" '
            f'y="{top + BAR - height:.2f}" width="{cell * 0.9:.2f}" height="{height:.2f}">'
            f"<title>step {step}, timestep {timestep:g}: {share:.1%} of a step</title></rect>"
        )


def _step_axis(steps: int, y: float, left: float, cell: float) -> Iterator[str]:
    """Yield numbers of steps, as many as there is room for."""
    for step in step_ticks(steps, cell):
        yield f'<text x="{left + cell * (step + 0.5):.1f}" y="{y:.1f}" text-anchor="middle">{step}</text>'
    yield f'<text x="{left + cell * steps / 2:.1f}" y="{y + 15:.1f}" text-anchor="middle">step</text>'


def step_ticks(steps: int, cell: float) -> range:
    """Return the steps that a number stands at, where each is `cell` pixels wide."""
    return range(0, steps, next(size for size in _round_sizes() if size * cell >= 24))


def _round_sizes() -> Iterator[int]:
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


def _legend(states: torch.Tensor) -> str:
    """Return the colours, what they mean, and how many of all gates have each state."""
    counts, every = Counter(states.flatten().tolist()), states.numel()
    items = "".join(
        f'<span class="item"><span class="key" style="background: {COLOURS[state]}"></span>'
        f"{MEANINGS[state]}: {counts[state]} ({counts[state] / every:.0%})</span> "
        for state in State
    )
    return f'<p class="keys">{items}</p>'
