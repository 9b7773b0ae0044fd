"""The main job: prune a shipped digits model, compare it with what a user would do instead, draw it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ..applying import PrunedLoop, apply, build
from ..budget import kept_of
from ..cost import LoopCost
from ..loop import Loop
from ..macs import Cost
from ..placement import open_from_output, whole_steps
from ..plan import Plan
from ..pruning import prune
from ..search.config import PruneConfig
from ..search.losses import psnr, ssim
from ..search.spacing import most_steps
from ..similarity import measure_similarity
from ..tracing import trace
from .models import CLASSES, SAMPLE_SHAPE, DigitModel, load, load_classifier
from .pictures import draw_plan, draw_samples, grey_image

PICTURE_RATIOS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SAMPLES, ROUNDS = 200, 5
COLUMNS = 8
"""Digits in each row of the report."""
# Enough for the digits models; the search stays well under a minute on two cores.
CONFIG = PruneConfig(full_runs=40)


@dataclass(frozen=True)
class Row:
    """One method of the comparison."""

    name: str
    cost: Cost
    run: Callable[[], torch.Tensor]


def run(
    name: DigitModel, *, ratio: float, steps: int, seed: int, out: Path, progress: bool, console: Any = None
) -> None:
    """Prune, print the comparison, and write `plan.json`, two pictures and `report.html` into `out`.

    The noise of the comparison was not seen by the search.
    """
    console = console or Console()
    out.mkdir(parents=True, exist_ok=True)
    model, scheduler = load(name)
    console.print(f"Pruning the shipped digits {name} at ratio {ratio}: DDIM, {steps} steps")
    pruned = prune(
        model,
        scheduler,
        ratio,
        num_inference_steps=steps,
        config=CONFIG,
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
    )
    plan: Plan = pruned.plan
    plan.save(out / "plan.json")
    loop = trace(model, scheduler, steps)
    inputs = _inputs(seed + 1)
    rows = _rows(model, scheduler, loop, pruned, ratio, inputs)
    console.print(_table(rows, inputs, progress))
    console.print(
        f"Search: {plan.origin['seconds']} s, worth {plan.origin['full_runs']} unpruned runs; "
        f"found: {plan.origin['name']}"
    )
    strips = _draw(model, scheduler, pruned, ratio, inputs, out)
    _write_page(loop, pruned, strips, inputs, out)
    names = [str(out / name) for name in ("samples.png", "plan.png", "report.html", "plan.json")]
    console.print(f"Wrote {', '.join(names[:-1])} and {names[-1]}")


def _inputs(seed: int) -> dict[str, torch.Tensor]:
    noise = torch.randn((SAMPLES, *SAMPLE_SHAPE), generator=torch.Generator().manual_seed(seed))
    return {"sample": noise, "class_labels": torch.arange(SAMPLES) % CLASSES}


def _rows(
    model: Any, scheduler: Any, loop: Loop, pruned: PrunedLoop, ratio: float, inputs: dict[str, torch.Tensor]
) -> list[Row]:
    cost = LoopCost.of(loop)
    fewer = max(1, round(loop.num_steps * (1 - ratio)))
    shorter = trace(model, scheduler, fewer)
    reuse = build(loop, _plain_reuse(loop, cost, kept_of(ratio, cost)))
    return [
        Row("unpruned", cost.full, lambda: loop(**inputs)),
        Row("dipgo_fx", pruned.report.after, lambda: pruned(**inputs)),
        Row(f"{fewer} steps instead", LoopCost.of(shorter).full, lambda: shorter(**inputs)),
        Row("plain reuse", reuse.report.after, lambda: reuse(**inputs)),
    ]


def _plain_reuse(loop: Loop, cost: LoopCost, kept: float) -> Plan:
    """Return the plan of every k-th step run whole, its features repeated in between."""
    count = max(1, most_steps(cost, (), kept, 1)[-1])
    steps = tuple(index * loop.num_steps // count for index in range(count))
    return Plan.from_keep(loop, open_from_output(whole_steps(steps, cost).keep(cost), kept, cost, 1))


@torch.no_grad()
def _table(rows: list[Row], inputs: dict[str, torch.Tensor], progress: bool) -> Table:
    results = [row.run() for row in rows]
    seconds = _interleaved(rows, progress)
    classifier = load_classifier()
    table = Table(
        title=f"{SAMPLES} new digits, the same noise for all", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("method", no_wrap=True)
    for column in ("MMACs", "without attention", "kept", "seconds", "speed", "PSNR dB", "SSIM", "recognised"):
        table.add_column(column, justify="right", no_wrap=column != "without attention")
    for row, result, second in zip(rows, results, seconds, strict=True):
        right = classifier(result.clamp(-1, 1)).argmax(1) == inputs["class_labels"]
        table.add_row(
            row.name,
            f"{row.cost.total / 1e6:.1f}",
            f"{row.cost.without_attention / 1e6:.1f}",
            f"{row.cost.total / rows[0].cost.total:.1%}",
            f"{second:.3f}",
            f"{seconds[0] / second:.2f}x",
            f"{psnr(result, results[0]):.1f}",
            f"{ssim(_unit(result), _unit(results[0])).item():.4f}",
            f"{right.double().mean().item():.1%}",
        )
    return table


def _interleaved(rows: list[Row], progress: bool) -> list[float]:
    """Return each method's median seconds of five rounds in which all take turns."""
    times: list[list[float]] = [[] for _ in rows]
    rounds: Any = range(ROUNDS)
    for _ in track(rounds, "timing", transient=True) if progress else rounds:
        for row, measured in zip(rows, times, strict=True):
            start = time.perf_counter()
            row.run()
            measured.append(time.perf_counter() - start)
    return [statistics.median(measured) for measured in times]


@torch.no_grad()
def _draw(
    model: Any, scheduler: Any, pruned: PrunedLoop, ratio: float, inputs: dict[str, torch.Tensor], out: Path
) -> dict[float, torch.Tensor]:
    """Write both pictures, and return samples by the share of the MACs that was removed for them."""
    first = {key: value[: 2 * CLASSES] for key, value in inputs.items()}
    rows, strips = {}, {}
    for asked in PICTURE_RATIOS:
        loop = pruned if asked == ratio else apply(model, scheduler, pruned.plan, ratio=asked)
        rows[f"{asked:.1f}"] = strips[loop.plan.ratio] = loop(**first)
    draw_samples(rows, out / "samples.png")
    draw_plan(pruned.plan, out / "plan.png")
    return strips


def _write_page(
    loop: Loop,
    pruned: PrunedLoop,
    strips: dict[float, torch.Tensor],
    inputs: dict[str, torch.Tensor],
    out: Path,
) -> None:
    """Write the report with maps of how alike steps are, and the first samples at each ratio."""
    shown = {
        ratio: [grey_image(sample[0]) for sample in samples[:COLUMNS]] for ratio, samples in strips.items()
    }
    sample, labels = (inputs[name][: 2 * CLASSES] for name in ("sample", "class_labels"))
    page = pruned.report.html(
        similarity=measure_similarity(loop, sample, {"class_labels": labels}),
        images=shown,
        captions=[f"class {label}" for label in labels[:COLUMNS].tolist()],
    )
    (out / "report.html").write_text(page, encoding="utf-8")


def _unit(images: torch.Tensor) -> torch.Tensor:
    return images.clamp(-1, 1) / 2 + 0.5
