"""A graph as plain values: what goes to a pickle and comes back node by node."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

import toy
from dipgo_fx.passes import HISTORY, BindGates, DropDeadBlocks, InsertGates, Pipeline
from dipgo_fx.passes.graph_state import GraphState, NodeState, Reference, graph_of, state_of
from graphs import forecast_at_step_2, supernet
from loops import loop
from tables import gate_tables, keeps

KEYS: tuple[tuple[Any, ...], ...] = (
    ("dit", "ddpm"),
    ("unet", "pndm", "stage", 2.0),
    ("unet-text", "unipc", "block", 2.0, 5, True),
    ("pixart", "dpm++", "branch", 3.0),
)


def described(graph: fx.Graph) -> list[tuple[Any, ...]]:
    """Return all that is known of every node, its arguments as text."""
    return [
        (n.op, n.name, n.target, str(n.args), str(n.kwargs), dict(n.meta), str(n.all_input_nodes))
        for n in graph.nodes
    ]


def restored(state: GraphState) -> fx.Graph:
    """Return the graph of a state that went through a pickle."""
    back: GraphState = pickle.loads(pickle.dumps(state))
    return graph_of(back)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_loop_comes_back_node_by_node(key: tuple[Any, ...]) -> None:
    """Names, targets, arguments, readers, tags and code of a traced loop are as they were."""
    graph = loop(*key).graph
    back = restored(state_of(graph))
    assert described(back) == described(graph)
    assert back.python_code("self").src == graph.python_code("self").src
    back.lint()


@given(data=st.data(), steps=st.integers(2, 5), history=st.integers(1, HISTORY))
def test_a_subnet_comes_back_node_by_node(data: st.DataObject, steps: int, history: int) -> None:
    """So it is after passes, whose names have gaps and numbers of their own."""
    table = data.draw(gate_tables(data.draw(keeps(steps, 2)), history))
    passes = InsertGates(table.history), BindGates(table), DropDeadBlocks()
    subnet, _ = Pipeline(passes)(toy.loop(steps))
    assert described(restored(state_of(subnet.graph))) == described(subnet.graph)


def test_slices_and_nested_arguments_come_back() -> None:
    """A node is found in whatever holds it: a slice, a list, a mapping, a tuple in a tuple."""
    graph = fx.Graph()
    x, size = graph.placeholder("x"), graph.placeholder("size", default_value=2)
    part = graph.call_function(torch.Tensor.__getitem__, (x, (slice(None, size), ..., None)))
    joined = graph.call_function(torch.cat, ([part, part],), {"dim": 0})
    graph.output({"whole": (joined, (x, 1.5)), "text": "x"})
    back = restored(state_of(graph))
    assert described(back) == described(graph)
    root = nn.Module()
    run, again = fx.GraphModule(root, graph), fx.GraphModule(root, back)
    given_x = torch.arange(6.0).view(3, 2)
    assert torch.equal(again(given_x)["whole"][0], run(given_x)["whole"][0])


@pytest.mark.parametrize(
    "gm", [toy.loop(), supernet(3, 3), forecast_at_step_2()], ids=["loop", "supernet", "bound"]
)
def test_a_state_holds_no_node(gm: fx.GraphModule) -> None:
    """Where an argument is a node its name stands, and only names of nodes that came before."""
    known: set[str] = set()
    for node, state in zip(gm.graph.nodes, state_of(gm.graph), strict=True):
        assert isinstance(state, NodeState)
        assert "fx.node" not in _kinds((state.args, state.kwargs, state.meta))
        read = _references((state.args, state.kwargs))
        assert {*read} == {other.name for other in node.all_input_nodes}
        assert {*read} <= known
        known.add(state.name)


def _references(values: Any) -> list[str]:
    found: list[str] = []

    def note(value: Any) -> Any:
        if isinstance(value, Reference):
            found.append(value.name)
        return value

    fx.node.map_aggregate(values, note)
    return found


def _kinds(values: Any) -> str:
    """Return the classes of all that is in nested values, as text."""
    kinds: list[str] = []
    fx.node.map_aggregate(values, lambda value: kinds.append(str(type(value))))
    return " ".join(kinds)


def test_a_graph_that_comes_back_stands_by_itself() -> None:
    """Editing it does not touch the one that it was made from."""
    graph = toy.loop().graph
    before = described(graph)
    state = state_of(graph)
    back = graph_of(state)
    for node in reversed(back.nodes):
        node.meta["edited"] = True
        if not node.users and node.op != "output":
            back.erase_node(node)
    back.output_node().args = (None,)
    assert described(graph) == before
