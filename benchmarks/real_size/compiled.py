"""What compiling the denoiser and pruned loops takes and gains, each from a cold start.

Whatever dynamo and inductor remember is thrown away in between, so these runs are not in turns with others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
import torch._inductor.config
from torch import nn
from torch._dynamo.utils import clear_compilation_metrics, counters, get_compilation_metrics

from benchmarks.speed.clocks import CLOCKS, Clock, Run
from benchmarks.tables import Row
from dipgo_fx import Loop, Plan
from dipgo_fx.applying import build

from .contestants import EVERY, tail_plan, whole_plan
from .rows import speed_row
from .speed import about_rows, metered, timed, told
from .subjects import Size, Subject

CUDA_GRAPHS = "reduce-overhead"
RECORDED = 2  # runs after the first until CUDA graphs are recorded: they are warmed up before


@dataclass(frozen=True)
class Way:
    """A loop that is compiled.

    Attributes:
        method: its name.
        start: gives what runs, its share of MACs, and a context in which it is compiled.
        asked: share of MACs it was to remove.
    """

    method: str
    start: Callable[[], tuple[Run, float, AbstractContextManager[None]]]
    asked: float | None = None


def ways(subject: Subject, **options: Any) -> Iterator[Way]:
    """Yield the eager loop with a compiled denoiser, which the others are compared with, and pruned loops."""
    ending = ", CUDA graphs" if options.get("mode") == CUDA_GRAPHS else ""
    yield Way(f"{'eager loop, model.compile()'}{ending}", partial(_eager, subject, options))
    whole = partial(_pruned, subject, partial(whole_plan, ratio=0.8), options)
    yield Way(f"whole steps, loop.compile(){ending}", whole, 0.8)
    tail = partial(_pruned, subject, tail_plan, options)
    yield Way(f"1 of {EVERY} whole, else the last quarter of the blocks, loop.compile(){ending}", tail)


@torch.no_grad()
def compile_rows(subject: Subject, size: Size, options: argparse.Namespace) -> Iterator[list[Row]]:
    """Measure compiled loops, with CUDA graphs too where there are any; yield the rows so far of a mode."""
    is_cuda = torch.device(options.device).type == "cuda"
    with torch._inductor.config.patch(force_disable_caches=True):
        for mode in ({}, {"mode": CUDA_GRAPHS}) if is_cuda else ({},):
            yield from _of_mode(list(ways(subject, **mode)), subject, size, options)


def _of_mode(
    ways: list[Way], subject: Subject, size: Size, options: argparse.Namespace
) -> Iterator[list[Row]]:
    about, seconds, rows = about_rows(subject, size, options), dict[str, list[float]](), list[Row]()
    for way in ways:
        try:
            cells, seconds[way.method], kept = cold(
                way, size.rounds, torch.device(options.device), CLOCKS[options.clock]
            )
            cells |= {"macs_kept": kept, **timed(seconds[way.method], seconds.get(ways[0].method), kept)}
        except Exception as error:  # whatever a compiler raises
            cells = {"error": told(error)}
        rows.append(speed_row(**about, method=way.method, ratio_asked=way.asked, **cells))
        yield rows


def cold(
    way: Way, rounds: int, device: torch.device, clock: Clock
) -> tuple[dict[str, Any], list[float], float]:
    """Compile from a cold start; return cells, the seconds of later runs, and the share of MACs."""
    torch._dynamo.reset()
    counters.clear()
    clear_compilation_metrics()
    run, kept, compiling = way.start()
    expected = run()
    with compiling:
        start, runs = time.perf_counter(), 1 + (RECORDED if device.type == "cuda" else 0)
        *_, result = (run() for _ in range(runs))
        if device.type == "cuda":
            torch.cuda.synchronize()
        first = time.perf_counter() - start
        difference = float((result - expected).abs().max())
        seconds = [clock(run) for _ in range(rounds)]
        _, peak = metered(run, device) if device.type == "cuda" else (None, None)
    cells = {
        "compile_seconds": round(first - runs * median(seconds), 2),
        "graph_breaks": sum(counters["graph_break"].values()),
        "recompiles": sum(each.recompile_reason is not None for each in get_compilation_metrics()),
        "max_abs_diff": difference,
        "peak_bytes": peak,
    }
    return cells, seconds, kept


def _eager(subject: Subject, options: dict[str, Any]) -> tuple[Run, float, AbstractContextManager[None]]:
    return subject.eager, 1.0, _compiled_in_place(subject.model, options)


def _pruned(
    subject: Subject, plan: Callable[[Loop], Plan], options: dict[str, Any]
) -> tuple[Run, float, AbstractContextManager[None]]:
    loop = build(subject.loop, plan(subject.loop))

    @contextmanager
    def compiled() -> Iterator[None]:
        loop.compile(**options)
        yield

    return partial(loop, **subject.inputs), 1 - loop.plan.ratio, compiled()


@contextmanager
def _compiled_in_place(model: nn.Module, options: dict[str, Any]) -> Iterator[None]:
    """Compile a model in place, and undo it."""
    model.compile(**options)
    try:
        yield
    finally:
        model._compiled_call_impl = None
