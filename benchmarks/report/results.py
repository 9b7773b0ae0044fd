"""Rows of the files in results/, and measurements of quality as numbers."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks import peers, plans, trainings
from benchmarks.quality import comparing
from benchmarks.quality.comparing import Cell
from benchmarks.quality.image_store import ImageStore
from benchmarks.quality.rows import Row as QualityRow
from benchmarks.reference.models import FROZEN, WEIGHTS
from benchmarks.results_store import ResultStore
from benchmarks.tables import RESULTS

from .words import percent

OURS, UNPRUNED, FEWER = "dipgo_fx, one search", "unpruned", "fewer steps"
NAMES = {
    "fashion-dit": "Fashion-MNIST DiT",
    "fashion-unet": "Fashion-MNIST U-Net",
    "fashion-flow": "Fashion-MNIST flow",
    "emoji-unet": "emoji U-Net",
    "digits-dit": "digits DiT",
    "digits-unet": "digits U-Net",
    FROZEN: "MNIST Sana",
}
LABELS = {
    OURS: "`dipgo_fx`",
    "dipgo_fx default": "`dipgo_fx` (a search a share)",
    "uniform, linear": "uniform linear plans",
    "uniform, reuse": "uniform repeating plans",
}
FITTED = (plans.FITTED_EVENLY, plans.FITTED_BY_SENSITIVITY, plans.FITTED_BY_PROGRAMMING)
LEARNED = (
    *(method.name for method in peers.METHODS if method.package == "none"),
    *(plan.name for plan in FITTED),
)
"""Learned samplers, written for these benchmarks as no package has them: as samplers, and as plans."""

ASKED = (0.5, 0.3, 0.2)  # of MACs asked for, in the tables
OFF = 0.0125  # a kept share that is farther from the one asked for is told; packages may exceed it by as much
Row = dict[str, str]


@dataclass(frozen=True)
class Measure:
    """A column of quality.csv: its name in a sentence, which end is good, digits after the point."""

    title: str
    best: Callable[..., Score]
    digits: int


MEASURES = {
    "psnr_db": Measure("PSNR", max, 1),
    "psnr_mean_db": Measure("mean PSNR", max, 1),
    "psnr_low_db": Measure("5th percentile of PSNR", max, 1),
    "ssim": Measure("SSIM", max, 4),
    "feature_distance": Measure("feature distance", min, 4),
    "converged_psnr_db": Measure("PSNR to the converged images", max, 1),
    "class_accuracy": Measure("share recognised", max, 3),
}
FIDELITY = tuple(name for name in MEASURES if name != "class_accuracy")  # to samples of the same noise
OTHERS = ("search_full_runs", "search_seconds", "search_calls", "search_images", "held_out_samples")


@dataclass(frozen=True)
class Score:
    """A measurement of quality.csv.

    Attributes:
        asked: share of the MACs that might be kept.
        kept: share that was.
        values: by column, those there are.
    """

    model: str
    seed: int
    method: str
    asked: float
    kept: float
    values: Mapping[str, float]

    @property
    def label(self) -> str:
        """The method's name in text."""
        return LABELS.get(self.method, self.method)

    def text(self, measure: str) -> str:
        """Return a value as tables print it."""
        return f"{self.values[measure]:.{MEASURES[measure].digits}f}"

    @property
    def remark(self) -> str:
        """Say what was kept, if that is not what was asked for."""
        return f"keeps {percent(self.kept)}" if abs(self.kept - self.asked) > OFF else ""


def read(name: str) -> list[Row]:
    """Return the rows of a CSV file in results/; there are none without a file."""
    if not (RESULTS / f"{name}.csv").exists():
        return []
    with (RESULTS / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def chosen(rows: Iterable[Row], **wanted: str) -> list[Row]:
    """Return the rows whose columns have these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def numbers(rows: Iterable[Row], column: str) -> list[float]:
    """Return a column's numbers, those there are."""
    return [float(row[column]) for row in rows if row[column]]


def scores() -> list[Score]:
    """Return the measurements of quality.csv with DDIM at 20 steps."""
    return [score_of(row) for row in measured() if row["error"] == ""]


def measured() -> list[Row]:
    """Return the rows of quality.csv with DDIM at 20 steps; of rows of one measurement the last.

    Guidance is the models' own.
    """
    rows = [
        row for row in chosen(read("quality"), scheduler="DDIM", steps="20") if not row.get("guidance", "")
    ]
    key = ("model", "method", "ratio_asked", "seed")
    return list({tuple(row[name] for name in key): row for row in rows}.values())


def every_cell() -> list[Cell]:
    """Return the cells of quality.csv, with what was kept of their images."""
    return cells_in(RESULTS)


@cache
def cells_in(folder: Path) -> list[Cell]:
    """Return the cells of the quality.csv in a folder, with what was kept of their images."""
    rows = ResultStore(folder / "quality.csv", QualityRow).rows()
    return comparing.cells([row for row in rows if row.model in NAMES], ImageStore(folder))


def guidance_of(about: QualityRow) -> float:
    """Return the scale of guidance of a measurement, 0 without; the model's own unless another was told."""
    own = trainings.read(WEIGHTS).get(about.model, {}).get("guidance", 0.0)
    return float(own if about.guidance is None else about.guidance)


def strength(guidance: float) -> str:
    """Return a scale of guidance as text."""
    return f"{guidance:g}" if guidance else "none"


def is_of_the_tables(about: QualityRow) -> bool:
    """Tell whether a measurement is of the loop that most tables have: DDIM, 20 steps, own guidance."""
    return (about.scheduler, about.steps, about.guidance) == ("DDIM", 20, None)


def cells() -> list[Cell]:
    """Return the cells of that loop."""
    return [cell for cell in every_cell() if is_of_the_tables(cell.about)]


def pruned() -> list[Score]:
    """Return all measurements but those of unpruned loops."""
    return [score for score in scores() if score.method != UNPRUNED]


def score_of(row: Row) -> Score:
    """Return a row of quality.csv as numbers."""
    values = {name: float(row[name]) for name in (*MEASURES, *OTHERS) if row.get(name)}
    asked = round(1 - float(row["ratio_asked"]), 6)
    return Score(row["model"], int(row["seed"]), row["method"], asked, float(row["macs_kept"]), values)
