"""Traced loops that tests share, and the eager loop that skips modules, the reference for a SubNet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import cycle
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

import zoo
from dipgo_fx.cost import LoopCost
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.loop import Loop
from dipgo_fx.passes import HISTORY, Granularity, InsertGates
from dipgo_fx.passes.blocks import path_of
from dipgo_fx.plan import Plan
from dipgo_fx.tracing import trace

STEPS = 5


@cache
def loop(
    model: str,
    scheduler: str = "ddim",
    granularity: Granularity = "block",
    guidance_scale: float | None = None,
    steps: int = STEPS,
    split_guidance: bool = False,
) -> Loop:
    """Return the traced loop of a zoo model; the same one at every call, so never edit it."""
    return trace(
        zoo.model(model),
        zoo.SCHEDULERS[scheduler](),
        steps,
        guidance_scale=guidance_scale,
        split_guidance=split_guidance,
        granularity=granularity,
    )


@cache
def cost(*key: Any) -> LoopCost:
    """Return the costs of `loop(*key)`."""
    return LoopCost.of(loop(*key))


@cache
def supernet(history: int, *key: Any) -> Loop:
    """Return the SuperNet of `loop(*key)`."""
    gated: Any = InsertGates(history)(loop(*key)).graph_module
    return gated


def inputs(model: str, batch: int, guidance_scale: float | None = None) -> tuple[Any, Any]:
    """Return noise for `batch` samples and the conditioning that belongs to it."""
    rows = batch if guidance_scale is None else 2 * batch
    return zoo.sample(model, batch), zoo.conditioning(model, rows)


@torch.no_grad()
def run(graph: nn.Module, x: torch.Tensor, conditioning: Any, **tables: torch.Tensor) -> Any:
    """Run a loop with the generator that `zoo.eager` takes too."""
    return graph(x, **conditioning, **tables, generator=zoo.generator(3))


def scattered(shape: tuple[int, int], history: int, seed: int) -> torch.Tensor:
    """Return a `(*shape, 3)` float64 table of weights as a search may learn them.

    Weights of any sign on the first `history` values, zeros in places, some entries that read one value as
    it is, a few that read nothing.
    """
    generator = zoo.generator(seed)
    weights = 3.5 * torch.rand((*shape, HISTORY), generator=generator, dtype=torch.float64) - 0.5
    weights[torch.rand(weights.shape, generator=generator) < 0.3] = 0
    alone = torch.nn.functional.one_hot(torch.randint(history, shape, generator=generator), HISTORY)
    weights = torch.where(torch.rand((*shape, 1), generator=generator) < 0.2, alone.double(), weights)
    weights[..., history:] = 0
    return weights


def calls(graph: Any) -> set[tuple[str, int]]:
    """Return (block, step) of every block that a graph calls."""
    custom = [n.meta["custom"] for n in graph.graph.nodes if n.op == "call_module"]
    return {(c["block"], c["step"]) for c in custom if c["block"] is not None}


class Skipped:
    """Stands in for `forward` of the plan's blocks: which step it is, and how often each was called.

    Where the plan keeps a block, its module is called. Where it does not, the module is not called
    and its readers get the weighted sum of the values that it returned when it was last kept, newest
    first; the first of all stands in where there are too few. A lone weight of 1 is the value itself.
    """

    def __init__(self, plan: Plan) -> None:
        self.step = 0
        self.calls: Counter[str] = Counter()
        self._plan = plan

    def start_step(self, step: int, sample: torch.Tensor) -> None:
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
            past = [*reversed(kept), *[kept[0]] * HISTORY][:HISTORY]
            weights = self._plan.weights[self.step, block].tolist()
            return pytree.tree_map(
                lambda *values: (
                    _weighted(values, weights) if isinstance(values[0], torch.Tensor) else values[0]
                ),
                *past,
            )

        return stand_in


def _weighted(values: Sequence[Any], weights: Sequence[float]) -> Any:
    """Sum up what has a weight, in the order of the values; what is no tensor is the same at every step."""
    if not isinstance(values[0], torch.Tensor):
        return values[0]
    read = [(value, weight) for value, weight in zip(values, weights, strict=True) if weight != 0]
    if not read:
        return torch.mul(values[0], 0.0)
    (first, weight), *rest = read
    if weight == 1 and not rest:
        return first.clone()
    result = torch.mul(first, weight)
    for value, weight in rest:
        result = torch.add(result, value, alpha=weight)
    return result


def _copy(value: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, torch.clone, value)


@contextmanager
def skipping(model: nn.Module, plan: Plan) -> Iterator[Skipped]:
    """Let `model` skip the blocks that a plan does not keep; it is as before afterwards."""
    skipped = Skipped(plan)
    columns: dict[nn.Module, list[int]] = {}  # where guidance is split, a module is two blocks
    for index, name in enumerate(plan.blocks):
        columns.setdefault(model.get_submodule(path_of(name)), []).append(index)
    for module, own in columns.items():
        module.forward = _in_turn([skipped.forward_of(index, module.forward) for index in own])  # type: ignore[method-assign]
    try:
        yield skipped
    finally:
        for module in columns:
            del module.forward


def _in_turn(functions: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    turns = cycle(functions)
    return lambda *args, **kwargs: next(turns)(*args, **kwargs)


@torch.no_grad()
def eager_with_plan(
    model: nn.Module,
    scheduler: Any,
    plan: Plan,
    x: torch.Tensor,
    conditioning: Any,
    shared: Sequence[str] = (),
) -> tuple[torch.Tensor, Counter[str]]:
    """Run the plain loop under a plan; return its result and how often each block was called."""
    with skipping(model, plan) as skipped:
        result = denoise(
            model,
            prepared(scheduler, plan.facts.num_inference_steps),
            x,
            conditioning,
            plan.facts.guidance,
            shared=shared,
            generator=zoo.generator(3),
            on_step=skipped.start_step,
        )
    return result, skipped.calls
