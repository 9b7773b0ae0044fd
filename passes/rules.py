"""The rules a graph must keep, one table a stage; checked after every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import fx

from .errors import InvariantError
from .tags import is_block_output, is_impure, tag

Rule = Callable[[fx.GraphModule], Iterable[fx.Node]]


def nodes_are_tagged(gm: fx.GraphModule) -> list[fx.Node]:
    """Every node knows its step."""
    return [node for node in gm.graph.nodes if tag(node, "step") is None]


def edges_go_forward(gm: fx.GraphModule) -> list[fx.Node]:
    """No node reads from a later step."""
    return [
        node
        for node in gm.graph.nodes
        if any(tag(read, "step") > tag(node, "step") for read in node.all_input_nodes)
    ]


def has_no_gate(gm: fx.GraphModule) -> list[fx.Node]:
    """No gate is left."""
    return [node for node in gm.graph.nodes if tag(node, "role") in ("gate", "history")]


def gates_stay_in_block(gm: fx.GraphModule) -> list[fx.Node]:
    """A gate and its history combine values of one block only."""
    return [
        node
        for node in gm.graph.nodes
        if tag(node, "role") in ("gate", "history", "backup")
        and any(
            tag(read, "block") != tag(node, "block")
            for read in node.all_input_nodes
            if tag(read, "role") != "table"
        )
    ]


def outputs_are_gated(gm: fx.GraphModule) -> list[fx.Node]:
    """After its first step nothing but gates and histories reads a block's output."""
    outputs = [node for node in gm.graph.nodes if is_block_output(node)]
    first = {tag(node, "block"): tag(node, "step") for node in reversed(outputs)}
    return [
        node
        for node in outputs
        if tag(node, "step") > first[tag(node, "block")]
        and any(tag(reader, "role") not in ("gate", "history") for reader in node.users)
    ]


def has_no_dead_node(gm: fx.GraphModule) -> list[fx.Node]:
    """Every node has a reader."""
    return [node for node in gm.graph.nodes if not node.users and not is_impure(node)]


def backups_are_declared(gm: fx.GraphModule) -> list[fx.Node]:
    """In the model, only forecasts and readers of a closed gate take a block's output of an earlier step."""
    return [
        node
        for node in gm.graph.nodes
        if tag(node, "in_model")
        and tag(node, "role") != "backup"
        and any(
            (tag(read, "block"), tag(read, "step")) not in (tag(node, "backups") or ())
            for read in node.all_input_nodes
            if is_block_output(read) and tag(read, "step") < tag(node, "step")
        )
    ]


ALWAYS: tuple[Rule, ...] = (nodes_are_tagged, edges_go_forward)
RULES: dict[str, tuple[Rule, ...]] = {
    "loop": (*ALWAYS, has_no_gate, backups_are_declared),
    "supernet": (*ALWAYS, gates_stay_in_block, outputs_are_gated),
    "bound": (*ALWAYS, has_no_gate, gates_stay_in_block, backups_are_declared),
    "subnet": (
        *ALWAYS,
        has_no_gate,
        gates_stay_in_block,
        backups_are_declared,
        has_no_dead_node,
    ),
}


def check(gm: fx.GraphModule) -> None:
    """Raise `InvariantError` naming the first rule of the graph's stage that is broken, and where.

    A graph without a stage (not made by this compiler) has no rules.
    """
    stage = str(gm.meta.get("stage"))
    for rule in RULES.get(stage, ()):
        offenders = list(rule(gm))
        if offenders:
            names = ", ".join(node.name for node in offenders[:5])
            raise InvariantError(
                f"rule {rule.__name__!r} of stage {stage!r} broken by {len(offenders)} nodes: {names}"
            )
