"""Pictures of quality: scores by kept share, and samples side by side."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks import pictures
from benchmarks.plans import DEFAULT

from .rows import OURS, UNPRUNED, Row
from .tables import first_seed, groups

STRIPS_AT = 0.8  # the ratio at which samples of other methods are shown
OTHERS = 5  # methods whose samples are shown


def draw(rows: Sequence[Row], out: Path) -> None:
    """Draw the Pareto plots and the sample grids of all measured models."""
    for title, every in groups(rows).items():
        own = first_seed(every)
        _draw_scores(own, title, out)
        samples = samples_file(out, own[0])
        if samples.exists():
            strips = _strips(load_file(samples), own)
            pictures.sample_grid(strips, title, out / f"quality-{own[0].stem}-samples.png")


def samples_file(out: Path, about: Row) -> Path:
    """Return where the samples of a row's model, scheduler and steps are kept for the pictures."""
    return out / "samples" / f"{about.stem}.safetensors"


def _draw_scores(rows: Sequence[Row], title: str, out: Path) -> None:
    pruned = [row for row in rows if row.macs_kept is not None and row.method != UNPRUNED]
    lines = _lines(pruned, "psnr_db")
    if lines:
        file = out / f"quality-{rows[0].stem}-psnr.png"
        pictures.pareto(lines, "PSNR in dB, higher is better", title, file, _ours(rows))


def _lines(rows: Sequence[Row], name: str) -> dict[str, list[tuple[float, float]]]:
    """Return for each method the points (kept, score), seeds averaged, along its ratios."""
    points: dict[str, dict[float, list[tuple[float, float]]]] = {}
    for row in rows:
        if (value := getattr(row, name)) is not None and math.isfinite(value) and row.macs_kept is not None:
            points.setdefault(row.method, {}).setdefault(row.ratio_asked, []).append((row.macs_kept, value))
    return {
        method: sorted(
            {(sum(x for x, _ in at) / len(at), sum(y for _, y in at) / len(at)) for at in own.values()}
        )
        for method, own in points.items()
    }


def _strips(samples: dict[str, torch.Tensor], rows: Sequence[Row]) -> list[tuple[str, torch.Tensor]]:
    """Return the unpruned samples, ours at 0.5 and 0.8, and those of the best others at 0.8."""
    scored = [row for row in rows if row.ratio_asked == STRIPS_AT and row.psnr_db is not None]
    others = sorted(scored, key=lambda row: -(row.psnr_db or 0))
    ours = _ours(rows)
    names = list(dict.fromkeys(row.method for row in others if not row.method.startswith(OURS)))
    wanted = [(UNPRUNED, 0.0), (ours, 0.5), *((name, STRIPS_AT) for name in (ours, *names[:OTHERS]))]
    told = {(row.method, row.ratio_asked): row.psnr_db for row in rows}
    strips = []
    for method, ratio in wanted:
        if (key := f"{method} @ {ratio:g}") in samples:
            score = told.get((method, ratio))
            detail = "" if score is None or method == UNPRUNED else f"\n{1 - ratio:.0%} kept, {score:.1f} dB"
            strips.append((f"{method}{detail}", samples[key]))
    return strips


def _ours(rows: Sequence[Row]) -> str:
    """Return which of our own methods was measured at most ratios."""
    counts = Counter(row.method for row in rows if row.method.startswith(OURS))
    return counts.most_common(1)[0][0] if counts else DEFAULT.name
