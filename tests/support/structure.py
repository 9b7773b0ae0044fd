"""What the graph of a SubNet must look like and cost, whatever its model, scheduler and plan."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from dipgo_fx.cost import LoopCost
from dipgo_fx.loop import Loop
from dipgo_fx.macs import count_macs
from dipgo_fx.passes import HISTORY
from dipgo_fx.passes.tags import is_block_output
from dipgo_fx.plan import Plan
from loops import calls


def check_costs(graph: Loop, plan: Plan, subnet: Loop) -> None:
    """Law 4: what is predicted of a plan is what its SubNet's nodes cost, and which of them run."""
    cost = LoopCost.of(graph)
    predicted, counted = cost.of_table(plan.table), count_macs(subnet)
    assert (predicted.total, predicted.attention) == (counted.total, counted.attention)
    written = Plan.from_keep(graph, plan.keep, weights=plan.weights)
    assert written.ratio == 1 - counted.total / cost.full.total
    assert torch.equal(written.weights, plan.weights)
    running = cost.reads.liveness(plan.table).running
    assert calls(subnet) == {(plan.blocks[n], t) for t, n in running.nonzero().tolist()}


def check_holds_only_what_runs(graph: Loop, subnet: Loop) -> None:
    """Law 6: no dead node, no gate, the loop's inputs, and no weight of a module that is not called."""
    nodes = list(subnet.graph.nodes)
    noise = [node for node in nodes if getattr(node.target, "__name__", "") == "randn_tensor"]
    ends = [node for node in nodes if node.op in ("placeholder", "output")]
    assert [node for node in nodes if not node.users and node not in noise + ends] == []
    inputs_of_loop = [node.name for node in graph.graph.nodes if node.op == "placeholder"]
    assert [node.name for node in nodes if node.op == "placeholder"] == inputs_of_loop
    called = {str(node.target) for node in nodes if node.op == "call_module"}
    read = {str(node.target) for node in nodes if node.op == "get_attr"}
    owners = {name for name, _ in subnet.named_parameters()} | {n for n, _ in subnet.named_buffers()}
    assert not {name for name in owners - read if not any(name.startswith(f"{path}.") for path in called)}


def check_reads(graph: Loop, plan: Plan, subnet: Loop) -> None:
    """Law 6: a node reads what it read in the loop, or what the plan says of that tensor's past."""
    original = {node.name: node for node in graph.graph.nodes}
    outputs = _outputs(graph)
    names = {place: name for name, place in outputs.items()}
    for node in subnet.graph.nodes:
        if node.name not in original:
            assert node.target in (torch.mul, torch.add)
            continue
        for now, before in zip(_reads(node), _reads(original[node.name]), strict=True):
            expected = [(before.name, 1.0)]
            if before.name in outputs:
                block, index, step = outputs[before.name]
                column = plan.blocks.index(block)
                if not plan.keep[step, column]:
                    past = plan.keep[:step, column].nonzero().flatten().tolist()[::-1]
                    values = [names[block, index, s] for s in [*past, 0, 0][:HISTORY]]
                    weighted = list(zip(values, plan.weights[step, column].tolist(), strict=True))
                    expected = [(name, w) for name, w in weighted if w != 0] or [(values[0], 0.0)]
            assert _terms(now, original) == expected


def _terms(node: Any, original: dict[str, fx.Node]) -> list[tuple[str, float]]:
    """Return (tensor, weight) of what a node sums up; of a node of the loop, that node and 1."""
    if node.name in original:
        return [(node.name, 1.0)]
    if node.target is torch.mul:
        value, weight = node.args
        return [(value.name, weight)]
    total, value = node.args
    return [*_terms(total, original), (value.name, node.kwargs["alpha"])]


def _reads(node: fx.Node) -> list[fx.Node]:
    """Return what a node reads, in the order of its arguments, repeats included."""
    reads: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), reads.append)
    return reads


def _outputs(graph: Loop) -> dict[str, tuple[str, int, int]]:
    """Return (block, which of its tensors, step) of every tensor that a block of a loop returns."""
    found: dict[str, tuple[str, int, int]] = {}
    for node in graph.graph.nodes:
        custom = node.meta["custom"]
        if is_block_output(node):
            block, step = custom["block"], custom["step"]
            index = sum((b, s) == (block, step) for b, _, s in found.values())
            found[node.name] = (block, index, step)
    return found
