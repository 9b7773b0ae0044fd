"""Measure what this compiler costs and gains in seconds: tracing, the loops' wall time, importing.

    python benchmarks/speed.py --threads 1

Wall times come from one process: every contestant runs once a round, in an order that turns round
every time (A B C C B A ...), so that none always has the same place. A speed-up is the median over
rounds of the eager loop's time divided by the contestant's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import diffusers as d
import torch
from architectures import SETTINGS
from tables import RESULTS, Row, Table, write
from torch import nn
from tqdm import tqdm

from dipgo_fx import Loop, Plan, trace
from dipgo_fx.api import build
from dipgo_fx.loop import denoise, prepared
from dipgo_fx.macs import LoopCost
from dipgo_fx.schedules import keep_table

TRACED = ("sd15", "dit")
TRACE_SECONDS = 5.0
IMPORTED = ("torch", "diffusers", "dipgo_fx")
PARTS = ("trace", "wall", "guidance", "import")
# A fresh interpreter times its own import, so starting Python is not part of it.
IMPORT_TIMER = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"

Tensors = dict[str, torch.Tensor]
Run = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Subject:
    """A model with random weights, its inputs, and which of its blocks partial plans keep.

    Attributes:
        tail: number of last blocks that partial plans run at every step.
    """

    name: str
    model: nn.Module
    sample: torch.Tensor
    conditioning: Tensors
    tail: int


@dataclass(frozen=True)
class HandPlan:
    """A plan by hand: whole steps 0, stride, 2 * stride, ...; else the last `tail` blocks only."""

    name: str
    stride: int
    backup: Any
    tail: int = 0

    def on(self, loop: Loop) -> Plan:
        """Return the plan for a loop."""
        keep = torch.zeros(loop.num_steps, len(loop.blocks), dtype=torch.bool)
        keep[:: self.stride] = True
        if self.tail:
            keep[:, -self.tail :] = True
        return Plan.from_keep(loop, keep, self.backup)


def random_dit() -> Subject:
    """Return 12 blocks of width 384 on 256 tokens: large enough that blocks dominate."""
    model = d.DiTTransformer2DModel(
        num_layers=12,
        num_attention_heads=6,
        attention_head_dim=64,
        in_channels=4,
        out_channels=4,
        sample_size=32,
        patch_size=2,
        num_embeds_ada_norm=1000,
    )
    return Subject("DiT 12 x 384, 256 tokens", model.eval(), noise(), {"class_labels": label()}, 2)


def random_unet() -> Subject:
    """Return a text-conditional U-Net with channels 64, 128, 256 on 32 x 32 latents."""
    model = d.UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(64, 128, 256),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=8,
    )
    text = torch.randn(1, 77, 128)
    # The last resnet and attention and the head: what DeepCache's branch 0 runs at every step.
    return Subject("U-Net 64-128-256, 32²", model.eval(), noise(), {"encoder_hidden_states": text}, 3)


def noise() -> torch.Tensor:
    """Return initial noise `(1, 4, 32, 32)`."""
    return torch.randn(1, 4, 32, 32)


def label() -> torch.Tensor:
    """Return one class label."""
    return torch.tensor([7])


def hand_plans(tail: int) -> tuple[HandPlan, ...]:
    """Return the plans of the table: whole steps at 0.5 and 0.8, and partial ones."""
    return (
        HandPlan("whole steps, reuse, 0.5", 2, "reuse"),
        HandPlan("whole steps, linear, 0.5", 2, "linear"),
        HandPlan("whole steps, reuse, 0.8", 5, "reuse"),
        HandPlan("whole steps, linear, 0.8", 5, "linear"),
        HandPlan(f"1 of 5 whole, else last {tail} blocks, reuse", 5, "reuse", tail),
        HandPlan(f"1 of 5 whole, else last {tail} blocks, linear", 5, "linear", tail),
    )


def eager(subject: Subject, scheduler: Any, steps: int) -> torch.Tensor:
    """Run the loop as a pipeline does."""
    return denoise(subject.model, prepared(scheduler, steps), subject.sample, subject.conditioning)


def interleaved(runs: dict[str, Run], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of every run by round; a first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in tqdm(range(repeats + 1), unit="round", leave=False):
        for name in list(runs)[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            runs[name]()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def wall_rows(subject: Subject, steps: int, repeats: int) -> list[Row]:
    """Time the eager loop, the traced loop and pruned loops of one model."""
    scheduler = d.DDIMScheduler()
    loop = trace(subject.model, scheduler, steps)
    cost = LoopCost.of(loop)
    runs: dict[str, Run] = {
        "eager loop": partial(eager, subject, scheduler, steps),
        "traced loop": partial(loop, subject.sample, **subject.conditioning),
    }
    shares = {"eager loop": 1.0, "traced loop": 1.0}
    for hand in hand_plans(subject.tail):
        plan = hand.on(loop)
        runs[hand.name] = partial(build(loop, plan, cost), subject.sample, **subject.conditioning)
        shares[hand.name] = cost.share(plan.keep.tolist(), plan.weights.tolist())
    if not torch.equal(runs["eager loop"](), runs["traced loop"]()):
        raise AssertionError(f"{subject.name}: the traced loop differs from the eager one (law 1)")
    seconds = interleaved(runs, repeats)
    return [wall_row(subject.name, steps, name, seconds, shares[name]) for name in runs]


def guidance_rows(subject: Subject, steps: int, repeats: int) -> list[Row]:
    """Time guidance as one call of twice the rows and as two calls, whole and pruned."""
    scheduler = d.DDIMScheduler()
    conditioning = {name: torch.cat([rows, rows]) for name, rows in subject.conditioning.items()}
    traced = partial(trace, subject.model, scheduler, steps, guidance_scale=2.0)
    joint, split = traced(), traced(split_guidance=True)
    whole, outer = tuple(range(0, steps, 5)), tuple(range(0, steps, 4))
    plans = {
        "one call a step": (joint, None),
        "two calls a step": (split, None),
        "one call, 4 of 20 steps": (joint, (whole,)),
        "two calls, 4 of 20 steps": (split, (whole, whole)),
        "two calls, 3 unconditional and 5 conditional": (split, (outer[::2], outer)),
    }
    runs: dict[str, Run] = {}
    shares: dict[str, float] = {}
    for name, (loop, kept) in plans.items():
        table = keep_table(LoopCost.of(loop), kept or (tuple(range(steps)),) * loop.facts.halves)
        plan = Plan.from_keep(loop, torch.tensor(table), "linear")
        runs[name] = partial(build(loop, plan), subject.sample, **conditioning)
        shares[name] = 1 - plan.ratio
    seconds = interleaved(runs, repeats)
    base = next(iter(runs))
    return [wall_row(subject.name, steps, name, seconds, shares[name], base) for name in runs]


def wall_row(
    model: str,
    steps: int,
    name: str,
    seconds: dict[str, list[float]],
    share: float,
    base: str = "eager loop",
) -> Row:
    """Return one line: `seconds` by run and round, `share` of MACs that run `name` keeps."""
    pairs = zip(seconds[base], seconds[name], strict=True)
    speed_up = median(plain / own for plain, own in pairs)
    return {
        "model": model,
        "steps": steps,
        "loop": name,
        "share of MACs": round(share, 4),
        "median s": round(median(seconds[name]), 4),
        "fastest s": round(min(seconds[name]), 4),
        "speed-up": round(speed_up, 3),
        "ideal": round(1 / share, 3),
        "efficiency": round(speed_up * share, 3),
    }


def trace_rows(repeats: int) -> list[Row]:
    """Time tracing the paper's largest loops on the meta device."""
    rows = []
    for name in TRACED:
        setting = SETTINGS[name]
        model, scheduler = setting.build(), setting.scheduler()
        seconds, processor, loop = [], [], None
        for _ in tqdm(range(repeats), desc=f"trace {name}", leave=False):
            start, busy = time.perf_counter(), time.process_time()
            loop = trace(model, scheduler, setting.steps)
            seconds.append(time.perf_counter() - start)
            processor.append(time.process_time() - busy)
        assert loop is not None
        rows.append(
            {
                "model": setting.name,
                "steps": setting.steps,
                "nodes": len(loop.graph.nodes),
                "median s": round(median(seconds), 2),
                "fastest s": round(min(seconds), 2),
                "median CPU s": round(median(processor), 2),
                "asked s": TRACE_SECONDS,
            }
        )
    return rows


