"""Which points a frontier has, and with how much care each is fitted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from ..cost import LoopCost

# -- which points

POINTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
"""The points of a frontier, as shares of its steps that run."""
FEW_STEPS = 10
"""Up to how many steps of the loop there is a point for every count."""
MOST_WITH_HALVES = 6
"""Up to how many steps of the loop there are points of half a step more, one call of two."""


def sizes(cost: LoopCost) -> list[float]:
    """Return the sizes of the points, in steps; with halves between where steps are few."""
    steps = cost.num_steps
    if steps > FEW_STEPS:
        return sorted({max(1, int(share * steps + 1e-9)) for share in POINTS})
    whole = range(1, max(steps, 2))
    if cost.num_calls == 1 or steps > MOST_WITH_HALVES:
        return [*whole]
    return sorted({*whole, *(count + 0.5 for count in whole)})


def size_within(cost: LoopCost, kept: float) -> float:
    """Return how many steps a share of the MACs is, in whole calls, if all cost alike; at least one step."""
    part = math.floor(kept * cost.num_steps * cost.num_calls + 1e-9) / cost.num_calls
    return max(1.0, min(part, cost.num_steps - 1 / cost.num_calls))


# -- with how much care

EXPONENTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""How strongly the density of steps follows their sensitivity, see `place_steps`."""
UNCONDITIONAL = (1.0, 0.45)
"""How many unconditional runs there are to a conditional one, see `most_steps`."""
LAST_GAPS = (0.3, 0.0)
"""How much shorter than the others the last gap is, see `place_steps`."""


class Spacing(NamedTuple):
    """How steps are placed by their sensitivity, see `place_steps`."""

    exponent: float = EXPONENTS[2]
    last_gap: float = LAST_GAPS[0]


ROUNDS = (1 / 6, 1 / 3)
"""The shares of the samples that judge placements, before all judge those that are left."""


@dataclass(frozen=True)
class Effort:
    """With how much care a point's placement is chosen.

    Attributes:
        foreseen: how many placements of `Foresight` it chooses among, of each kind that is tried.
        spacings: and of those by sensitivity.
        left: how many placements are left after each of `ROUNDS`.
        goes_between: whether to try runs between two steps too, where there are few.
    """

    foreseen: int
    spacings: tuple[Spacing, ...] = ()
    left: tuple[int, int] = (1, 1)
    goes_between: bool = False

    def price(self, kinds: int, shifts: int) -> float:
        """Return what choosing costs, in runs of the point.

        Args:
            kinds: of placements that are tried.
            shifts: how many placements between two steps there are for each on the grid.
        """
        tried, (first, second) = kinds * (self.foreseen + len(self.spacings)), self.left
        judged = tried if tried > first or self.goes_between else 0
        left = min(tried, first)
        moved = left * shifts if self.goes_between else 0
        again = left if left > second else 0
        return (judged + moved) * ROUNDS[0] + again * ROUNDS[1] + min(left, second)


SOME = tuple(Spacing(exponent) for exponent in EXPONENTS[::2])
ALL = tuple(Spacing(*each) for each in product(EXPONENTS, LAST_GAPS))
EFFORTS = (
    Effort(1),
    Effort(3),
    Effort(3, (Spacing(),), (2, 1)),
    Effort(4, SOME, (4, 2), goes_between=True),
    Effort(6, ALL, (4, 2), goes_between=True),
    Effort(6, ALL, (6, 3), goes_between=True),
)
"""From little care to much."""
LOW_STEPS = 0.3
"""Share of the steps up to which a point is low: cheap, and hard to fit."""
CARE = {LOW_STEPS: 5, 0.5: 4, 1.0: 1}
"""In which proportion, by size, points up to these shares of the steps get what a frontier may cost beyond
one run of each: the cheaper, the more its steps matter."""
CARE_OF_ASKED = 8
"""The same for the point that was asked for."""


def is_low(size: float, cost: LoopCost) -> bool:
    """Tell whether a point is low."""
    return size <= LOW_STEPS * cost.num_steps


def _care(size: float, asked: float, cost: LoopCost) -> int:
    if size == asked:
        return CARE_OF_ASKED
    return next(care for share, care in CARE.items() if size <= share * cost.num_steps)


def share_of_next(left: float, points: Sequence[float], asked: float, cost: LoopCost) -> float:
    """Return what the first of some points may cost, in full runs: one run of it at least.

    Args:
        left: what all of them may cost together.
        points: their sizes, at least one.
        asked: the size of the one that was asked for.
        cost: of the loop.
    """
    runs = [size / cost.num_steps for size in points]
    parts = [run * _care(size, asked, cost) for run, size in zip(runs, points, strict=True)]
    return runs[0] + max(0.0, left - sum(runs)) * parts[0] / sum(parts)


def effort_within(runs: float, kinds: int, shifts: int) -> Effort:
    """Return the greatest effort that costs at most `runs`, the smallest if none does.

    Args:
        runs: full runs that the point may take.
        kinds: see `Effort.price`.
        shifts: likewise.
    """
    return next((each for each in EFFORTS[:0:-1] if each.price(kinds, shifts) <= runs), EFFORTS[0])
