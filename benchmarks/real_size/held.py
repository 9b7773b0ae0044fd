"""Bytes alive at each step of a run: a pruned loop beside the unpruned one."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import fx

from benchmarks.live_bytes import Meter, meter
from benchmarks.tables import Row
from dipgo_fx import Loop, Plan
from dipgo_fx.applying import build
from dipgo_fx.passes.tags import tag

from .contestants import EVERY, tail_plan, whole_plan
from .subjects import Size, Subject

UNPRUNED = "unpruned"
STEPS_NOTE = (
    "`held`: alive when a step starts, beside weights and inputs; `peak`: most alive at once during it; "
    "`values alive`: what the pruned run holds and the unpruned one does not, when the step starts or when "
    "it ends, whichever is more; `bound`: the unpruned run's peak and the values alive."
)
NOTE = (
    "The whole loop as it is called; bytes alive beside weights and inputs, by storages on a CPU and by the "
    "allocator on a GPU. `values alive`: the most that a pruned run holds from step to step and the unpruned "
    "one does not. `within`: at no step is the peak above the unpruned run's and the values alive then."
)


@dataclass(frozen=True)
class Step:
    """Bytes alive when a step starts, and the most at once during it."""

    held: int
    peak: int


class Watch:
    """Notes at every step what a meter says; `mark` is called by the graph when a step starts."""

    def __init__(self, live: Meter) -> None:
        self.live, self.steps, self._held = live, list[Step](), 0
        self._started = False

    def mark(self) -> None:
        """End a step, if one has started, and start the next."""
        if self._started:
            self.steps.append(Step(self._held, self.live.peak))
        self._started, self._held = True, self.live.current
        self.live.restart()


@torch.no_grad()
def steps_of(loop: Loop, subject: Subject) -> list[Step]:
    """Run a loop and return what is alive at each of its steps."""
    device = subject.sample.device
    with meter(device) as live:
        watch = Watch(live)
        result = marked(loop, watch.mark)(**subject.inputs)
        watch.mark()
    del result
    return watch.steps


def marked(loop: Loop, mark: Callable[[], None]) -> fx.GraphModule:
    """Return a copy of a loop that calls `mark` when a step starts; it shares the weights."""
    graph, seen = fx.Graph(), -1
    graph.output(graph.graph_copy(loop.graph, {}))
    for node in graph.nodes:
        step = tag(node, "step")
        if node.op not in ("placeholder", "output") and step is not None and step > seen:
            with graph.inserting_before(node):
                for _ in range(step - seen):
                    graph.call_function(mark)
            seen = step
    return fx.GraphModule(loop, graph)


def held_rows(subject: Subject) -> tuple[list[Row], list[Row]]:
    """Return a summary of a plan of whole steps and of a partial one, and all steps of them."""
    plans: dict[str, Callable[[Loop], Plan]] = {
        "whole steps, 0.8": partial(whole_plan, ratio=0.8),
        f"1 of {EVERY} whole, else the last quarter of the blocks": tail_plan,
    }
    plain = steps_of(subject.loop, subject)
    every = step_rows(subject.name, UNPRUNED, plain, plain)
    summaries = []
    for name, plan in plans.items():
        loop = build(subject.loop, plan(subject.loop))
        rows = step_rows(subject.name, name, steps_of(loop, subject), plain)
        summaries.append(summary(rows, plain, 1 - loop.plan.ratio))
        every += rows
    return summaries, every


def step_rows(model: str, plan: str, steps: list[Step], plain: list[Step]) -> list[Row]:
    """Return the rows of a run by step, beside the unpruned one."""
    most = max(step.peak for step in plain)
    more = [max(0, step.held - own.held) for step, own in zip(steps, plain, strict=True)]
    alive = [max(pair) for pair in zip(more, [*more[1:], 0], strict=True)]
    return [
        {
            "model": model,
            "plan": plan,
            "step": number,
            "held": step.held,
            "peak": step.peak,
            "values alive": values,
            "bound": most + values,
        }
        for number, (step, values) in enumerate(zip(steps, alive, strict=True))
    ]


def summary(rows: list[Row], plain: list[Step], kept: float) -> Row:
    """Return the small table's row of a plan."""
    return {
        "model": rows[0]["model"],
        "plan": rows[0]["plan"],
        "macs_kept": round(kept, 4),
        "unpruned peak": max(step.peak for step in plain),
        "pruned peak": max(row["peak"] for row in rows),
        "values alive": max(row["values alive"] for row in rows),
        "within": "yes" if all(row["peak"] <= row["bound"] for row in rows) else "no",
    }


def held_subject(key: str, options: argparse.Namespace) -> Subject:
    """Return the model whose runs are watched, at the size of its own images unless told otherwise."""
    layers, steps = options.layers, options.memory_steps
    return Subject.of(key, Size(options.memory_side, layers, options.tokens, steps), options)
