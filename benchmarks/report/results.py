"""Rows of the files in results/, and measurements of quality as numbers."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from benchmarks.tables import RESULTS

from .words import percent

OURS, UNPRUNED = "dipgo_fx, one search", "unpruned"
NAMES = {
    "fashion-dit": "Fashion-MNIST DiT",
    "fashion-unet": "Fashion-MNIST U-Net",
    "emoji-unet": "emoji U-Net",
    "digits-dit": "digits DiT",
    "digits-unet": "digits U-Net",
}
LABELS = {
    OURS: "`dipgo_fx`",
    "uniform, linear": "uniform linear plans",
    "uniform, reuse": "uniform repeating plans",
}
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
    "ssim": Measure("SSIM", max, 4),
    "feature_distance": Measure("feature distance", min, 4),
    "fid_like": Measure("FID-like", min, 0),
    "class_accuracy": Measure("share recognised", max, 3),
}
FIDELITY = ("psnr_db", "ssim", "feature_distance")  # to the unpruned samples of the same noise
OTHERS = ("fid_like_low", "fid_like_high", "search_full_runs")


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
    """Return the rows of a CSV file in results/."""
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
    return [score_of(row) for row in chosen(read("quality"), scheduler="DDIM", steps="20", error="")]


def pruned() -> list[Score]:
    """Return all measurements but those of unpruned loops."""
    return [score for score in scores() if score.method != UNPRUNED]


def score_of(row: Row) -> Score:
    """Return a row of quality.csv as numbers."""
    values = {name: float(row[name]) for name in (*MEASURES, *OTHERS) if row[name]}
    asked = round(1 - float(row["ratio_asked"]), 6)
    return Score(row["model"], int(row["seed"]), row["method"], asked, float(row["macs_kept"]), values)
