"""How runs are timed: by the wall, by the processor or by events of CUDA, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from tqdm import tqdm

Run = Callable[[], Any]
Clock = Callable[[Run], float]
Name = TypeVar("Name")


def wall_seconds(run: Run) -> float:
    """Return the seconds of a run on the clock on the wall."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def processor_seconds(run: Run) -> float:
    """Return the seconds that this process had a processor for a run.

    On one thread those of an idle machine's clock; on a machine that is shared, without others' work.
    """
    start = time.process_time()
    run()
    return time.process_time() - start


def event_seconds(run: Run) -> float:
    """Return the seconds between two events of CUDA around a run."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000


CLOCKS: dict[str, Clock] = {"wall": wall_seconds, "processor": processor_seconds, "events": event_seconds}


def interleaved(
    runs: Mapping[Name, Run], repeats: int, clock: Clock = wall_seconds, warm_up: bool = True
) -> dict[Name, list[float]]:
    """Return the seconds of every run by round; a first round warms up, unless all have run before."""
    seconds: dict[Name, list[float]] = {name: [] for name in runs}
    for number in tqdm(range(0 if warm_up else 1, repeats + 1), unit="round", leave=False):
        for name in list(runs)[:: 1 if number % 2 else -1]:
            once = clock(runs[name])
            if number:
                seconds[name].append(once)
    return seconds
