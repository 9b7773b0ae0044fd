"""A model's call under a gate table: what each step computes, reads of earlier steps and keeps for later."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from .call_recorder import CallGraph
from .drop_dead_blocks import erase_dead_nodes
from .gate_table import GateTable, last_kept, terms

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
    """Return the steps of a loop whose every step makes `call`, last values first read found backwards."""
    order = list(call.outputs)
    past = last_kept(table.keep_rows)
    wanted: dict[int, set[int]] = defaultdict(set)  # step -> outputs that later steps read
    last_reader: dict[Value, int] = {}
    steps: list[Step] = []
    for t in reversed(range(len(past))):
        saved = tuple(sorted(wanted[t]))
        open_blocks = [kept or t == 0 for kept in table.keep_rows[t]]
        closed, reads, weights = [], list[Value](), list[float]()
        for output in _backups_read(call, open_blocks, [order[o] for o in saved]):
            block = call.outputs[order[output]]
            used = terms(table.weight_rows[t][block], len(past[t][block]))
            plain = len(used) == 1 and used[0][1] == 1
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
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    backups = _Backups(graph, inputs[-1], kind)
    saved = [order[output] for output in kind.saved]
    for output, count in kind.closed:
        fresh, backup = order[output], backups.add(output, count)
        fresh.replace_all_uses_with(backup)
        result = fx.map_arg(result, _swap(fresh, backup))
    graph.output((*result, *saved))
    erase_dead_nodes(graph)
    graph.lint()
    return fx.GraphModule(call.module, graph)


def _swap(old: fx.Node, new: fx.Node) -> Callable[[fx.Node], fx.Node]:
    return lambda node: new if node is old else node


@dataclass
class _Backups:
    """Adds the forecasts of a step graph and the inputs that they read."""

    graph: fx.Graph
    last_input: fx.Node
    kind: StepKind
    _values: list[fx.Node] = field(default_factory=list)
    _weights: list[fx.Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        values = sum(max(1, count) for _, count in self.kind.closed)
        weights = sum(count for _, count in self.kind.closed)
        self._values = [self._input(f"value_{k}") for k in range(values)]
        self._weights = [self._input(f"weight_{k}") for k in range(weights)]

    def _input(self, name: str) -> fx.Node:
        with self.graph.inserting_after(self.last_input):
            self.last_input = self.graph.placeholder(name)
        return self.last_input

    def add(self, output: int, count: int) -> fx.Node:
        """Return the node of a forecast: the same operations in the same order as those of `BindGates`."""
        if count == 0:
            return self._values.pop(0)
        pairs = [(self._values.pop(0), self._weights.pop(0)) for _ in range(count)]
        (first, weight), *rest = pairs
        with self.graph.inserting_after(self.last_input):
            node = self.last_input = self.graph.call_function(torch.mul, (first, weight))
        for value, weight in rest:
            with self.graph.inserting_after(self.last_input):
                node = self.last_input = self.graph.call_function(torch.add, (node, value), {"alpha": weight})
        return node


def values_held(steps: tuple[Step, ...]) -> Iterator[set[Value]]:
    """Yield for each step the values that are held after it."""
    held: set[Value] = set()
    for t, step in enumerate(steps):
        held |= {(output, t) for output in step.kind.saved}
        held -= set(step.frees)
        yield set(held)
