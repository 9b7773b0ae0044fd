"""Cells of the tables, and how `dipgo_fx` stands in them beside each other method.

A cell is a share of the MACs of a model, sampler, step count and guidance; its seeds are pooled. Two methods
are compared on the seeds that both have, where errors of the same images were kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.metrics import ImageErrors
from benchmarks.plans import DEFAULT, ONE_SEARCH
from benchmarks.statistics import COMPARED, Comparison, Resampled, Verdict, compared, resampled
from benchmarks.tables import grouped

from .image_store import ImageStore
from .rows import OURS, UNPRUNED, Row

OWN = (ONE_SEARCH.name, DEFAULT.name)  # the first that a cell has is `dipgo_fx` in it


@dataclass
class Cell:
    """Rows of a model, sampler, step count, guidance and share of MACs, by method and seed; none unpruned."""

    rows: Mapping[str, Mapping[int, Row]]
    errors: Mapping[str, Mapping[int, ImageErrors]]
    _resampled: dict[tuple[str, str, tuple[int, ...]], Resampled | None] = field(default_factory=dict)

    @property
    def about(self) -> Row:
        """Any row: all are of one model and share."""
        return next(iter(self.rows[next(iter(self.rows))].values()))

    @property
    def ours(self) -> str | None:
        """The method that is `dipgo_fx` here."""
        return next((name for name in OWN if name in self.rows), None)

    @property
    def others(self) -> list[str]:
        """All methods that are not ours."""
        return [name for name in self.rows if not name.startswith(OURS)]

    def seeds(self, method: str) -> tuple[int, ...]:
        """Return the seeds on which a method can be compared with ours."""
        return self.seeds_of_both(self.ours or "", method)

    def seeds_of_both(self, one: str, other: str) -> tuple[int, ...]:
        """Return the seeds on which two methods can be compared."""
        first, second = self.errors.get(one, {}), self.errors.get(other, {})
        return tuple(
            seed for seed in sorted(first) if seed in second and len(first[seed]) == len(second[seed])
        )

    def versus(self, method: str, column: str) -> Comparison | None:
        """Return how ours compares with a method; `None` where the same images of both were not kept."""
        return None if self.ours is None else self.between(self.ours, method, column)

    def between(self, one: str, other: str, column: str) -> Comparison | None:
        """Return how one method compares with another; `None` where the same images were not kept."""
        seeds = self.seeds_of_both(one, other)
        if not seeds or (column.startswith("converged") and self._targets_differ((one, other), seeds)):
            return None
        first, second = (self._draws(name, column, seeds) for name in (one, other))
        return compared(COMPARED[column], first, second) if first and second else None

    def verdict(self, column: str) -> Verdict | None:
        """Return whether ours is ahead of all others, or behind any; open while one cannot be compared."""
        pairs = [self.versus(name, column) for name in self.others]
        found = {pair.verdict if pair else None for pair in pairs}
        if found <= {None}:
            return None
        return "lost" if "lost" in found else "won" if found == {"won"} else "open"

    def _targets_differ(self, methods: Sequence[str], seeds: Sequence[int]) -> bool:
        """Whether the converged images of methods were drawn in different numbers of steps."""
        return len({self.rows[name][seed].converged_steps for name in methods for seed in seeds}) > 1

    def _draws(self, method: str, column: str, seeds: tuple[int, ...]) -> Resampled | None:
        key = (method, column, seeds)
        if key not in self._resampled:
            errors = [self.errors[method][seed] for seed in seeds]
            self._resampled[key] = resampled(COMPARED[column], errors)
        return self._resampled[key]


def cells(rows: Iterable[Row], images: ImageStore) -> list[Cell]:
    """Return the cells of rows, from many MACs to few."""
    pruned = [row for row in rows if row.method != UNPRUNED and not row.error and row.psnr_db is not None]
    groups = grouped(
        pruned,  # no guidance of a row's own comes first
        lambda row: (row.model, row.scheduler, row.steps, row.guidance or 0.0, row.ratio_asked),
    )
    return [cell_of(groups[key], images) for key in sorted(groups)]


def cell_of(rows: Sequence[Row], images: ImageStore) -> Cell:
    """Return the cell that rows are of."""
    by_method = grouped(rows, lambda row: row.method)
    errors: dict[str, dict[int, ImageErrors]] = {}
    for row in rows:
        if (kept := images.of(row)) is not None:
            errors.setdefault(row.method, {})[row.seed] = kept
    return Cell({name: {row.seed: row for row in own} for name, own in by_method.items()}, errors)
