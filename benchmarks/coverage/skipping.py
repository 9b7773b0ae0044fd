"""A pipeline whose blocks are skipped by hand: the reference for an enabled plan knows nothing of graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn
from torch.utils import _pytree as pytree

from dipgo_fx import Plan
from dipgo_fx.loop import LoopFacts
from dipgo_fx.passes import GateTable
from dipgo_fx.passes.blocks import path_of
from dipgo_fx.passes.call_recorder import CallGraph, record_call
from dipgo_fx.passes.forward_slot import ForwardSlot
from dipgo_fx.passes.gate_table import last_kept, terms
from dipgo_fx.pipelines.call_arguments import CallArguments
from dipgo_fx.pipelines.denoiser import denoisers

Run = Callable[[DiffusionPipeline], torch.Tensor]


def calls_of(pipe: DiffusionPipeline, run: Run, model: nn.Module | None = None) -> list[CallArguments]:
    """Return the arguments of all calls of a denoiser, the first if `None`, in a run of its pipeline."""
    model = denoisers(pipe)[0] if model is None else model
    slot, own, calls = ForwardSlot(model), type(model).forward, list[CallArguments]()

    def noting(*args: Any, **kwargs: Any) -> Any:
        calls.append(CallArguments.of(model, args, kwargs))
        return own(model, *args, **kwargs)

    slot.put(noting)
    try:
        run(pipe)
    finally:
        slot.restore()
    return calls


def recorded(pipe: DiffusionPipeline, run: Run) -> tuple[CallGraph, LoopFacts]:
    """Return the graph of a pipeline's first call of its denoiser, and facts that a plan for it has."""
    model, first = denoisers(pipe)[0], calls_of(pipe, run)[0]
    with torch.no_grad():
        call = record_call(model, "block", first.named)
    facts = LoopFacts(
        model=type(model).__name__,
        scheduler=type(pipe.scheduler).__name__,
        num_inference_steps=len(pipe.scheduler.timesteps),
        timesteps=tuple(float(t) for t in pipe.scheduler.timesteps),
        blocks=call.blocks,
        granularity="block",
    )
    return call, facts


def random_plan(facts: LoopFacts, open_share: float, seed: int, backup: Any = "linear") -> Plan:
    """Return a plan with this share of gates open."""
    shape = len(facts.timesteps), len(facts.blocks)
    keep = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < open_share
    keep[0] = True
    return Plan(facts, GateTable.of(keep, backup), 0.0)


@contextmanager
def skipping(model: nn.Module, plan: Plan, calls_per_step: int = 1, start: int = 0) -> Iterator[None]:
    """Let a model's blocks return what a plan says, by hand: all is computed, not all of it is used.

    Args:
        model: the denoiser.
        plan: has one call of the model a step, or one table for all of them.
        calls_per_step: how often a pipeline calls the model at a step.
        start: the first step that runs, whole.
    """
    keep = plan.keep[start:].clone()
    keep[0] = True
    table = GateTable(keep, plan.weights[start:])
    past = last_kept(table.keep_rows)
    patched = []
    for n, name in enumerate(plan.blocks):
        module = model.get_submodule(path_of(name))
        patched.append(module)
        module.forward = _Skipped(module.forward, table, past, n, calls_per_step)
    try:
        yield
    finally:
        for module in patched:
            del module.__dict__["forward"]


class _Skipped:
    """A block's forward that returns a forecast where its gate is closed."""

    def __init__(
        self, own: Callable[..., Any], table: GateTable, past: list[Any], block: int, calls_per_step: int
    ) -> None:
        self.own, self.table, self.past, self.block = own, table, past, block
        self.calls_per_step, self.count = calls_per_step, 0
        self.computed: dict[tuple[int, int], Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        step, call = divmod(self.count, self.calls_per_step)
        self.count += 1
        fresh = self.own(*args, **kwargs)
        if step == 0 or self.table.keep_rows[step][self.block]:
            # A copy: ControlNet-XS edits what its blocks return.
            self.computed[step, call] = pytree.tree_map_only(torch.Tensor, torch.clone, fresh)
            return fresh
        used = terms(self.table.weight_rows[step][self.block], 3)
        values = [(self.computed[self.past[step][self.block][k], call], weight) for k, weight in used]
        return pytree.tree_map(
            lambda *parts: _forecast(parts, [w for _, w in values]), *(v for v, _ in values)
        )


def _forecast(values: tuple[Any, ...], weights: list[float]) -> Any:
    if not isinstance(values[0], torch.Tensor) or (len(values) == 1 and weights[0] == 1):
        return values[0].clone() if isinstance(values[0], torch.Tensor) else values[0]
    result = torch.mul(values[0], weights[0])
    for value, weight in zip(values[1:], weights[1:], strict=True):
        result = torch.add(result, value, alpha=weight)
    return result
