"""Seconds before anything runs: tracing the paper's largest loops, importing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from tqdm import tqdm

from benchmarks.architectures import SETTINGS, Setting
from benchmarks.tables import Row
from dipgo_fx import trace

TRACED = ("sd15", "dit")
TRACE_SECONDS = 5.0
IMPORTED = ("torch", "diffusers", "dipgo_fx")
# A fresh interpreter times its own import, so starting Python is not part of it.
IMPORT_TIMER = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def trace_rows(repeats: int, steps: int | None) -> list[Row]:
    """Time tracing on the meta device, at the paper's numbers of steps or others."""
    settings = (SETTINGS[name] for name in TRACED)
    return [trace_row(replace(each, steps=steps or each.steps), repeats) for each in settings]


def trace_row(setting: Setting, repeats: int) -> Row:
    """Time tracing one model."""
    model, scheduler = setting.build(), setting.scheduler()
    seconds, processor, nodes = [], [], 0
    for _ in tqdm(range(repeats), desc=f"trace {setting.name}", leave=False):
        start, busy = time.perf_counter(), time.process_time()
        loop = trace(model, scheduler, setting.steps)
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
