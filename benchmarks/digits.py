"""Fidelity of pruned digits loops on noise the search never saw, beside other ways to the same MACs.

`python benchmarks/digits.py` writes benchmarks/results/digits.csv and digits.md. Every row is one plan:
PSNR and SSIM to the unpruned result of the same noise, the share a digit classifier recognises, and what
the search cost in unpruned runs of its calibration samples.
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import dipgo_fx
from dipgo_fx import PruneConfig
from dipgo_fx.api import build
from dipgo_fx.demo.models import CLASSES, SAMPLE_SHAPE, load, load_classifier
from dipgo_fx.losses import psnr, ssim
from dipgo_fx.macs import LoopCost
from dipgo_fx.schedules import filled, keep_table, whole_steps

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Row:
    """One measurement."""

    model: str
    steps: int
    ratio_asked: float
    method: str
    macs_kept: float
    macs_kept_without_attention: float
    psnr_db: float
    ssim: float
    recognised: float
    search_full_runs: float
    search_seconds: float
    seed: int


class Case:
    """One model and step count with held-out inputs and the unpruned result."""

    def __init__(self, name: Any, steps: int, samples: int, seed: int) -> None:
        self.name, self.steps, self.seed = name, steps, seed
        self.model, self.scheduler = load(name)
        self.loop = dipgo_fx.trace(self.model, self.scheduler, steps)
        self.cost = LoopCost.of(self.loop)
        noise = torch.randn((samples, *SAMPLE_SHAPE), generator=torch.Generator().manual_seed(1000 + seed))
        self.inputs = {"sample": noise, "class_labels": torch.arange(samples) % CLASSES}
        self.target = self.run(self.loop)
        self.classifier = load_classifier()

    @torch.no_grad()
    def run(self, loop: Any) -> torch.Tensor:
        """Run a loop on the held-out inputs."""
        result: torch.Tensor = loop(**self.inputs)
        return result

    @torch.no_grad()
    def row(self, method: str, ratio: float, loop: Any, runs: float = 0, seconds: float = 0) -> Row:
        """Measure a loop."""
        result, macs = self.run(loop), LoopCost.of(loop).full if method == "fewer steps" else None
        after, before = macs or loop.report.after, self.cost.full
        right = self.classifier(result.clamp(-1, 1)).argmax(1) == self.inputs["class_labels"]
        return Row(
            model=self.name,
            steps=self.steps,
            ratio_asked=ratio,
            method=method,
            macs_kept=round(after.total / before.total, 4),
            macs_kept_without_attention=round(after.without_attention / before.without_attention, 4),
            psnr_db=round(psnr(result, self.target), 2),
            ssim=round(ssim(result.clamp(-1, 1) / 2 + 0.5, self.target.clamp(-1, 1) / 2 + 0.5).item(), 4),
            recognised=round(right.double().mean().item(), 3),
            search_full_runs=round(runs, 1),
            search_seconds=round(seconds, 1),
            seed=self.seed,
        )

    def uniform(self, ratio: float, backup: Any) -> Any:
        """Return the loop that runs every k-th step whole."""
        budget = 1 - ratio
        count = max(1, whole_steps(self.cost, (), budget, backup))
        kept = tuple(index * self.steps // count for index in range(count))
        keep = torch.tensor(filled(keep_table(self.cost, kept), budget, self.cost, backup))
        return build(self.loop, dipgo_fx.Plan.from_keep(self.loop, keep, backup), self.cost)

    def searched(self, ratio: float, config: PruneConfig, **options: Any) -> Any:
        """Return the loop that `prune` finds."""
        generator = torch.Generator().manual_seed(self.seed)
        return dipgo_fx.prune(
            self.model,
            self.scheduler,
            ratio,
            num_inference_steps=self.steps,
            config=config,
            generator=generator,
            progress=False,
            **options,
        )


def measure(case: Case, ratios: list[float], paper_iterations: int, full_runs: float) -> Iterator[Row]:
    """Yield the rows of one case; the paper's recipe is trained once and thresholded at every ratio."""
    paper = None
    if paper_iterations:
        # The paper uses learning rate 10 for DiT, 0.1 for Stable Diffusion's U-Net.
        rate = 10.0 if case.name == "dit" else 0.1
        config = PruneConfig.paper(iterations=paper_iterations, learning_rate=rate)
        start = time.perf_counter()
        paper = case.searched(ratios[0], config, backup="reuse", granularity="block")
        paper_seconds = time.perf_counter() - start
    for ratio in ratios:
        fewer = dipgo_fx.trace(case.model, case.scheduler, max(1, round(case.steps * (1 - ratio))))
        yield case.row("fewer steps", ratio, fewer)
        yield case.row("uniform, reuse", ratio, case.uniform(ratio, "reuse"))
        yield case.row("uniform, linear", ratio, case.uniform(ratio, "linear"))
        if paper is not None:
            loop = dipgo_fx.apply(case.model, case.scheduler, paper.plan, ratio=ratio)
            runs = paper.plan.origin["full_runs"]
            yield case.row("paper's recipe", ratio, loop, runs, paper_seconds)
        loop = case.searched(ratio, PruneConfig(full_runs=full_runs, checkpoint=False))
        origin = loop.plan.origin
        yield case.row("dipgo_fx default", ratio, loop, origin["full_runs"], origin["seconds"])


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["dit", "unet"], choices=["dit", "unet"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.8, 0.7, 0.5, 0.3])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--paper-iterations", type=int, default=1000, help="0 leaves the paper's recipe out")
    parser.add_argument("--full-runs", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    bar = tqdm(desc="rows", unit="row")
    for name in options.models:
        for seed in options.seeds:
            case = Case(name, options.steps, options.samples, seed)
            for row in measure(case, options.ratios, options.paper_iterations, options.full_runs):
                rows.append(row)
                bar.update()
                bar.set_postfix_str(f"{row.model} {row.ratio_asked} {row.method}: {row.psnr_db} dB")
                write(rows, options.out)


def write(rows: list[Row], out: Path) -> None:
    """Write all rows so far as CSV and Markdown."""
    names = [field.name for field in fields(Row)]
    with (out / "digits.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(asdict(row) for row in rows)
    cells = [names, ["---"] * len(names), *[[str(value) for value in asdict(row).values()] for row in rows]]
    versions = ", ".join(f"{name} {version(name)}" for name in ("dipgo-fx", "torch", "diffusers"))
    note = f"{versions}; Python {platform.python_version()}, {torch.get_num_threads()} CPU threads.\n"
    lines = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    (out / "digits.md").write_text(f"{lines}\n\n{note}", encoding="utf-8")


if __name__ == "__main__":
    main()
