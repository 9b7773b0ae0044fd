"""Choosing steps: how many a budget allows, and which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..budget import fits
from ..cost import LoopCost
from ..placement import Placement, Runs, nearest_free

Sensitivity = Sequence[Sequence[float]]
"""For each call of the model in a step how much it matters at each of the T steps, above 0."""


def most_steps(
    cost: LoopCost, boundary: tuple[int, ...], kept: float, history: int, unconditional: float = 1.0
) -> tuple[int, ...]:
    """Return how many steps can make each call of the model if `boundary` blocks run at all the others.

    Args:
        cost: of the loop.
        boundary: see `Placement`.
        kept: share of the loop's MACs.
        history: how many computed values a closed gate may read.
        unconditional: unconditional steps per conditional one, at least one in all; what is left of the
            budget buys more of them.

    Returns one number per call, all 0 if nothing fits.
    """

    def fitting(counts: tuple[int, ...]) -> bool:
        runs = tuple(tuple(range(count)) for count in counts)
        return fits(cost, Placement(runs, boundary).keep(cost), kept, history)

    def split(count: int) -> tuple[int, ...]:
        return (*[max(1, round(unconditional * count))] * (cost.num_calls - 1), count)

    low, high = 0, cost.num_steps
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fitting(split(middle)) else (low, middle - 1)
    if not low:
        return (0,) * cost.num_calls
    counts = split(low)
    while counts[0] < counts[-1] and fitting((counts[0] + 1, *counts[1:])):
        counts = (counts[0] + 1, *counts[1:])
    return counts


def boundaries(blocks: int) -> Iterator[tuple[int, ...]]:
    """Yield sets of outer blocks of a call, from none to a third of each end."""
    yield ()
    for depth in range(1, max(blocks // 3, 1) + 1):
        yield tuple(n for n in range(blocks) if n < depth or n >= blocks - depth - 1)


def even_steps(steps: int, count: int) -> Iterator[tuple[int, ...]]:
    """Yield sets of `count` of `steps` steps, all with step 0: even strides, other ends, other density."""
    seen: set[tuple[int, ...]] = set()
    strided = [index * steps / count for index in range(count)]
    last = max(count - 1, 1)
    spans = [
        *([position + shift for position in strided] for shift in (0.0, 0.3, 0.6)),
        *([(steps - 1) * (i / last) ** power for i in range(count)] for power in (1.0, 1.25, 0.8)),
        *([steps * (i / count) ** power for i in range(count)] for power in (1.25, 0.8)),
    ]
    for span in spans:
        chosen = nearest_free([0, *(round(position) for position in span[1:])], range(steps))
        if chosen not in seen:
            seen.add(chosen)
            yield chosen


def place_runs(
    sensitivity: Sensitivity, counts: Sequence[int], exponent: float, last_gap: float, first: int = 0
) -> Runs:
    """Return `counts` steps for each call from step `first` on, or all, placed by its own sensitivity.

    All are steps of the last call.
    """
    own = sensitivity[-1][first:]
    steps = place_steps(own, min(counts[-1], len(own)), exponent, last_gap)
    return runs_among(sensitivity, counts, tuple(first + step for step in steps), exponent, last_gap)


def runs_among(
    sensitivity: Sensitivity,
    counts: Sequence[int],
    steps: tuple[int, ...],
    exponent: float,
    last_gap: float,
) -> Runs:
    """Return `counts` runs for each call: `steps` for the last, and some of them for the others.

    The others are placed by their own sensitivity, and begin where the last does.
    """
    first = steps[0]
    free = [step - first for step in steps]

    def placed(own: Sequence[float], count: int) -> tuple[int, ...]:
        chosen = place_steps(own[first:], min(count, len(free)), exponent, last_gap, free)
        return tuple(first + step for step in chosen)

    return (*map(placed, sensitivity[:-1], counts[:-1]), steps)


def place_steps(
    sensitivity: Sequence[float],
    count: int,
    exponent: float,
    last_gap: float = 0.0,
    among: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """Return `count` steps as dense as the sensitivity to the power of `exponent`; 0 places them evenly.

    If forecasting over a gap of g steps costs an error of c g^p, gaps that go like c^(-1/p) cost the least.

    Args:
        sensitivity: of each of the T steps, above 0.
        count: 1 to T, or as many as `among` has.
        exponent: 1/p.
        last_gap: how much shorter than the others the last gap is, 0 to below 1. It has no running step
            after it that could mend its error.
        among: the steps to choose from, all if omitted.
    """
    mass = np.concatenate([[0.0], np.cumsum(np.power(sensitivity, exponent))])
    quantiles = [index / max(1.0, count - last_gap) for index in range(count)]
    free = range(len(sensitivity)) if among is None else among
    return nearest_free(np.interp(quantiles, mass / mass[-1], range(len(mass))).tolist(), free)


def farthest_first(steps: int, first: tuple[int, ...]) -> list[int]:
    """Return all steps so that every prefix lies evenly: those of `first` before the others.

    Each next step is the one farthest from all before it; the end of the loop counts as taken.
    """
    order = [0]
    for pool in (set(first) - {0}, set(range(steps)) - set(first) - {0}):
        while pool:
            marks = [*order, steps]
            step = max(sorted(pool), key=lambda s: min(abs(s - mark) for mark in marks))
            order.append(step)
            pool.discard(step)
    return order
