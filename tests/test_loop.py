"""A loop as an object: what a call keeps, copies, casts and files."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

import zoo
from dipgo_fx.applying import PrunedLoop, build
from dipgo_fx.loop import Loop
from dipgo_fx.macs import count_macs
from dipgo_fx.passes import InsertGates, split_steps
from dipgo_fx.plan import Plan
from loops import inputs, loop, run

KEYS = (
    ("dit", "ddpm"),
    ("unet", "pndm"),
    ("unet-text", "unipc", "block", 2.0, 5, True),
    ("pixart", "dpm++", "branch", 3.0),
)
keys = pytest.mark.parametrize("key", KEYS, ids=str)


@cache
def pruned(key: tuple[Any, ...], fold: bool = True) -> PrunedLoop:
    """Return a loop with half of its gates closed, its time embeddings folded."""
    graph = loop(*key)
    keep = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[1::2, ::2] = False
    return build(graph, Plan.from_keep(graph, keep, "linear"), fold=fold)


def given(key: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return inputs of a loop."""
    return inputs(key[0], 2, key[3] if len(key) > 3 else None)


def pickled(graph: Loop) -> Loop:
    """Return what comes back from a pickle."""
    back: Loop = pickle.loads(pickle.dumps(graph))
    return back


def saved(graph: Loop) -> Loop:
    """Return what comes back from a file of torch."""
    file = io.BytesIO()
    torch.save(graph, file)
    file.seek(0)
    back: Loop = torch.load(file, weights_only=False)
    return back


# -- gradients


def saved_tensors(call: Callable[[], torch.Tensor]) -> tuple[int, torch.Tensor]:
    """Return how many tensors a call keeps for a backward pass, and its result."""
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = call()
    return len(kept), result


@keys
def test_a_call_keeps_no_activations(key: tuple[Any, ...]) -> None:
    """Though its parameters require gradients, a loop records none, traced or pruned, unless asked."""
    x, c = given(key)
    for graph in (loop(*key), pruned(key)):
        assert any(parameter.requires_grad for parameter in graph.parameters())
        count, result = saved_tensors(lambda graph=graph: graph(x, **c, generator=zoo.generator(3)))
        assert count == 0
        assert not result.requires_grad
    asked = copy.deepcopy(pruned(key))
    asked.records_gradients = True
    count, recorded = saved_tensors(lambda: asked(x, **c, generator=zoo.generator(3)))
    assert count > asked.num_steps
    assert recorded.requires_grad
    assert torch.equal(recorded.detach(), result)


def test_a_supernet_records_by_itself() -> None:
    """Its gates are there to be learned."""
    gated: Any = InsertGates()(loop("dit")).graph_module
    x, c = inputs("dit", 2)
    gates = torch.ones(gated.num_steps, len(gated.blocks), requires_grad=True)
    gated(x, **c, gates=gates).sum().backward()
    assert gates.grad is not None
    assert not loop("dit").records_gradients


# -- copies


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, pickled, saved])
@keys
def test_a_copy_is_the_loop(key: tuple[Any, ...], copied: Callable[[Loop], Loop]) -> None:
    """Copied, pickled or saved: the same graph with its tags, plan, report, weights and bits."""
    graph, (x, c) = pruned(key), given(key)
    twin = copied(graph)
    assert isinstance(twin, PrunedLoop)
    assert twin.code == graph.code
    assert [node.meta["custom"] for node in twin.graph.nodes] == [n.meta["custom"] for n in graph.graph.nodes]
    assert (twin.plan, twin.report, twin.facts) == (graph.plan, graph.report, graph.facts)
    assert list(twin.state_dict()) == list(graph.state_dict())
    assert torch.equal(run(twin, x, c), run(graph, x, c))
    assert count_macs(twin) == count_macs(graph)
    twin.graph.lint()
    assert torch.equal(run(split_steps(twin), x, c), run(graph, x, c))


def test_a_copy_has_weights_of_its_own() -> None:
    """Editing a deep copy leaves the model as it is."""
    graph, (x, c) = pruned(KEYS[0]), given(KEYS[0])
    before = run(graph, x, c)
    twin = copy.deepcopy(graph)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(2)
    assert not torch.equal(run(twin, x, c), before)
    assert torch.equal(run(graph, x, c), before)


@pytest.mark.parametrize("fold", [False, True], ids=["plain", "folded"])
@pytest.mark.parametrize("key", KEYS[1:], ids=str)
def test_a_copy_may_be_cast(key: tuple[Any, ...], fold: bool) -> None:
    """In double precision a loop computes the same up to single precision, and returns doubles."""
    graph, (x, c) = pruned(key, fold), given(key)
    twin = copy.deepcopy(graph).double()
    c = {name: value.double() if value.is_floating_point() else value for name, value in c.items()}
    result = run(twin, x.double(), c)
    assert result.dtype == torch.float64
    torch.testing.assert_close(result.float(), run(graph, *given(key)), rtol=1e-3, atol=1e-3)


@keys
def test_a_traced_loop_can_be_copied_and_pruned(key: tuple[Any, ...]) -> None:
    """The copy of a traced loop is as good as the loop."""
    graph, (x, c) = pickled(copy.deepcopy(loop(*key))), given(key)
    plan = pruned(key).plan
    assert torch.equal(run(build(graph, plan, fold=True), x, c), run(pruned(key), x, c))
