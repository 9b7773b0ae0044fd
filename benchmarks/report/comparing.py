"""Values side by side: `dipgo_fx` and the best other method, cell by cell.

Which value is higher says nothing yet of who is better: that is for `standing`, where errors of images are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.tables import grouped

from .results import MEASURES, OURS, UNPRUNED, Score


@dataclass(frozen=True)
class Duel:
    """`dipgo_fx` beside the best other method of a cell: of one model, seed and share of MACs.

    Attributes:
        lead: how much better ours is, below 0 where it is worse.
    """

    ours: Score
    other: Score
    lead: float


def best(found: Iterable[Score], measure: str) -> Score | None:
    """Return the best of the rows that have a measure, if any has."""
    having = [score for score in found if measure in score.values]
    return MEASURES[measure].best(having, key=lambda score: score.values[measure]) if having else None


def duels(found: Iterable[Score], measure: str) -> list[Duel]:
    """Return every cell in which `dipgo_fx` and another method have a measure."""
    sign = 1 if MEASURES[measure].best is max else -1
    having = [score for score in found if score.method == OURS or is_other(score)]
    result = []
    for cell in grouped(having, lambda score: (score.model, score.seed, score.asked)).values():
        ours = best([score for score in cell if score.method == OURS], measure)
        other = best([score for score in cell if is_other(score)], measure)
        if ours and other:
            result.append(Duel(ours, other, sign * (ours.values[measure] - other.values[measure])))
    return result


def is_other(score: Score) -> bool:
    """Whether a row is of another method, neither the unpruned loop nor any of ours."""
    return score.method != UNPRUNED and not score.method.startswith("dipgo_fx")


def at_most_as_dear(found: Sequence[Score]) -> list[Duel]:
    """Hold each PSNR of another method against the `dipgo_fx` row that keeps most but no more than it."""
    result = []
    for other in found:
        ours = [each for each in found if each.method == OURS and each.kept <= other.kept + 1e-4]
        ours = [each for each in ours if (each.model, each.seed) == (other.model, other.seed)]
        if ours and is_other(other):
            nearest = max(ours, key=lambda each: each.kept)
            result.append(Duel(nearest, other, nearest.values["psnr_db"] - other.values["psnr_db"]))
    return result


def behind(fought: Iterable[Duel]) -> list[Duel]:
    """Return the cells in which another method has the better value, whatever chance had to do with it."""
    return [duel for duel in fought if duel.lead < 0]
