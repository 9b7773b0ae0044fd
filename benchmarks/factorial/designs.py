"""The choices, and all combinations of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise, product

EVEN, SENSITIVE, FOUND = "even steps", "steps by sensitivity", "steps that the search found"
REUSE, LINEAR, FITTED = "reuse", "linear", "fitted to unpruned values"
STEERED, NEWTON = "steered", "steered and Gauss-Newton"
ONE_CALL, HALVES = "one call", "two halves"
WHOLE, BLOCKS = "whole steps", "blocks"

LEVELS: Mapping[str, tuple[str, ...]] = {
    "places": (EVEN, SENSITIVE, FOUND),
    "forecast": (REUSE, LINEAR, FITTED, STEERED, NEWTON),
    "calls": (ONE_CALL, HALVES),
    "parts": (WHOLE, BLOCKS),
}
"""What is chosen among, the plainest first; each is compared with the one before."""


@dataclass(frozen=True)
class Design:
    """One choice of each, see `LEVELS`."""

    places: str
    forecast: str
    calls: str
    parts: str

    @property
    def name(self) -> str:
        """The method in rows and tables."""
        return "; ".join((self.places, self.forecast, self.calls, self.parts))

    @property
    def splits_guidance(self) -> bool:
        """Whether the two conditions of guidance have steps of their own."""
        return self.calls == HALVES


def designs(guided: bool = True) -> list[Design]:
    """Return all combinations; without guidance there are no halves."""
    every = [Design(*each) for each in product(*LEVELS.values())]
    return [design for design in every if guided or not design.splits_guidance]


@dataclass(frozen=True)
class Idea:
    """One choice instead of another.

    Attributes:
        level: what is chosen.
        before: instead of this.
        among: the designs that have it: all, or those of whole steps or of blocks only.
        pairs: designs with it and without, alike in everything else.
    """

    level: str
    before: str
    among: str
    pairs: tuple[tuple[Design, Design], ...]


def ideas() -> Iterator[Idea]:
    """Yield each choice, among all designs, then among those of whole steps and those of blocks."""
    for factor, levels in LEVELS.items():
        for before, level in pairwise(levels):
            having = [design for design in designs() if getattr(design, factor) == level]
            pairs = [(design, replace(design, **{factor: before})) for design in having]
            yield Idea(level, before, "all", tuple(pairs))
            for parts in LEVELS["parts"] if factor != "parts" else ():
                yield Idea(level, before, parts, tuple(pair for pair in pairs if pair[0].parts == parts))
