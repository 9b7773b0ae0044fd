"""With how much care the points of a frontier are fitted, and which points there are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from ..cost import LoopCost

POINTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
"""The points of a frontier, as shares of its steps that run."""
EXPONENTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""How strongly the density of steps follows their sensitivity, see `place_steps`."""
UNCONDITIONAL = (1.0, 0.45)
"""How many unconditional runs there are to a conditional one, see `most_steps`."""
LAST_GAPS = (0.3, 0.0)
"""How much shorter than the others the last gap is, see `place_steps`."""
FORESEEN = 6
"""How many placements of a point come from `Foresight`, for each step at which it may begin."""


class Spacing(NamedTuple):
    """How steps are placed by their sensitivity, see `place_steps`."""

    exponent: float = EXPONENTS[2]
    last_gap: float = LAST_GAPS[0]


@dataclass(frozen=True)
class Effort:
    """With how much care a point is fitted.

    Attributes:
        foreseen: how many placements of `Foresight` it chooses among.
        spacings: and of those by sensitivity.
        unconditional: each with so many unconditional runs to a conditional one, see `most_steps`.
        left: how many placements are left after each of `ROUNDS`.
        goes_between: whether to try runs between two steps too, where there are few.
        is_moved: whether it gets Gauss-Newton steps and a damped end.
        begins_late: whether to try that too: until its first run the sample stands for predictions.
    """

    foreseen: int = FORESEEN
    spacings: tuple[Spacing, ...] = ()
    unconditional: tuple[float, ...] = UNCONDITIONAL[:1]
    left: tuple[int, int] = (1, 1)
    goes_between: bool = False
    is_moved: bool = False
    begins_late: bool = False


ALL = tuple(Spacing(*each) for each in product(EXPONENTS, LAST_GAPS))
LOW = Effort(FORESEEN, ALL, UNCONDITIONAL, (6, 3), goes_between=True, is_moved=True, begins_late=True)
"""Points up to `LOW_STEPS` are cheap and hard to fit."""
ASKED = Effort(FORESEEN, ALL, left=(6, 3), goes_between=True)
MIDDLE = replace(ASKED, left=(4, 2))
"""Points of whole steps up to `MIDDLE_STEPS`; what was asked gets a little more."""
HALVES = replace(LOW, is_moved=False, begins_late=False)
"""The point asked for, if what its whole steps leave buys a call of one condition of guidance; the others of
that kind have less to choose from."""
FEW_HALVES = Effort(3, (Spacing(),), UNCONDITIONAL)
HIGH = Effort(3, (Spacing(),))
"""Dear points, which are easy to fit."""
BEYOND = Effort(1)
"""Points beyond the budget of the search."""
LOW_STEPS, MIDDLE_STEPS = 0.3, 0.5
"""Shares of the steps up to which a point is low, and is middle."""


def effort_at(size: float, cost: LoopCost, is_asked: bool) -> Effort:
    """Return the effort for a point that costs as much as `size` of the steps."""
    if size <= LOW_STEPS * cost.num_steps:
        return LOW
    if size % 1:
        return HALVES if is_asked else FEW_HALVES
    if is_asked:
        return ASKED
    return MIDDLE if size <= MIDDLE_STEPS * cost.num_steps else HIGH


# -- which points

MOST_WITH_HALVES = 6
"""Up to how many steps of the loop there are points of half a step more, one call of two."""


def sizes(cost: LoopCost) -> list[float]:
    """Return the sizes of the points, in steps; with halves between where steps are few."""
    whole = {max(1, int(share * cost.num_steps + 1e-9)) for share in POINTS}
    if cost.num_calls == 1 or cost.num_steps > MOST_WITH_HALVES:
        return sorted(whole)
    return sorted({*whole, *(count + 0.5 for count in whole)})


def size_within(cost: LoopCost, kept: float) -> float:
    """Return how many steps a share of the MACs is, in whole calls, if all cost alike; at least one step."""
    part = math.floor(kept * cost.num_steps * cost.num_calls + 1e-9) / cost.num_calls
    return max(1.0, min(part, cost.num_steps - 1 / cost.num_calls))
