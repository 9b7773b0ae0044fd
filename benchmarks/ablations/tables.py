"""Tables of the ablations: one a model and study, seeds averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.cases import CALIBRATION
from benchmarks.tables import Table, grouped, mean

from .lab import FEW_STEPS
from .variants import Row

TITLE = "Ablations"
GUIDE = f"""PSNR and SSIM are to the unpruned result of held-out noise. `paper`: the paper's recipe, one
training for all ratios; `default`: ours. Cost is in unpruned runs of {CALIBRATION} samples. `paper_clip`:
CLIP scores of Stable Diffusion 1.5 at ratio 0.8 in tables 5 to 7 of DiP-GO (unpruned 30.30). LCM runs
{FEW_STEPS} steps at most."""
AVERAGED = (
    "macs_kept",
    "psnr_db",
    "ssim",
    "class_accuracy",
    "search_full_runs",
    "search_seconds",
    "paper_clip",
)


def parts(rows: Sequence[Row]) -> Iterator[Table]:
    """Yield one table a model and study."""
    for model, steps in dict.fromkeys((row.model, row.steps) for row in rows if row.scheduler == "DDIM"):
        for study in dict.fromkeys(row.study for row in rows):
            own = [row for row in rows if (row.model, row.study) == (model, study)]
            yield Table(f"{study}: {model}, {steps} steps", _averages(own))


def _averages(rows: Sequence[Row]) -> list[dict[str, Any]]:
    groups = grouped(rows, lambda row: (row.variant, row.recipe, row.ratio_asked))
    return [
        {
            "variant": variant,
            "recipe": recipe,
            "ratio": ratio,
            **{name: mean(getattr(row, name) for row in group) for name in AVERAGED},
            "seeds": len(group),
            "error": next((row.error for row in group if row.error), ""),
        }
        for (variant, recipe, ratio), group in groups.items()
    ]
