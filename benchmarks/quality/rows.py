"""Rows of the files that the benchmark of quality writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNPRUNED, OURS = "unpruned", "dipgo_fx"


@dataclass(frozen=True)
class Row:
    """One measurement; what does not apply is `None`, and all but `error` where a method cannot run."""

    model: str
    scheduler: str
    steps: int
    method: str
    ratio_asked: float
    macs_kept: float | None = None
    macs_kept_without_attention: float | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    feature_distance: float | None = None
    fid_like: float | None = None
    fid_like_low: float | None = None
    fid_like_high: float | None = None
    kid_like: float | None = None
    class_accuracy: float | None = None
    search_full_runs: float | None = None
    held_out_samples: int | None = None
    search_samples: int | None = None
    tuning_samples: int | None = None
    seed: int = 0
    error: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes a row the same measurement."""
        return (self.model, self.scheduler, self.steps, self.method, self.ratio_asked, self.seed)


@dataclass(frozen=True)
class CurvePoint:
    """One setting of a package on the calibration noise."""

    model: str
    scheduler: str
    steps: int
    method: str
    setting: str
    macs_kept: float
    macs_kept_without_attention: float
    psnr_db: float
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes a point the same measurement."""
        return (self.model, self.scheduler, self.steps, self.method, self.setting, self.seed)


def stem(row: Row) -> str:
    """Return what the names of the pictures of a row's model, scheduler and steps have in common."""
    return f"{row.model}-{row.scheduler.lower().replace('+', '')}-{row.steps}"