def import_rows(repeats: int) -> list[Row]:
    """Time imports in fresh interpreters, interleaved."""

    def imported(name: str) -> float:
        command = [sys.executable, "-W", "ignore", "-c", IMPORT_TIMER.format(name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])

    seconds: dict[str, list[float]] = {name: [] for name in IMPORTED}
    for number in tqdm(range(repeats + 1), desc="import", leave=False):
        for name in IMPORTED:
            once = imported(name)
            if number:
                seconds[name].append(once)
    return [
        {"import": name, "median s": round(median(s), 2), "fastest s": round(min(s), 2)}
        for name, s in seconds.items()
    ]


def wall_tables(options: argparse.Namespace) -> list[Table]:
    """Return one table a model."""
    note = (
        f"Random weights (seed {options.seed}), one sample, DDIM, median of {options.repeats} "
        "interleaved rounds. `ideal` = 1 / share of MACs; `efficiency` = speed-up / ideal. Asked: "
        "the traced loop no slower than the eager one; 4.5 of the ideal 5.0 at ratio 0.8."
    )
    return by_model(options, "wall", "Wall time", wall_rows, note)


def guidance_tables(options: argparse.Namespace) -> list[Table]:
    """Return one table a model."""
    note = (
        f"Random weights (seed {options.seed}), one sample, guidance 2, DDIM, median of {options.repeats} "
        "interleaved rounds, against the unpruned loop of one call a step on twice the rows."
    )
    return by_model(options, "guidance", "Guidance in one call or two", guidance_rows, note)


def by_model(
    options: argparse.Namespace,
    part: str,
    title: str,
    measured: Callable[[Subject, int, int], list[Row]],
    note: str,
) -> list[Table]:
    """Measure both models of random weights, a table each."""
    tables = []
    for name, make in (("dit", random_dit), ("unet", random_unet)):
        torch.manual_seed(options.seed)
        subject = make()
        rows = measured(subject, options.steps, options.repeats)
        tables.append(Table(f"{part}-{name}", f"{title}: {subject.name}", rows, note))
    return tables


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=8, help="rounds of wall time, even")
    parser.add_argument("--traces", type=int, default=3, help="traces a model")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    """Measure the asked parts and write the tables."""
    options = arguments()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    tables: list[Table] = []
    if "trace" in options.parts:
        tables.append(Table("trace", "Tracing on the meta device", trace_rows(options.traces)))
    if "wall" in options.parts:
        tables += wall_tables(options)
    if "guidance" in options.parts:
        tables += guidance_tables(options)
    if "import" in options.parts:
        tables.append(Table("import", "Importing, fresh processes", import_rows(options.traces)))
    print(write("speed", "Speed", tables, options.out))


if __name__ == "__main__":
    main()
