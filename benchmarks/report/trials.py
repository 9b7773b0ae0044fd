"""The block on what was tried for the default search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.tables import grouped

from .results import NAMES, Row, read
from .words import remarked, wrapped

FORMS = {  # how a trial's values are written, by measure
    "PSNR": "{}",
    "PSNR change": "{}",
    "PSNR difference": "{}",
    "mean of the samples' PSNR": "{} in the mean of the samples' own",
    "SSIM": "SSIM {}",
    "share of the squared error": "{}% of the squared error",
    "share of MACs": "{}% of the MACs",
    "error of the result": "{}",
}


def trials() -> str:
    """List of what was tried, each with its values."""
    groups = grouped(read("trials"), lambda row: row["trial"])
    return "\n".join(trial(name, rows) for name, rows in groups.items())


def trial(name: str, rows: Sequence[Row]) -> str:
    """Return one item: what was tried, what came of it, and the values model by model."""
    shown = [row for row in rows if row["measure"] in FORMS]
    models = grouped(shown, lambda row: (row["model"], row["samples"]))
    told = [f"*{of_model(*about)}* {'; '.join(settings(own))}." for about, own in models.items()]
    notes = [row["note"] for row in rows if row["note"]]
    return wrapped(f"* **{name}.** {' '.join([*notes, *told])}", hanging="  ")


def of_model(model: str, samples: str) -> str:
    """Return a model and how many samples its values are of, if that was noted."""
    return remarked(NAMES.get(model, model), f"{samples} samples" if samples else "")


def settings(rows: Iterable[Row]) -> list[str]:
    """Return each setting with its values."""
    groups = grouped(rows, lambda row: row["setting"])
    return [f"{setting}: {', '.join(trial_values(own))}" for setting, own in groups.items()]


def trial_values(rows: Iterable[Row]) -> list[str]:
    """Return what was measured; two values of one measure are a range."""
    groups = grouped(rows, lambda row: row["measure"])
    return [FORMS[name].format(" to ".join(row["value"] for row in own)) for name, own in groups.items()]
