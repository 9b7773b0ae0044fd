"""Uniform plans: which steps run whole or in half, and which outer blocks run at the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .macs import LoopCost
from .threshold import fill, fits

KeepTable = list[list[bool]]
Runs = tuple[tuple[int, ...], ...]
"""For each half of a step (see `LoopFacts.halves`) the steps that run it, rising from 0."""
Sensitivity = Sequence[Sequence[float]]
"""For each half how much each of the T steps matters, above 0."""


def step_sets(steps: int, count: int) -> Iterator[tuple[int, ...]]:
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
        chosen = distinct([0, *(round(position) for position in span[1:])], range(steps))
        if chosen not in seen:
            seen.add(chosen)
            yield chosen


def named(runs: Runs) -> str:
    """Return how many steps run, for people."""
    half = f", {len(runs[0])} of them unconditional" if len(runs) > 1 else ""
    return f"{len(runs[-1])} whole steps{half}"


def whole(steps: tuple[int, ...], cost: LoopCost) -> Runs:
    """Return that all halves run at `steps`."""
    return (steps,) * cost.halves


def spread_runs(sensitivity: Sensitivity, counts: Sequence[int], exponent: float, end: float) -> Runs:
    """Return `counts` steps for each half, spread by its own sensitivity; all are steps of the last half."""
    *first, last = zip(sensitivity, counts, strict=True)
    conditional = spread(*last, exponent, end)
    return (*(spread(*half, exponent, end, conditional) for half in first), conditional)


def spread(
    sensitivity: Sequence[float],
    count: int,
    exponent: float,
    end: float = 0.0,
    among: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """Return `count` steps as dense as the sensitivity to the power of `exponent`; 0 spreads them evenly.

    If forecasting over a gap of g steps costs an error of c g^p, gaps that go like c^(-1/p) cost the least.

    Args:
        sensitivity: of each of the T steps, above 0.
        count: 1 to T, or as many as `among` has.
        exponent: 1/p.
        end: how much shorter than the others the last gap is, 0 to below 1. It has no running step after
            it that could mend its error.
        among: the steps to choose from, all if omitted.
    """
    mass = np.concatenate([[0.0], np.cumsum(np.power(sensitivity, exponent))])
    shares = [index / max(1.0, count - end) for index in range(count)]
    free = range(len(sensitivity)) if among is None else among
    return distinct(np.interp(shares, mass / mass[-1], range(len(mass))).tolist(), free)


def distinct(positions: Sequence[float], among: Sequence[int]) -> tuple[int, ...]:
    """Return for each position the nearest of `among` that is still free, the first one's first; sorted."""
    taken: set[int] = set()
    for position in positions:
        free = (step for step in among if step not in taken)
        taken.add(min(free, key=lambda step: abs(step - position)))
    return tuple(sorted(taken))


def shells(blocks: int) -> Iterator[tuple[int, ...]]:
    """Yield sets of outer blocks of a call, from none to a third of each end, as DeepCache keeps them."""
    yield ()
    for depth in range(1, max(blocks // 3, 1) + 1):
        yield tuple(n for n in range(blocks) if n < depth or n >= blocks - depth - 1)


def most_steps(
    cost: LoopCost, shell: tuple[int, ...], budget: float, order: int, share: float = 1.0
) -> tuple[int, ...]:
    """Return how many steps can run each half if the blocks of `shell` run at all the others.

    Args:
        cost: of the loop.
        shell: see `shells`.
        budget: share of the loop's MACs.
        order: how many computed values a closed gate may read.
        share: how many unconditional steps there are to a conditional one, at least one; what is left
            goes to more of them.

    Returns one number a half, all 0 if nothing fits.
    """

    def fitting(counts: tuple[int, ...]) -> bool:
        runs = tuple(tuple(range(count)) for count in counts)
        return fits(cost, keep_table(cost, runs, shell), budget, order)

    def split(count: int) -> tuple[int, ...]:
        return (*[max(1, round(share * count))] * (cost.halves - 1), count)

    low, high = 0, cost.num_steps
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fitting(split(middle)) else (low, middle - 1)
    if not low:
        return (0,) * cost.halves
    counts = split(low)
    while counts[0] < counts[-1] and fitting((counts[0] + 1, *counts[1:])):
        counts = (counts[0] + 1, *counts[1:])
    return counts


def keep_table(cost: LoopCost, runs: Runs, shell: tuple[int, ...] = ()) -> KeepTable:
    """Return the `(T, N)` table that runs each half at its steps, and `shell` of it at the other steps."""
    blocks = cost.reads.num_blocks // cost.halves
    outer = [n in shell for n in range(blocks)]
    return [
        [kept for steps in runs for kept in ([True] * blocks if t in steps else outer)]
        for t in range(cost.num_steps)
    ]


def filled(keep: KeepTable, budget: float, cost: LoopCost, order: int, by_step: bool = False) -> KeepTable:
    """Spend what is left of a budget on the blocks closest to the output, latest steps first.

    With `by_step` one step is filled after the other: the rest stay whole or skipped.
    """
    blocks = len(keep[0])
    closed = [(t, n) for t in range(1, len(keep)) for n in range(blocks) if not keep[t][n]]
    closed.sort(reverse=True, key=lambda gate: gate if by_step else gate[::-1])
    ranked = [(t - 1) * blocks + n for t, n in closed]
    return fill([list(row) for row in keep], ranked, budget, cost, order)


def spread_order(steps: int, first: tuple[int, ...]) -> list[int]:
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
