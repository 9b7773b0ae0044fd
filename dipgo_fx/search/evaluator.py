"""Compiles candidates, runs them on calibration samples, and charges for it."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace

import torch
from torch import fx

from ..arguments import check
from ..cost import LoopCost
from ..loop import Loop
from ..passes import BindGates, DropDeadBlocks, GateTable, InsertGates, Pipeline, split_steps
from ..passes.base import draft_class
from ..passes.trim import trimmed
from .batch import Batch
from .candidate import Candidate
from .chunks import Chunks
from .config import Config
from .losses import consistency_loss, ssim
from .run_budget import RunBudget

MOST_LEARNABLE = 8
"""How many SubNets with free weights are kept."""


class Evaluator:
    """Judges plans of one loop on one calibration batch.

    Attributes:
        loop: the traced loop.
        cost: its costs.
        batch: all calibration samples.
        config: says which loss compares what.
        chunks: how many samples are in the model at once.
        budget: compute so far. A gradient step costs three runs of its own batch, four with recomputation.
        curve: `(full runs spent, loss)` of every evaluation on the whole batch.
    """

    def __init__(
        self, loop: Loop, cost: LoopCost, batch: Batch, config: Config, limit: float = math.inf
    ) -> None:
        self.loop, self.cost, self.batch, self.config = loop, cost, batch, config
        self.chunks = Chunks(config.chunk)
        self.budget = RunBudget(limit)
        self.budget.charge(1.0)  # the unpruned run that made the targets
        self.curve: list[tuple[float, float]] = []
        self._distance = consistency_loss(config.loss)
        self._supernets: dict[int, fx.GraphModule] = {}
        self._learnable: dict[Hashable, fx.GraphModule] = {}

    # -- compiling

    def supernet(self, history: int) -> fx.GraphModule:
        """Return the loop with all gates in place."""
        if history not in self._supernets:
            self._supernets[history] = InsertGates(history)(self.loop).graph_module
        return self._supernets[history]

    def subnet(self, table: GateTable) -> fx.GraphModule:
        """Return the SubNet of a gate table."""
        return self._bound(table.history, BindGates(table), Loop)

    def learnable(self, candidate: Candidate) -> fx.GraphModule:
        """Return the SubNet of a candidate whose weights are the input `weights`, split into steps.

        The last few are kept: a candidate is fitted on some samples, then on all, then moved.
        """
        key = candidate.history, tuple(map(tuple, candidate.table.keep_rows))
        split = self._learnable.pop(key, None)
        if split is None:
            bind = BindGates(candidate.table, free_weights=True)
            split = split_steps(self._bound(candidate.history, bind, draft_class(Loop)))
        self._learnable[key] = split
        while len(self._learnable) > MOST_LEARNABLE:
            del self._learnable[next(iter(self._learnable))]
        return split

    def _bound(self, history: int, bind: BindGates, kind: type[fx.GraphModule]) -> fx.GraphModule:
        supernet = trimmed(self.supernet(history), bind.table)
        return Pipeline((bind, DropDeadBlocks()), kind=kind).edit(supernet)

    # -- running

    @torch.no_grad()
    def evaluate(self, candidate: Candidate, batch: Batch | None = None) -> Candidate:
        """Return the candidate with its loss on a batch, all calibration samples if omitted."""
        chosen, subnet = batch or self.batch, self.subnet(candidate.table)
        result = torch.cat(self.chunks.map(lambda part: part.run(subnet), chosen))
        return self.score(candidate, result, chosen)

    def score(self, candidate: Candidate, result: torch.Tensor, batch: Batch) -> Candidate:
        """Return the candidate with the loss of the samples that its run gave, and charge for the run."""
        scored = self.with_loss(candidate, result, batch)
        self.charge(self.cost.kept(candidate.table), batch)
        if batch is self.batch:
            self.curve.append((self.budget.spent, scored.loss))
        return scored

    def with_loss(self, candidate: Candidate, result: torch.Tensor, batch: Batch) -> Candidate:
        """Return the candidate with the loss of samples that it made; nothing is charged."""
        result, target = self._seen(result), self._target(batch, result)
        loss = self._distance(result, target).item()
        if not math.isfinite(loss):
            return replace(candidate, loss=math.inf, unlikeness=1.0)
        images = target.dim() == 4
        return replace(candidate, loss=loss, unlikeness=1 - ssim(result, target).item() if images else 1.0)

    def loss(self, result: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the consistency loss of final samples, differentiable."""
        return self._distance(self._seen(result), self._target(batch, result))

    def _target(self, batch: Batch, result: torch.Tensor) -> torch.Tensor:
        """Return the unpruned samples as the loss sees them, beside the pruned ones."""
        return self._seen(batch.target.to(result.device))

    def _seen(self, samples: torch.Tensor) -> torch.Tensor:
        """Return samples as the loss sees them: decoded if the config says so, a chunk at a time."""
        decode = self.config.decode
        if decode is None:
            return samples.float()
        seen = self.chunks.retried(
            lambda size: [decode(part) for part in torch.split(samples, size)], len(samples)
        )
        for part in seen:
            check("what decode returns", part, torch.Tensor, "a tensor")
        return torch.cat(seen).float()

    def charge(self, runs: float, batch: Batch) -> None:
        """Note `runs` unpruned runs of a batch."""
        self.budget.charge(runs * len(batch) / len(self.batch))
