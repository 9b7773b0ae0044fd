"""split-steps: one graph becomes one submodule a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import toy
from dipgo_fx.applying import build
from dipgo_fx.passes import GateTable, split_steps
from dipgo_fx.passes.tags import tag
from dipgo_fx.plan import Plan
from graphs import show, supernet
from loops import inputs, loop, run

KEYS: tuple[tuple[Any, ...], ...] = (
    ("unet", "unipc"),
    ("dit", "unipc", "block", 2.0, 5, True),
    ("dit", "ddpm"),
)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_split_steps_computes_the_same(key: tuple[Any, ...]) -> None:
    """A split loop has one submodule a step and the same result, pruned or not, guided or with noise."""
    graph = loop(*key)
    keep = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[1::2, ::2] = False
    x, c = inputs(key[0], 2, graph.facts.guidance.scale)
    for whole in (graph, build(graph, Plan(graph.facts, GateTable.of(keep, "linear"), 0.0))):
        split = split_steps(whole)
        assert [name for name, _ in split.named_children()] == [f"submod_{t}" for t in range(5)]
        assert torch.equal(run(split, x, c), run(whole, x, c))


def test_a_step_holds_the_calls_of_that_step() -> None:
    """Every submodule has the nodes that were tagged with its step, and no other."""
    split = split_steps(toy.loop(3))
    for step in range(3):
        part = split.get_submodule(f"submod_{step}")
        tagged = [tag(n, "step") for n in part.graph.nodes if n.op not in ("placeholder", "output")]
        assert set(tagged) == {step}
        assert [n.target for n in part.graph.nodes if n.op == "call_module" and tag(n, "block")] == [
            "model_layers_0",
            "model_layers_1",
        ]


def test_splitting_leaves_its_input_alone() -> None:
    """The whole graph and its weights are as they were, and shared."""
    graph = toy.loop()
    found = show(graph), graph.code, dict(graph.meta)
    split = split_steps(graph)
    assert found == (show(graph), graph.code, dict(graph.meta))
    assert {id(p) for p in split.parameters()} == {id(p) for p in graph.parameters()}
    assert split.meta["facts"] == graph.facts


@pytest.mark.parametrize("history", [1, 3])
def test_a_split_supernet_takes_its_tables(history: int) -> None:
    """Gates and weights reach the steps that read them, gradients included."""
    gated = supernet(history, 3)
    split = split_steps(gated)
    tables = {"gates": torch.full((3, 2), 0.4, requires_grad=True)}
    if history > 1:
        tables["weights"] = torch.full((3, 2, 3), 0.3, requires_grad=True)
    found = []
    for net in (gated, split):
        result = net(toy.sample(), **tables)
        found.append((result.detach(), *torch.autograd.grad(result.sum(), list(tables.values()))))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
