"""The rules of a graph, each by a graph that breaks it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx, nn

import toy
from dipgo_fx.passes import DropDeadBlocks, InvariantError, rules
from dipgo_fx.passes.tags import tag
from graphs import ALL_KEPT, block_call, bound, first, forecast_at_step_2, pass_a_gate_by, supernet


def _retag(node: fx.Node, **tags: Any) -> None:
    node.meta["custom"] = {**node.meta["custom"], **tags}


def _gate(gm: fx.GraphModule, role: str = "gate") -> fx.Node:
    return first(gm, lambda n: tag(n, "role") == role)


def _untagged(gm: fx.GraphModule) -> None:
    del block_call(gm, 1).meta["custom"]


def _reads_the_future(gm: fx.GraphModule) -> None:
    _retag(block_call(gm, 0), step=1)


def _leaves_a_gate(gm: fx.GraphModule) -> None:
    _retag(block_call(gm, 1), role="gate")


def _leaves_a_history(gm: fx.GraphModule) -> None:
    _retag(block_call(gm, 1), role="history")


def _mixes_blocks(gm: fx.GraphModule) -> None:
    gate = _gate(gm)
    gate.args = (block_call(gm, 0, 1), *gate.args[1:])


def _forecasts_another_block(gm: fx.GraphModule) -> None:
    forecast = _gate(gm, "backup")
    forecast.args = (forecast.args[0], block_call(gm, 0, 1), *forecast.args[2:])


def _sums_another_block(gm: fx.GraphModule) -> None:
    total = first(gm, lambda n: tag(n, "role") == "backup" and n.target is torch.add)
    total.args = (total.args[0], block_call(gm, 0, 1))


def _remembers_another_block(gm: fx.GraphModule) -> None:
    history = _gate(gm, "history")
    history.args = (history.args[0], block_call(gm, 0, 1), history.args[2])


def _computes_in_vain(gm: fx.GraphModule) -> None:
    last = block_call(gm, 1)
    with gm.graph.inserting_after(last):
        gm.graph.call_function(operator.neg, (last,)).meta = dict(last.meta, custom={**last.meta["custom"]})


def _reads_back_in_secret(gm: fx.GraphModule) -> None:
    fresh = block_call(gm, 1)
    next(iter(fresh.users)).replace_input_with(fresh, block_call(gm, 0))


FAULTS: list[tuple[rules.Rule, Callable[[], fx.GraphModule], Callable[[fx.GraphModule], None]]] = [
    (rules.nodes_are_tagged, toy.loop, _untagged),
    (rules.edges_go_forward, toy.loop, _reads_the_future),
    (rules.has_no_gate, toy.loop, _leaves_a_gate),
    (rules.has_no_gate, toy.loop, _leaves_a_history),
    (rules.has_no_gate, lambda: bound(ALL_KEPT), _leaves_a_gate),
    (rules.gates_stay_in_block, supernet, _mixes_blocks),
    (rules.gates_stay_in_block, lambda: supernet(2), _mixes_blocks),
    (rules.gates_stay_in_block, lambda: supernet(3, 4), _forecasts_another_block),
    (rules.gates_stay_in_block, lambda: supernet(3, 4), _remembers_another_block),
    (rules.gates_stay_in_block, forecast_at_step_2, _sums_another_block),
    (
        rules.gates_stay_in_block,
        lambda: DropDeadBlocks()(forecast_at_step_2()).graph_module,
        _sums_another_block,
    ),
    (rules.outputs_are_gated, supernet, pass_a_gate_by),
    (rules.outputs_are_gated, lambda: supernet(3), pass_a_gate_by),
    (rules.backups_are_declared, toy.loop, _reads_back_in_secret),
    (rules.backups_are_declared, lambda: bound(ALL_KEPT), _reads_back_in_secret),
    (rules.backups_are_declared, forecast_at_step_2, _reads_back_in_secret),
    (
        rules.has_no_dead_node,
        lambda: DropDeadBlocks()(bound(ALL_KEPT)).graph_module,
        _computes_in_vain,
    ),
]


@pytest.mark.parametrize(
    ("rule", "make", "fault"), FAULTS, ids=[f"{rule.__name__}-{i}" for i, (rule, _, _) in enumerate(FAULTS)]
)
def test_a_rule_notices_the_fault_it_is_for(
    rule: rules.Rule, make: Callable[[], fx.GraphModule], fault: Callable[[fx.GraphModule], None]
) -> None:
    """A graph broken on purpose is refused by that rule, and was fine before."""
    gm = make()
    rules.check(gm)
    fault(gm)
    with pytest.raises(InvariantError, match=f"rule '{rule.__name__}' of stage '{gm.meta['stage']}'"):
        rules.check(gm)


def test_every_rule_has_a_fault() -> None:
    """No rule is without a test that breaks it."""
    assert {rule for table in rules.RULES.values() for rule in table} == {rule for rule, _, _ in FAULTS}


def test_a_foreign_graph_has_no_rules() -> None:
    """A graph that this compiler did not make is not held to its rules."""
    assert rules.check(fx.symbolic_trace(nn.Linear(3, 3))) is None


def test_a_long_list_of_offenders_is_cut() -> None:
    """The message counts all nodes at fault and names five of them."""
    gm = toy.loop(4)
    for node in gm.graph.nodes:
        node.meta.pop("custom")
    with pytest.raises(InvariantError, match=r"broken by 24 nodes: (\w+, ){4}\w+$"):
        rules.check(gm)
