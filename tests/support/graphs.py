"""Graphs of the toy loop between the passes, a printer for them, and a pass that does as it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import fx, nn

import toy
from dipgo_fx.loop import Loop
from dipgo_fx.passes import HISTORY, BindGates, GateTable, GraphPass, InsertGates
from dipgo_fx.passes.tags import tag
from dipgo_fx.tracing import trace

Keep = Sequence[Sequence[int]]
ALL_KEPT: Keep = ((1, 1), (1, 1))


def show(gm: fx.GraphModule) -> str:
    """Print a graph, one node a line: its name and what it calls on what."""
    return "".join(f"{_line(node)}\n" for node in gm.graph.nodes)


def _line(node: fx.Node) -> str:
    if node.op == "output":
        return f"return {node.args[0]}"
    if node.op in ("placeholder", "get_attr"):
        return f"{node.name} = {node.op}"
    named = node.target if isinstance(node.target, str) else cast(Any, node.target).__name__
    arguments = [str(a) for a in node.args] + [f"{k}={v}" for k, v in node.kwargs.items()]
    return f"{node.name} = {named}({', '.join(arguments)})"


def tags(gm: fx.GraphModule) -> list[dict[str, Any]]:
    """Return a copy of the tags of every node."""
    return [dict(node.meta["custom"]) for node in gm.graph.nodes]


def table(keep: Keep, forecasts: Mapping[tuple[int, int], Sequence[float]] | None = None) -> GateTable:
    """Return a gate table that repeats where it does not keep, but for weights at (step, block)."""
    repeats = GateTable.of(torch.tensor(keep, dtype=torch.bool))
    weights = repeats.weights.clone()
    for place, entry in (forecasts or {}).items():
        weights[place] = torch.tensor([*entry, *[0.0] * (HISTORY - len(entry))], dtype=torch.float64)
    return GateTable(repeats.keep, weights)


def supernet(history: int = 1, steps: int = 2) -> Loop:
    """Return the SuperNet of the toy loop."""
    return cast(Loop, InsertGates(history)(toy.loop(steps)).graph_module)


def bound(
    keep: Keep,
    forecasts: Mapping[tuple[int, int], Sequence[float]] | None = None,
    history: int | None = None,
) -> Loop:
    """Return the toy loop with gates bound, dead blocks still in it."""
    gates = table(keep, forecasts)
    gated = supernet(history or gates.history, len(keep))
    return cast(Loop, BindGates(gates)(gated).graph_module)


def forecast_at_step_2() -> Loop:
    """Return a bound loop whose first block is a forecast of two values at its last step."""
    return bound(((1, 1), (1, 1), (0, 1)), {(2, 0): (2.0, -1.0)})


class Embedded(toy.Stack):
    """A stack whose blocks see an embedding of the timestep."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(toy.WIDTH, toy.WIDTH))
        self.embed = nn.Linear(1, toy.WIDTH)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction for `(rows, WIDTH)`."""
        return super().forward(sample + self.embed(timestep[:, None].to(sample.dtype)), timestep)


def embedded(guidance_scale: float | None = None) -> Loop:
    """Return a loop with a time embedding."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Embedded()
    return trace(
        model,
        toy.Step(),
        2,
        sample=toy.sample(),
        conditioning={},
        granularity="stage",
        guidance_scale=guidance_scale,
    )


@dataclass(frozen=True)
class ToldPass(GraphPass):
    """A pass that does to a graph what it is told to, right or wrong."""

    name: ClassVar[str] = "told"
    what: Callable[[fx.GraphModule], bool]

    def rewrite(self, gm: fx.GraphModule) -> bool:
        """Do it."""
        return self.what(gm)


def first(gm: fx.GraphModule, wanted: Callable[[fx.Node], bool]) -> fx.Node:
    """Return the first node of a kind."""
    return next(node for node in gm.graph.nodes if wanted(node))


def block_call(gm: fx.GraphModule, step: int, block: int = 0) -> fx.Node:
    """Return the node that calls a block of the toy model at a step."""
    wanted = step, f"model.layers.{block}"
    return first(gm, lambda n: n.op == "call_module" and (tag(n, "step"), n.target) == wanted)


def pass_a_gate_by(gm: fx.GraphModule) -> None:
    """Let a reader of a SuperNet's first gate read the fresh value instead, which breaks a rule."""
    gate = first(gm, lambda n: tag(n, "role") == "gate")
    reader = next(n for n in gate.users if tag(n, "role") is None)
    fresh = gate.args[1]
    assert isinstance(fresh, fx.Node)
    reader.replace_input_with(gate, fresh)
