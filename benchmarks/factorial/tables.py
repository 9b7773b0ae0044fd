"""Tables: what each choice is worth alone, and the combinations that this is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch

from benchmarks.quality.comparing import Cell, cells
from benchmarks.quality.image_store import ImageStore
from benchmarks.quality.rows import Row
from benchmarks.quality.tables import interval, number
from benchmarks.statistics import COMPARED, Comparison, Interval, Resampled, resampled, verdict
from benchmarks.tables import Section, Table, mean

from .designs import Design, Idea, designs, ideas

TITLE = "What each idea is worth alone"
GUIDE = """A difference is the mean over all pairs of combinations that differ in nothing else, on the same
images, with the 95 % interval of a paired bootstrap over images; the last column has the lowest and the
highest of the pairs' own. Won and lost are differences whose interval leaves out 0, all others are open.
Shares are of the unpruned loop's MACs, as they were asked for, at most. PSNR is to the unpruned result of the
same noise."""
COLUMNS = ("psnr_db", "psnr_mean_db", "psnr_low_db", "ssim")

Pairs = Sequence[tuple[Design, Design]]


def parts(rows: Sequence[Row], images: ImageStore) -> list[Section]:
    """Return a section for each model, sampler, step count, guidance and share."""
    found = [cell for cell in cells(rows, images) if cell.errors]
    return [Section(_title(cell.about), list(_tables(cell))) for cell in found]


def _title(about: Row) -> str:
    return f"{about.about}, {1 - about.ratio_asked:.0%} kept"


def _tables(cell: Cell) -> Iterator[Table]:
    effects = Effects(cell)
    lines = [line for idea in ideas() if (line := effects.line(idea))]
    if lines:
        yield Table("Each choice", lines)
    measured = [design for design in designs() if design.name in cell.errors]
    yield Table("All combinations", [_combination(cell, design) for design in measured])


def _combination(cell: Cell, design: Design) -> dict[str, Any]:
    rows, errors = list(cell.rows[design.name].values()), list(cell.errors[design.name].values())
    kept, runs = mean(row.macs_kept for row in rows), mean(row.search_full_runs for row in rows)
    return {
        "which": design.places,
        "predicted": design.forecast,
        "guidance": design.calls,
        "what": design.parts,
        "seeds": len(errors),
        "images": sum(map(len, errors)),
        "MACs kept": "" if kept is None else f"{kept:.3f}",
        "full runs": "" if runs is None else f"{runs:.1f}",
        **{COMPARED[name].title: number(COMPARED[name], COMPARED[name].of(errors)) for name in COLUMNS},
    }


class Effects:
    """Differences of combinations of a cell."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._drawn = cache(self._draws)

    def line(self, idea: Idea) -> dict[str, Any] | None:
        """Return a line of the table, `None` where no pair was measured."""
        there = [pair for pair in idea.pairs if all(each.name in self.cell.errors for each in pair)]
        seeds = self._seeds(there)
        if not seeds:
            return None
        found = {name: self.effect(there, name, seeds) for name in COLUMNS}
        return {
            "choice": idea.level,
            "instead of": idea.before,
            "among": idea.among,
            "pairs": len(there),
            "seeds": len(seeds),
            **{COMPARED[name].title: interval(COMPARED[name], pair) for name, pair in found.items()},
            "of pairs, PSNR": self._span(there, seeds),
        }

    def effect(self, pairs: Pairs, column: str, seeds: tuple[int, ...]) -> Comparison | None:
        """Return the mean of a statistic of the first and of the second of all pairs, and the difference."""
        with_it, without = (
            [self._drawn(pair[index].name, column, seeds) for pair in pairs] for index in (0, 1)
        )
        ours, other = _averaged(with_it), _averaged(without)
        if ours is None or other is None:
            return None
        difference = Interval.of(ours.value - other.value, ours.draws - other.draws)
        judged = verdict(difference, COMPARED[column])
        return Comparison(ours.value, other.value, difference, judged)

    def _span(self, pairs: Pairs, seeds: tuple[int, ...]) -> str:
        single = [self.effect([pair], "psnr_db", seeds) for pair in pairs]
        values = sorted(each.difference.value for each in single if each is not None)
        return f"{values[0]:+.1f} to {values[-1]:+.1f}"

    def _seeds(self, pairs: Pairs) -> tuple[int, ...]:
        """Return the seeds of which all pairs have equally many images."""
        names = {each.name for pair in pairs for each in pair}
        counts = [{seed: len(own) for seed, own in self.cell.errors[name].items()} for name in names]
        common = set.intersection(*(set(own) for own in counts)) if counts else set()
        return tuple(sorted(seed for seed in common if len({own[seed] for own in counts}) == 1))

    def _draws(self, name: str, column: str, seeds: tuple[int, ...]) -> Resampled | None:
        return resampled(COMPARED[column], [self.cell.errors[name][seed] for seed in seeds])


def _averaged(found: Sequence[Resampled | None]) -> Resampled | None:
    """Return the mean over methods, draw by draw: all have the same images in a draw."""
    there = [each for each in found if each is not None]
    if len(there) < len(found):
        return None
    value = sum(each.value for each in there) / len(there)
    return Resampled(value, torch.stack([each.draws for each in there]).mean(0), there[0].sizes)
