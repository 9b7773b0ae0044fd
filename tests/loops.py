"""Traced loops that tests share, and the eager loop that skips modules, the reference for a SubNet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

import zoo
from dipgo_fx.loop import denoise, prepared
from dipgo_fx.macs import LoopCost
from dipgo_fx.passes import Backup, Granularity, InsertGates
from dipgo_fx.plan import Plan
from dipgo_fx.tracing import Loop, trace

STEPS = 5


@cache
def loop(
    model: str,
    scheduler: str = "ddim",
    granularity: Granularity = "block",
    guidance_scale: float | None = None,
    steps: int = STEPS,
) -> Loop:
    """Return the traced loop of a zoo model; the same one at every call, so never edit it."""
    return trace(
        zoo.model(model),
        zoo.SCHEDULERS[scheduler](),
        steps,
        guidance_scale=guidance_scale,
        granularity=granularity,
    )


@cache
def cost(*key: Any) -> LoopCost:
    """Return the costs of `loop(*key)`."""
    return LoopCost.of(loop(*key))


@cache
def supernet(backup: Backup, *key: Any) -> Loop:
    """Return the SuperNet of `loop(*key)`."""
    gated: Any = InsertGates(backup)(loop(*key)).graph_module
    return gated


def inputs(model: str, batch: int, guidance_scale: float | None = None) -> tuple[Any, Any]:
    """Return noise for `batch` samples and the conditioning that belongs to it."""
    rows = batch if guidance_scale is None else 2 * batch
    return zoo.sample(model, batch), zoo.conditioning(model, rows)


@torch.no_grad()
def run(graph: nn.Module, x: torch.Tensor, conditioning: Any, **tables: torch.Tensor) -> Any:
    """Run a loop with the generator that `zoo.eager` takes too."""
    return graph(x, **conditioning, **tables, generator=zoo.generator(3))


def calls(graph: Any) -> set[tuple[str, int]]:
    """Return (block, step) of every block that a graph calls."""
    custom = [n.meta["custom"] for n in graph.graph.nodes if n.op == "call_module"]
    return {(c["block"], c["step"]) for c in custom if c["block"] is not None}


class Skipped:
    """Stands in for `forward` of the plan's blocks: which step it is, and how often each was called.

    Where the plan keeps a block, its module is called. Where it does not, the module is not called
    and its readers get the value it returned when it was last kept, or for a weight other than 1
    `torch.lerp` of the last two such values.
    """

    def __init__(self, plan: Plan) -> None:
        self.step = 0
        self.calls: Counter[str] = Counter()
        self._plan = plan

    def start_step(self, step: int) -> None:
        """Tell which step begins."""
        self.step = step

    def forward_of(self, block: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Return what takes the place of a block's `forward`."""
        kept: list[Any] = []  # copies: a scheduler may edit a model's output in place

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            if self._plan.keep[self.step, block]:
                self.calls[self._plan.blocks[block]] += 1
                kept.append(_copy(forward(*args, **kwargs)))
                return _copy(kept[-1])
            weight = float(self._plan.weights[self.step, block])
            if weight == 1 or len(kept) == 1:
                return _copy(kept[-1])
            return pytree.tree_map(lambda a, b: torch.lerp(a, b, weight), kept[-2], kept[-1])

        return stand_in


def _copy(value: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, torch.clone, value)


@contextmanager
def skipping(model: nn.Module, plan: Plan) -> Iterator[Skipped]:
    """Let `model` skip the blocks that a plan does not keep; it is as before afterwards."""
    skipped = Skipped(plan)
    modules = [model.get_submodule(path) for path in plan.blocks]
    for index, module in enumerate(modules):
        module.forward = skipped.forward_of(index, module.forward)  # type: ignore[method-assign]
    try:
        yield skipped
    finally:
        for module in modules:
            del module.forward


@torch.no_grad()
def eager_with_plan(
    model: nn.Module, scheduler: Any, plan: Plan, x: torch.Tensor, conditioning: Any
) -> tuple[torch.Tensor, Counter[str]]:
    """Run the plain loop under a plan; return its result and how often each block was called."""
    with skipping(model, plan) as skipped:
        result = denoise(
            model,
            prepared(scheduler, plan.facts.num_inference_steps),
            x,
            conditioning,
            guidance_scale=plan.facts.guidance_scale,
            generator=zoo.generator(3),
            on_step=skipped.start_step,
        )
    return result, skipped.calls
