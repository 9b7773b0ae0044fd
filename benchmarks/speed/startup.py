"""Seconds before anything runs: tracing large loops, and loops of ever more steps, and importing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from diffusers import EulerDiscreteScheduler
from tqdm import tqdm

from benchmarks.architectures import ARCHITECTURES, Setting, example_inputs
from benchmarks.tables import Row
from dipgo_fx import trace

TRACED = {"sd15": 50, "dit": 250, "sdxl": 50, "flux": 50}
"""Models, and steps of their loops."""
SCHEDULERS = {"sdxl": EulerDiscreteScheduler}
"""Where it is not the one of the paper's table."""
LINEAR = ("dit", (50, 100, 250, 1000))
"""The model and the step counts that tell how tracing grows."""
TRACE_SECONDS = 5.0
IMPORTED = ("torch", "diffusers", "dipgo_fx")
# A fresh interpreter times its own import, so starting Python is not part of it.
IMPORT_TIMER = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def trace_rows(repeats: int, steps: int | None) -> list[Row]:
    """Time tracing on the meta device, at the steps of `TRACED` or others."""
    settings = (
        replace(
            ARCHITECTURES[name],
            steps=steps or own,
            scheduler=SCHEDULERS.get(name, ARCHITECTURES[name].scheduler),
        )
        for name, own in TRACED.items()
    )
    return [trace_row(setting, repeats) for setting in settings]


def growth_rows(repeats: int, steps: int | None) -> list[Row]:
    """Time tracing one model at ever more steps, or at so many and twice as many."""
    name, counts = LINEAR
    wanted = (steps, 2 * steps) if steps else counts
    rows = [trace_row(replace(ARCHITECTURES[name], steps=count), repeats) for count in wanted]
    return [{key: cell for key, cell in row.items() if key != "asked s"} for row in rows]


def trace_row(setting: Setting, repeats: int) -> Row:
    """Time tracing one model, as a user traces it who gives examples of its inputs."""
    model, scheduler = setting.build(), setting.scheduler()
    conditioning = example_inputs(model)
    sample = conditioning.pop("sample")
    seconds, processor, nodes = [], [], 0
    for _ in tqdm(range(repeats), desc=f"trace {setting.name}", leave=False):
        start, busy = time.perf_counter(), time.process_time()
        loop = trace(model, scheduler, setting.steps, sample=sample, conditioning=conditioning)
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - busy)
        nodes = len(loop.graph.nodes)
    return {
        "model": setting.name,
        "steps": setting.steps,
        "nodes": nodes,
        "median s": round(median(seconds), 2),
        "fastest s": round(min(seconds), 2),
        "median CPU s": round(median(processor), 2),
        "asked s": TRACE_SECONDS,
    }


def import_rows(repeats: int, names: Sequence[str] = IMPORTED) -> list[Row]:
    """Time imports in fresh interpreters, interleaved; a first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in tqdm(range(repeats + 1), desc="import", leave=False):
        for name in names:
            once = _imported(name)
            if number:
                seconds[name].append(once)
    return [
        {"import": name, "median s": round(median(s), 2), "fastest s": round(min(s), 2)}
        for name, s in seconds.items()
    ]


def _imported(name: str) -> float:
    command = [sys.executable, "-W", "ignore", "-c", IMPORT_TIMER.format(name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])
