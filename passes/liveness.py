"""Which calls of a loop still run under a keep table, found on one step instead of the whole graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from .gates import terms
from .insert_gates import ORDER
from .rules import tag

Keep = Sequence[Sequence[bool]]
Weights = Sequence[Sequence[Sequence[float]]]


@dataclass(frozen=True)
class StepReads:
    """Who reads whom in the model's part of a step, which is the same at every step.

    A unit is a block or a call outside the blocks that costs something. Units are numbered: the N
    blocks first, in the loop's order, then the others; sets of units are bit masks.

    Attributes:
        units: the node of each unit at step 0.
        num_blocks: N.
        reads: for each unit the units whose output it reads, through calls that cost nothing.
        output: the units that the model's prediction reads.
        order: all units, each after those it reads.
    """

    units: tuple[fx.Node, ...]
    num_blocks: int
    reads: tuple[int, ...]
    output: int
    order: tuple[int, ...]

    @classmethod
    def of(cls, graph: fx.Graph, blocks: Sequence[str], costly: Iterable[fx.Node]) -> StepReads:
        """Read the dependencies off step 0 of a loop graph; `costly` are its other calls with a cost."""
        body = [n for n in graph.nodes if tag(n, "in_model") and tag(n, "step") == 0]
        calls = {tag(n, "block"): n for n in body if n.op == "call_module" and tag(n, "block")}
        units = [calls[block] for block in blocks]
        units += [node for node in costly if tag(node, "in_model") and tag(node, "step") == 0]
        index = {node: i for i, node in enumerate(units)}
        below: dict[fx.Node, int] = {}
        reads, order = [0] * len(units), []
        for node in body:
            mask = 0
            for read in node.all_input_nodes:
                mask |= below.get(read, 0)
            if node in index:
                reads[index[node]] = mask
                order.append(index[node])
                mask = 1 << index[node]
            below[node] = mask
        inside = set(body)
        ends = [n for n in body if any(user not in inside for user in n.users)]
        output = 0
        for node in ends:
            output |= below[node]
        return cls(tuple(units), len(blocks), tuple(reads), output, tuple(order))

    @property
    def read_by_output(self) -> list[int]:
        """Numbers of the blocks whose output the prediction reads: all that a skipped step needs."""
        return [n for n in range(self.num_blocks) if self.output >> n & 1]

    def live(self, keep: Keep, weights: Weights | None = None) -> list[int]:
        """Return for each step the set of units that still run, see `walk`."""
        return [running for running, _ in self.walk(keep, weights)]

    def walk(self, keep: Keep, weights: Weights | None = None) -> list[tuple[int, int]]:
        """Return for each step the set of units that still run and that of the closed blocks that are read.

        Walks back from the last step: a closed gate that is read makes those of the block's last computed
        values needed whose weight is not 0, or the last one if none has; without `weights` the last one.
        """
        steps = len(keep)
        wanted = [0] * steps
        history = last_kept(keep)
        result = [(0, 0)] * steps
        for t in range(steps - 1, -1, -1):
            pending = self.output | wanted[t]
            running = closed = 0
            for unit in reversed(self.order):
                bit = 1 << unit
                if not pending & bit:
                    continue
                if unit >= self.num_blocks or keep[t][unit] or t == 0:
                    running |= bit
                    pending |= self.reads[unit]
                    continue
                closed |= bit
                read = [(0, 1.0)] if weights is None else terms(weights[t][unit], ORDER)
                for k, _ in read:
                    wanted[history[t][unit][k]] |= bit
            result[t] = (running, closed)
        return result

    def table(self, live: Sequence[int]) -> torch.Tensor:
        """Return the `(T, N)` bool table of the blocks in the sets `live`."""
        return torch.tensor([[bool(step >> n & 1) for n in range(self.num_blocks)] for step in live])


def last_kept(keep: Keep) -> list[list[tuple[int, ...]]]:
    """Return for each step and block the last `ORDER` kept steps before it, newest first.

    Step 0 counts as kept, and stands in where fewer steps were kept before; at step 0 all are 0.
    """
    current = [(0,) * ORDER] * len(keep[0])
    rows = [current]
    for t in range(1, len(keep)):
        before = keep[t - 1]
        if t > 1:
            current = [(t - 1, *past[:-1]) if before[n] else past for n, past in enumerate(current)]
        rows.append(current)
    return rows
