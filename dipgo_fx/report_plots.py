"""The two plots of a report: what a search tried, and its frontier."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .report_page import FAINT, INK, svg, text
from .states import COLOURS, State

MARK = "#c1121f"
PLOT_WIDTH, PLOT_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 230, 70, 24, 12, 40
ROOM = 1.04
"""How far an axis goes beyond what it shows."""


@dataclass(frozen=True)
class Axis:
    """What an axis shows: from `low` to `high`, by powers of ten if `log`."""

    label: str
    low: float
    high: float
    log: bool = False
    percent: bool = False

    def share(self, value: float) -> float:
        """Return how far along the axis a value is, from 0 to 1."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return 0.5 if high <= low else (at - low) / (high - low)

    @property
    def ticks(self) -> list[float]:
        """A few round values."""
        return _round_powers(self.low, self.high) if self.log else _round_values(self.low, self.high)

    def named(self, value: float) -> str:
        """Return what stands at a tick."""
        return f"{value:.0%}" if self.percent else f"{value:.3g}"


def _round_values(low: float, high: float) -> list[float]:
    """Return up to eight round values from `low` to `high`."""
    rough = (high - low) / 6
    if rough < sys.float_info.min:  # no round value lies between them
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    size = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / size - 1e-9)
    return [size * index for index in range(first, math.floor(high / size + 1e-9) + 1)]


def _round_powers(low: float, high: float) -> list[float]:
    """Return powers of ten from `low` to `high`, every so many of many, and values between of few."""
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    if len(powers) >= 3:
        return [10.0**power for power in powers[:: math.ceil(len(powers) / 7)]]
    between = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    values = [factor * 10.0**power for power in between for factor in (1, 2, 5)]
    inside = [value for value in values if low <= value <= high]
    return inside if len(inside) >= 2 else _round_values(low, high)


Pair = tuple[float, float]


def curve_picture(points: Sequence[Pair], found: float | None) -> str:
    """Return losses over the full runs that were spent when each was known.

    Args:
        points: `(full runs spent, loss)`, at least one; finite.
        found: the loss of the plan that was found, if it is known.
    """
    losses = [loss for _, loss in points] + ([] if found is None else [found])
    x = Axis("full runs spent", 0, ROOM * max(spent for spent, _ in points))
    y = Axis("loss", 0, ROOM * max(losses))
    if min(losses) > 0:
        y = Axis("loss, log scale", min(losses) / 1.3, max(losses) * 1.3, log=True)
    parts = [*_frame(x, y)]
    if found is not None:
        height = _y(y, found)
        parts.append(
            f'<path d="M{LEFT} {height:.1f}H{PLOT_WIDTH - RIGHT}" stroke="{MARK}" stroke-dasharray="5 3"/>'
        )
    parts += [
        _dot(_x(x, spent), _y(y, loss), f"after {spent:g} full runs: {loss:.4g}") for spent, loss in points
    ]
    return svg(PLOT_WIDTH, PLOT_HEIGHT, parts, "loss over full runs spent")


def frontier_picture(points: Sequence[Pair], chosen: Pair) -> str:
    """Return what plans of a frontier keep over the calls of the model that they make.

    Args:
        points: `(calls, kept share of the MACs)`; may be none.
        chosen: those of the plan itself, which is marked.
    """
    every = [*points, chosen]
    x = Axis("calls of the model that run", 0, ROOM * max(calls for calls, _ in every))
    y = Axis("MACs kept", 0, ROOM * max(kept for _, kept in every), percent=True)
    parts = [
        *_frame(x, y),
        *(_dot(_x(x, c), _y(y, k), f"{c:g} calls, {k:.1%} of the MACs") for c, k in points),
    ]
    return svg(PLOT_WIDTH, PLOT_HEIGHT, [*parts, _mark(_x(x, chosen[0]), _y(y, chosen[1]))], "frontier")


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * (PLOT_WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return PLOT_HEIGHT - BOTTOM - axis.share(value) * (PLOT_HEIGHT - TOP - BOTTOM)


def _frame(x: Axis, y: Axis) -> Iterator[str]:
    """Yield both axes with their ticks and what they show."""
    bottom, right = PLOT_HEIGHT - BOTTOM, PLOT_WIDTH - RIGHT
    lines = "".join(f"M{LEFT} {_y(y, tick):.1f}H{right}" for tick in y.ticks)
    yield f'<path d="{lines}" stroke="{FAINT}" stroke-width="0.7"/>'
    yield f'<path d="M{LEFT} {TOP}V{bottom}H{right}" stroke="{INK}" fill="none"/>'
    for tick in y.ticks:
        yield f'<text x="{LEFT - 6}" y="{_y(y, tick) + 4:.1f}" text-anchor="end">{y.named(tick)}</text>'
    for tick in x.ticks:
        yield f'<text x="{_x(x, tick):.1f}" y="{bottom + 16}" text-anchor="middle">{x.named(tick)}</text>'
    yield f'<text x="{(LEFT + right) / 2}" y="{bottom + 33}" text-anchor="middle">{text(x.label)}</text>'
    middle = (TOP + bottom) / 2
    yield (
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{text(y.label)}</text>'
    )


def _dot(x: float, y: float, words: str) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{COLOURS[State.RUNS]}" fill-opacity="0.75">'
        f"<title>{text(words)}</title></circle>"
    )


def _mark(x: float, y: float) -> str:
    """Return the sign of the chosen point, which is no dot."""
    return (
        f'<path class="chosen" d="M{x - 7:.1f} {y:.1f}l7 -7l7 7l-7 7z" fill="none" stroke="{MARK}" '
        'stroke-width="2"><title>this plan</title></path>'
    )
