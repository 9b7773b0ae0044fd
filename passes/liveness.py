"""Which calls of a loop still run under a gate table, found on one step instead of the whole graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import fx

from .gate_table import GateTable, first_kept, last_kept, terms
from .tags import tag


@dataclass(frozen=True)
class Liveness:
    """What runs at each step, and whose backups are read there.

    Units are numbered as in `StepReads`: the N blocks first. Sets of units are bit masks in here, and
    nowhere else.
    """

    num_blocks: int
    _running: tuple[int, ...]
    _backed_up: tuple[int, ...]

    def runs(self, step: int, unit: int) -> bool:
        """Tell whether a unit is computed at a step."""
        return bool(self._running[step] >> unit & 1)

    def reads_backup(self, step: int, block: int) -> bool:
        """Tell whether somebody reads the backup of a block at a step: its gate is closed there."""
        return bool(self._backed_up[step] >> block & 1)

    def counts(self, num_units: int) -> list[int]:
        """Return how often each unit runs in the whole loop."""
        times = [0] * num_units
        for running in self._running:
            while running:
                lowest = running & -running
                times[lowest.bit_length() - 1] += 1
                running ^= lowest
        return times

    @property
    def last_running_step(self) -> int:
        """The last step at which anything of the model runs."""
        return max(step for step, running in enumerate(self._running) if running)

    @property
    def running(self) -> torch.Tensor:
        """The `(T, N)` bool table of the blocks that run: kept, and read by somebody."""
        return self._table(self._running)

    @property
    def backed_up(self) -> torch.Tensor:
        """The `(T, N)` bool table of the closed blocks whose backup is read."""
        return self._table(self._backed_up)

    def _table(self, masks: Sequence[int]) -> torch.Tensor:
        return torch.tensor([[bool(mask >> n & 1) for n in range(self.num_blocks)] for mask in masks])


@dataclass(frozen=True)
class StepReads:
    """Who reads whom in the model's part of a step, which is the same at every step.

    A unit is a block or a call outside the blocks that costs something. Units are numbered: the N
    blocks first, in the loop's order, then the others.

    Attributes:
        num_blocks: N.
        reads: for each unit the units whose output it reads, through calls that cost nothing.
        output: the units that the model's prediction reads.
        order: all units, each after those it reads.
    """

    num_blocks: int
    reads: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, graph: fx.Graph, units: Sequence[fx.Node], num_blocks: int) -> StepReads:
        """Read the dependencies off step 0 of a loop graph, whose `units` are those of `units_of`."""
        body = [n for n in graph.nodes if tag(n, "in_model") and tag(n, "step") == 0]
        number = {node: i for i, node in enumerate(units)}
        below: dict[fx.Node, frozenset[int]] = {}
        reads: dict[int, frozenset[int]] = {}
        for node in body:
            read = frozenset[int]().union(*(below.get(n, ()) for n in node.all_input_nodes))
            if node in number:
                reads[number[node]] = read
                read = frozenset({number[node]})
            below[node] = read
        inside = set(body)
        ends = [n for n in body if any(user not in inside for user in n.users)]
        output = frozenset[int]().union(*(below[node] for node in ends))
        edges = tuple(tuple(sorted(reads[unit])) for unit in range(len(units)))
        return cls(num_blocks, edges, tuple(sorted(output)), tuple(reads))

    @property
    def heads(self) -> list[int]:
        """The blocks whose output the prediction reads: all that a skipped step needs."""
        return [n for n in self.output if n < self.num_blocks]

    def liveness(self, table: GateTable) -> Liveness:
        """Return what runs under a gate table.

        A closed gate that is read makes those of the block's last computed values needed whose weight is
        not 0, or the last one if none has.
        """
        weights = table.weight_rows

        def read(step: int, block: int) -> Iterable[int]:
            entry = weights[step][block]
            return (k for k, _ in terms(entry, len(entry)))

        return self._walk(table.keep_rows, read)

    def liveness_at_most(self, keep: torch.Tensor, history: int) -> Liveness:
        """Return what may run under a `(T, N)` keep table, whatever its gates read of `history` values."""
        return self._walk(keep.tolist(), lambda step, block: range(history))

    def _walk(
        self, keep: Sequence[Sequence[bool]], values_read: Callable[[int, int], Iterable[int]]
    ) -> Liveness:
        """Walk back from the last step, so that readers come before what they read."""
        steps, first = len(keep), first_kept(keep)
        wanted = [0] * steps
        history = last_kept(keep)
        running_at, backed_up_at = [0] * steps, [0] * steps
        for t in range(steps - 1, first - 1, -1):
            pending = self._output_mask | wanted[t]
            running = backed_up = 0
            for unit in reversed(self.order):
                bit = 1 << unit
                if not pending & bit:
                    continue
                if unit >= self.num_blocks or keep[t][unit]:
                    running |= bit
                    pending |= self._read_masks[unit]
                    continue
                backed_up |= bit
                for k in values_read(t, unit):
                    wanted[history[t][unit][k]] |= bit
            running_at[t], backed_up_at[t] = running, backed_up
        return Liveness(self.num_blocks, tuple(running_at), tuple(backed_up_at))

    @cached_property
    def _read_masks(self) -> list[int]:
        return [_mask(units) for units in self.reads]

    @cached_property
    def _output_mask(self) -> int:
        return _mask(self.output)


def units_of(graph: fx.Graph, blocks: Sequence[str], costly: Iterable[fx.Node]) -> list[fx.Node]:
    """Return the units of a loop graph at step 0: its blocks, then its other calls with a cost."""
    first = [n for n in graph.nodes if tag(n, "in_model") and tag(n, "step") == 0]
    calls = {tag(n, "block"): n for n in first if n.op == "call_module" and tag(n, "block")}
    others = [node for node in costly if tag(node, "in_model") and tag(node, "step") == 0]
    return [*(calls[block] for block in blocks), *others]


def _mask(units: Iterable[int]) -> int:
    return sum(1 << unit for unit in units)
