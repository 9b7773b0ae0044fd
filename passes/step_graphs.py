"""A model's call under a gate table: what each step computes, reads of earlier steps and keeps for later."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from torch import fx

from .call_recorder import CallGraph
from .drop_dead_blocks import erase_dead_nodes
from .gate_table import GateTable, is_repeat, last_kept, terms
from .gates import write_forecast

Value = tuple[int, int]
"""A tensor that a block returned: which of the graph's block outputs, and at which step."""


@dataclass(frozen=True)
class StepKind:
    """What steps that share a graph have in common.

    Attributes:
        closed: block outputs whose readers take a backup, each with the number of terms of its forecast; 0
            terms is the plain last value.
        saved: block outputs that later steps read.
    """

    closed: tuple[tuple[int, int], ...]
    saved: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One step of a run.

    Attributes:
        kind: which graph it runs.
        reads: earlier values, in the order in which the graph takes them.
        weights: what the graph multiplies them with, likewise.
        frees: values that nobody reads after this step.
    """

    kind: StepKind
    reads: tuple[Value, ...]
    weights: tuple[float, ...]
    frees: tuple[Value, ...] = ()


def steps_of(call: CallGraph, table: GateTable) -> tuple[Step, ...]:
    """Return the steps of a loop whose every step makes `call`, worked out from the last to the first."""
    order = list(call.outputs)
    past = last_kept(table.keep_rows)
    wanted: dict[int, set[int]] = defaultdict(set)  # step -> outputs that later steps read
    last_reader: dict[Value, int] = {}
    steps: list[Step] = []
    for t in reversed(range(len(past))):
        saved = tuple(sorted(wanted[t]))
        open_blocks = table.keep_rows[t]
        closed, reads, weights = [], list[Value](), list[float]()
        for output in _backups_read(call, open_blocks, [order[o] for o in saved]):
            block = call.outputs[order[output]]
            used = terms(table.weight_rows[t][block], len(past[t][block]))
            plain = is_repeat(used)
            closed.append((output, 0 if plain else len(used)))
            for k, weight in used:
                value = (output, past[t][block][k])
                reads.append(value)
                weights += [] if plain else [weight]
                wanted[value[1]].add(output)
                last_reader.setdefault(value, t)
        steps.append(Step(StepKind(tuple(closed), saved), tuple(reads), tuple(weights)))
    frees: dict[int, list[Value]] = defaultdict(list)
    for value, t in last_reader.items():
        frees[t].append(value)
    return tuple(
        Step(step.kind, step.reads, step.weights, tuple(frees[t])) for t, step in enumerate(reversed(steps))
    )


def _backups_read(call: CallGraph, open_blocks: list[bool], saved: list[fx.Node]) -> list[int]:
    """Return the block outputs that are read, of this step or by later ones, and whose gate is closed."""
    numbers = {node: number for number, node in enumerate(call.outputs)}
    found: list[int] = []
    seen: set[fx.Node] = set()
    pending = [next(n for n in reversed(call.module.graph.nodes) if n.op == "output"), *saved]
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in numbers and not open_blocks[call.outputs[node]]:
            found.append(numbers[node])
        else:
            pending += node.all_input_nodes
    return sorted(found)


def step_graph(call: CallGraph, kind: StepKind) -> fx.GraphModule:
    """Return the graph of a kind of step.

    It takes the inputs of `call`, then the earlier values that it reads, then their weights, and returns the
    tensors of the result, then the saved values.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    result: Any = graph.graph_copy(call.module.graph, copies)
    order = [copies[node] for node in call.outputs]
    first = next(node for node in graph.nodes if node.op != "placeholder")
    with graph.inserting_before(first):
        backups = _backups(graph, kind)
    saved = [order[output] for output in kind.saved]
    for output, backup in backups.items():
        order[output].replace_all_uses_with(backup)
    standing = {order[output]: backup for output, backup in backups.items()}
    result = fx.map_arg(result, lambda node: standing.get(node, node))
    graph.output((*result, *saved))
    erase_dead_nodes(graph)
    graph.lint()
    return fx.GraphModule(call.module, graph)


def _backups(graph: fx.Graph, kind: StepKind) -> dict[int, fx.Node]:
    """Add the inputs of a step beyond those of the call, and return what stands for each closed output."""
    counts = dict(kind.closed)
    values = iter([graph.placeholder(f"value_{k}") for k in range(sum(max(1, c) for c in counts.values()))])
    weights = iter([graph.placeholder(f"weight_{k}") for k in range(sum(counts.values()))])
    return {
        output: write_forecast(graph, [(next(values), next(weights)) for _ in range(count)])[-1]
        if count
        else next(values)
        for output, count in counts.items()
    }
