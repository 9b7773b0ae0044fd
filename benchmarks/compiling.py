"""Seconds until a compiled loop first runs, and then for each run: whole, by shared calls, block by block.

Every way starts cold: neither dynamo nor inductor remembers anything of the one before. The plain denoiser is
the yardstick: what a user waits for who compiles no more than the model.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from statistics import median
from typing import Any

import diffusers as d
import torch
import torch._inductor.config
from torch._dynamo.utils import counters

import dipgo_fx
from benchmarks.command_line import CommandLine
from benchmarks.speed.subjects import SMALL, SUBJECTS, Size, Subject
from benchmarks.tables import Row, Table, write
from dipgo_fx import Loop, Plan
from dipgo_fx.applying import build

MEDIUM = Size(side=16, layers=12, heads=6, channels=(64, 128, 128))
"""As many layers as the models whose speed is measured, on fewer tokens: compiling hangs on layers."""
SMOKE = {"models": ["dit"], "loops": ["4:2"], "whole": [], "rounds": 1}
PLAIN, WHOLE, SHARED, BLOCKS = (
    "denoiser, `torch.compile(model)`",
    "loop, `torch.compile(loop)`",
    "loop, `loop.compile()`",
    "loop, its blocks `block.compile()`",
)
NOTE = (
    "`compile s`: first call, less one later; `of plain`: over that of the plain denoiser; `run s`: median "
    "of later runs, and `uncompiled s` that of the same loop as it is; `graphs`: what was compiled."
)


def subnet(subject: Subject, steps: int, runs: int, kept: int) -> Loop:
    """Return the loop in which `runs` steps run whole, and the last `kept` blocks at all others."""
    loop = dipgo_fx.trace(subject.model, d.DDIMScheduler(), steps)
    keep = torch.zeros(loop.num_steps, len(loop.blocks), dtype=torch.bool)
    keep[:: max(1, steps // runs)] = True
    if kept:
        keep[:, -kept:] = True
    return build(loop, Plan.from_keep(loop, keep, "linear"))


def measured(subject: Subject, way: str, loop: Loop | None, rounds: int) -> Row:
    """Return the cells of one way, cold; without a loop of the denoiser alone."""
    torch._dynamo.reset()
    counters.clear()
    run = _denoiser(subject) if loop is None else partial(loop, subject.sample, **subject.conditioning)
    expected, uncompiled = run(), _median(run, rounds)
    with ExitStack() as stack:
        if loop is None:
            run = torch.compile(run)
        elif way == WHOLE:
            run = partial(torch.compile(loop, fullgraph=True), subject.sample, **subject.conditioning)
        elif way == SHARED:
            loop.compile()
        else:
            stack.enter_context(compiled_blocks(subject, loop))
        start = time.perf_counter()
        result = run()
        first = time.perf_counter() - start
        seconds = _median(run, rounds)
    return {
        "run s": round(seconds, 4),
        "uncompiled s": round(uncompiled, 4),
        "compile s": round(first - seconds, 1),
        "graphs": counters["stats"]["unique_graphs"],
        "graph breaks": sum(counters["graph_break"].values()),
        "max rel diff": float(f"{float((result - expected).abs().max() / expected.abs().max()):.1e}"),
    }


def _denoiser(subject: Subject) -> Callable[[], torch.Tensor]:
    timestep = torch.full((len(subject.sample),), 500)

    def run() -> torch.Tensor:
        result: torch.Tensor = subject.model(
            subject.sample, timestep=timestep, **subject.conditioning, return_dict=False
        )[0]
        return result

    return run


@contextmanager
def compiled_blocks(subject: Subject, loop: Loop) -> Iterator[None]:
    """Compile the blocks of a loop in place, but for its head, which is a single layer."""
    blocks = [subject.model.get_submodule(path) for path in loop.blocks]
    blocks = [block for block in blocks if any(True for _ in block.children())]
    for block in blocks:
        block.compile(fullgraph=True)
    try:
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None


def _median(run: Callable[[], Any], rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def rows(subject: Subject, loops: Sequence[str], whole: Sequence[str], rounds: int) -> Iterator[Row]:
    """Yield a row a way and loop; a loop is given as `steps:runs` or `steps:runs:kept blocks`."""
    torch.compile(torch.sin)(torch.ones(1))  # what the compiler does once a process
    plain = measured(subject, PLAIN, None, rounds)
    about = {"model": subject.name, "steps": 1, "whole steps": 1, "blocks at others": 0}
    yield {**about, "way": PLAIN, **plain, "of plain": 1.0}
    for text in loops:
        steps, runs, *kept = map(int, text.split(":"))
        for way in (SHARED, BLOCKS, *([WHOLE] if text in whole else [])):
            loop = subnet(subject, steps, runs, *kept or [0])
            about = {
                "model": subject.name,
                "steps": steps,
                "whole steps": runs,
                "blocks at others": sum(kept),
            }
            found = measured(subject, way, loop, rounds)
            yield {
                **about,
                "way": way,
                **found,
                "of plain": round(float(found["compile s"]) / max(float(plain["compile s"]), 0.1), 2),
            }


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    """Measure both models and write the tables."""
    made = CommandLine(__doc__, SMOKE)
    made.add_models(list(SUBJECTS))
    made.add_argument("--loops", nargs="+", default=["20:4", "20:10", "50:10", "10:2:2"])
    made.add_argument(
        "--whole", nargs="*", default=["20:4", "20:10"], help="loops also compiled as one graph"
    )
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--seed", type=int, default=0)
    options = made.read(argv)
    warnings.filterwarnings("ignore", "dynamo_pgo force disabled", UserWarning)
    tables = []
    with torch._inductor.config.patch(force_disable_caches=True):
        for name in options.models:
            torch.manual_seed(options.seed)
            subject = SUBJECTS[name](SMALL if options.smoke else MEDIUM)
            found = list(rows(subject, options.loops, options.whole, options.rounds))
            tables.append(Table(f"Compiling: {subject.name}", found, NOTE, name))
    print(write("compiling", "Compiling", tables, options.out))


if __name__ == "__main__":
    main()
