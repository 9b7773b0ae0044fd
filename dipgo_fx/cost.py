"""What every plan of a loop costs, known without building its SubNet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import fx

from .errors import PlanError
from .macs import Cost, NodeCounter
from .passes import GateTable
from .passes.liveness import Liveness, StepReads, units_of
from .passes.tags import tag


@dataclass(frozen=True)
class LoopCost:
    """The MACs of a loop's parts, for one sample, and who reads whom.

    Attributes:
        reads: who reads whom in a step.
        units: what each unit of `reads` costs at one step.
        fixed: what the loop costs outside the model (most schedulers: nothing).
        full: the unpruned loop.
        num_steps: T.
        num_calls: calls of the model in a step, each with as many of the N blocks, see `Guidance`.
    """

    reads: StepReads
    units: tuple[Cost, ...]
    fixed: Cost
    full: Cost
    num_steps: int
    num_calls: int = 1

    @classmethod
    def of(cls, loop: fx.GraphModule) -> LoopCost:
        """Count the calls of a traced loop; a loop is counted once."""
        if loop.meta.get("stage") != "loop":
            raise ValueError(f"costs are counted on a traced loop, got stage {loop.meta.get('stage')!r}")
        if "cost" not in loop.meta:
            loop.meta["cost"] = cls._count(loop)
        counted: LoopCost = loop.meta["cost"]
        return counted

    @classmethod
    def _count(cls, loop: fx.GraphModule) -> LoopCost:
        counter = NodeCounter(loop)
        facts = loop.meta["facts"]
        costs = {node: counter.cost(node) for node in loop.graph.nodes}
        costly = [n for n, c in costs.items() if c.total and tag(n, "block") is None]
        if not _sum(costs.values()).total:
            raise PlanError(
                f"{facts.model} multiplies nothing that is counted, so no share of its MACs can be removed"
            )
        units = units_of(loop.graph, facts.blocks, costly)
        return cls(
            StepReads.of(loop.graph, units, len(facts.blocks)),
            tuple(costs[node] for node in units),
            _sum(costs[n] for n in costly if not tag(n, "in_model")),
            _sum(costs.values()),
            len(facts.timesteps),
            len(facts.guidance.calls),
        )

    @property
    def num_blocks(self) -> int:
        """N."""
        return self.reads.num_blocks

    @property
    def blocks_per_call(self) -> int:
        """Blocks of one call of the model; a step has `num_calls` of them."""
        return self.num_blocks // self.num_calls

    @property
    def step(self) -> Cost:
        """What one step costs in the model."""
        return _sum(self.units)

    def heads_of(self, call: int) -> list[int]:
        """Return the blocks whose output the prediction of one call of a step reads."""
        return [head for head in self.reads.heads if head // self.blocks_per_call == call]

    def of_table(self, table: GateTable) -> Cost:
        """Return what the SubNet of a gate table costs, dead code removed."""
        return self._of(self.reads.liveness(table))

    def kept(self, table: GateTable) -> float:
        """Return the share of the loop's MACs that a gate table leaves, in [0, 1]."""
        return self.of_table(table).total / self.full.total

    def at_most(self, keep: torch.Tensor, history: int) -> Cost:
        """Return the highest cost of a `(T, N)` keep table whose gates read up to `history` values."""
        return self._of(self.reads.liveness_at_most(keep, history))

    def kept_at_most(self, keep: torch.Tensor, history: int) -> float:
        """Return `at_most` as a share of the loop."""
        return self.at_most(keep, history).total / self.full.total

    def kept_by_step(self, liveness: Liveness) -> list[float]:
        """Return what each step of a SubNet costs, as a share of an unpruned step on average."""
        totals = [
            sum(cost.total for unit, cost in enumerate(self.units) if liveness.runs(step, unit))
            for step in range(self.num_steps)
        ]
        return [total * self.num_steps / self.full.total for total in totals]

    def with_steps(self, num_steps: int) -> LoopCost:
        """Return the costs of the same loop with another number of steps."""
        fixed = Cost(
            *(part * num_steps // self.num_steps for part in (self.fixed.total, self.fixed.attention))
        )
        full = Cost(self.step.total * num_steps, self.step.attention * num_steps) + fixed
        return replace(self, fixed=fixed, full=full, num_steps=num_steps)

    @property
    def all_kept(self) -> torch.Tensor:
        """The `(T, N)` keep table that closes no gate."""
        return torch.ones(self.num_steps, self.num_blocks, dtype=torch.bool)

    @property
    def smallest_kept(self) -> float:
        """The share that is left when every gate after the first step closes."""
        keep = torch.zeros(self.num_steps, self.num_blocks, dtype=torch.bool)
        keep[0] = True
        return self.kept(GateTable.of(keep))

    def _of(self, liveness: Liveness) -> Cost:
        counts = liveness.counts(len(self.units))
        return Cost(
            self.fixed.total + sum(c.total * n for c, n in zip(self.units, counts, strict=True)),
            self.fixed.attention + sum(c.attention * n for c, n in zip(self.units, counts, strict=True)),
        )


def _sum(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())
