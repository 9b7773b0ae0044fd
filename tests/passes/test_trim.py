"""A SuperNet without what a table will not read binds to the SubNet that the whole one gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx

from dipgo_fx.passes import BindGates, DropDeadBlocks, GateTable
from dipgo_fx.passes.trim import trimmed
from loops import loop, scattered, supernet

KEYS = (
    ("dit", "ddim", "block", None),
    ("dit", "euler-a", "branch", 2.0),
    ("unet", "dpm++", "stage", None),
)


def described(gm: fx.GraphModule) -> list[Any]:
    """Return what each node calls, on which nodes by their place, and its tags; not inputs nobody reads."""
    nodes = [node for node in gm.graph.nodes if node.users or node.op != "placeholder"]
    places = {node: f"node {place}" for place, node in enumerate(nodes)}
    return [
        (n.op, n.target, fx.map_arg((n.args, n.kwargs), places.__getitem__), n.meta["custom"]) for n in nodes
    ]


@given(
    key=st.sampled_from(KEYS),
    history=st.integers(1, 3),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
    whole=st.booleans(),
    free=st.booleans(),
)
def test_any_table_binds_to_the_same_subnet(
    key: Any, history: int, share: float, seed: int, whole: bool, free: bool
) -> None:
    """Node by node, tags included, with weights that are bound and that stay free."""
    graph = loop(*key)
    shape = (graph.num_steps, len(graph.blocks))
    keep = (
        torch.rand(shape[0], 1 if whole else shape[1], generator=torch.Generator().manual_seed(seed)) < share
    )
    keep = keep.expand(shape).clone()
    keep[0] = True
    table = GateTable(keep, scattered(shape, history, seed)) if history > 1 else GateTable.of(keep)
    bind = BindGates(table, free_weights=free and history > 1)
    gates = supernet(history, *key)
    small = trimmed(gates, table)
    subnets = [DropDeadBlocks()(bind(each).graph_module).graph_module for each in (gates, small)]
    assert described(subnets[0]) == described(subnets[1])
    assert len(small.graph.nodes) <= len(gates.graph.nodes)


@pytest.mark.parametrize("key", KEYS, ids=["dit", "branch", "unet"])
def test_most_of_a_supernet_is_left_out(key: Any) -> None:
    """Where one step runs whole and no other, little more is copied than the SubNet has."""
    graph = loop(*key)
    keep = torch.zeros(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[0] = True
    table, gates = GateTable.of(keep, "linear"), supernet(3, *key)
    small = trimmed(gates, table)
    subnet = DropDeadBlocks()(BindGates(table)(small).graph_module).graph_module
    assert len(small.graph.nodes) < 2 * len(subnet.graph.nodes) < len(gates.graph.nodes)
