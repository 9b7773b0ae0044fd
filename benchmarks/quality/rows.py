"""Rows of the files that the benchmark of quality writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNPRUNED, OURS = "unpruned", "dipgo_fx"


@dataclass(frozen=True)
class Row:
    """One measurement; what does not apply is `None`, and nearly all where a method cannot run.

    `psnr_db` is of all images together, `psnr_low_db` the 5th percentile of single images; `clamped_...` are
    of images clamped to [-1, 1], `converged_...` against the converged images instead of the unpruned ones.
    `search_calls` are whole calls of the model for one sample, parts counted by their MACs; `row_seconds` is
    what the row took, search included. `guidance` is `None` where it is the model's own.
    Rows of one cell may be of several devices: what differs is rounding, and seconds.
    """

    model: str
    scheduler: str
    steps: int
    method: str
    ratio_asked: float
    macs_kept: float | None = None
    macs_kept_without_attention: float | None = None
    psnr_db: float | None = None
    psnr_mean_db: float | None = None
    psnr_median_db: float | None = None
    psnr_low_db: float | None = None
    psnr_worst_db: float | None = None
    clamped_psnr_db: float | None = None
    clamped_psnr_mean_db: float | None = None
    clamped_psnr_median_db: float | None = None
    clamped_psnr_low_db: float | None = None
    clamped_psnr_worst_db: float | None = None
    ssim: float | None = None
    feature_distance: float | None = None
    converged_psnr_db: float | None = None
    converged_psnr_mean_db: float | None = None
    class_accuracy: float | None = None
    search_full_runs: float | None = None
    search_seconds: float | None = None
    search_calls: int | None = None
    search_images: int | None = None
    held_out_samples: int | None = None
    search_samples: int | None = None
    tuning_samples: int | None = None
    settings_tried: int | None = None
    settings_failed: int | None = None
    converged_steps: int | None = None
    row_seconds: float | None = None
    guidance: float | None = None
    seed: int = 0
    error: str = ""
    device: str = "cpu"

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes a row the same measurement."""
        about = (self.model, self.scheduler, self.steps, self.guidance)
        return (*about, self.method, self.ratio_asked, self.seed)

    @property
    def stem(self) -> str:
        """What the names of files on a row's model, scheduler, steps and guidance have in common."""
        scheduler = self.scheduler.lower().replace("+", "").replace(" ", "-")
        guidance = "" if self.guidance is None else f"-guidance{self.guidance:g}"
        return f"{self.model}-{scheduler}-{self.steps}{guidance}"

    @property
    def about(self) -> str:
        """The same for people."""
        guidance = "" if self.guidance is None else f", guidance {self.guidance:g}"
        return f"{self.model}, {self.scheduler}, {self.steps} steps{guidance}"


@dataclass(frozen=True)
class CurvePoint:
    """One setting of a package on the calibration noise; `error` says why it has no numbers."""

    model: str
    scheduler: str
    steps: int
    method: str
    setting: str
    macs_kept: float | None
    macs_kept_without_attention: float | None
    psnr_db: float | None
    seed: int
    error: str = ""
    guidance: float | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes a point the same measurement."""
        about = (self.model, self.scheduler, self.steps, self.guidance)
        return (*about, self.method, self.setting, self.seed)


@dataclass(frozen=True)
class FrechetRow:
    """A Fréchet distance to real images beside that of the unpruned model on the same noise.

    `difference` is the method's minus the unpruned model's, with its 95 % interval.
    """

    model: str
    scheduler: str
    steps: int
    method: str
    ratio_asked: float
    images: int
    distance: float
    unpruned_distance: float
    difference: float
    difference_low: float
    difference_high: float
    class_accuracy: float | None
    unpruned_class_accuracy: float | None
    seed: int = 0
    guidance: float | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes a row the same measurement."""
        about = (self.model, self.scheduler, self.steps, self.guidance)
        return (*about, self.method, self.ratio_asked, self.seed)
