"""Compiles candidates, runs them on calibration samples, and charges for it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import cached_property

import torch
from torch import fx

from ..arguments import check
from ..cost import LoopCost
from ..loop import Loop
from ..passes import (
    BindGates,
    DropDeadBlocks,
    GateTable,
    InsertGates,
    Pipeline,
    SteerCalls,
    Steering,
    split_steps,
)
from ..passes.base import draft_class
from ..passes.steer_calls import can_steer, carries_sample
from ..passes.trim import trimmed
from ..placement import Runs
from .batch import Batch
from .candidate import Candidate, Tables
from .chunks import Chunks
from .config import Config
from .journal import NO_JOURNAL, Journal
from .losses import consistency_loss, ssim
from .run_budget import RunBudget

logger = logging.getLogger(__name__)
CHUNK = "chunk"
"""What the journal calls the number of samples in the model at once, which running out of memory halves."""
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
        curve: `(full runs spent, loss)` of every evaluation on the whole batch whose loss is finite.
        journal: notes whatever the model has to run for.
    """

    def __init__(
        self,
        loop: Loop,
        cost: LoopCost,
        batch: Batch,
        config: Config,
        limit: float = math.inf,
        journal: Journal = NO_JOURNAL,
    ) -> None:
        self.loop, self.cost, self.batch, self.config = loop, cost, batch, config
        self.journal = journal
        self.chunks = Chunks(config.chunk)
        self.budget = RunBudget(limit)
        self.budget.charge(1.0)  # the unpruned run that made the targets
        self.curve: list[tuple[float, float]] = []
        self._distance = consistency_loss(config.loss)
        self._supernets: dict[Hashable, fx.GraphModule] = {}
        self._learnable: dict[Hashable, fx.GraphModule] = {}

    # -- compiling

    def supernet(self, history: int, steering: Steering | None = None) -> fx.GraphModule:
        """Return the loop with all gates in place and, of a steering, its tables as inputs."""
        key = history, None if steering is None else steering.first
        if key not in self._supernets:
            loop: fx.GraphModule = self.loop
            if steering is not None:
                loop = SteerCalls(steering, free=True)(loop).graph_module
            self._supernets[key] = InsertGates(history)(loop).graph_module
        return self._supernets[key]

    def steering(self, runs: Runs) -> Steering | None:
        """Return the steering to start from, see `Runs`; `None` for a loop whose calls cannot be steered."""
        shape = self.cost.num_steps, self.cost.num_calls
        return Steering.neutral(*shape, runs[0][0]) if self.can_steer else None

    @cached_property
    def carries_sample(self) -> bool:
        """Whether a steered prediction can take some of the sample."""
        return carries_sample(self.loop.graph)

    @cached_property
    @torch.no_grad()
    def can_steer(self) -> bool:
        """Whether the calls of the loop can be steered."""
        if not can_steer(self.loop):
            return False
        self.seen(self.batch.first(1).target)  # what is wrong with `decode` has nothing to do with steering
        neutral = Steering.neutral(self.cost.num_steps, self.cost.num_calls)
        whole = Candidate(GateTable.of(self.cost.all_kept), steering=neutral)
        try:
            self.evaluate(whole, self.batch.first(1))
        except torch.OutOfMemoryError:
            raise
        except (IndexError, RuntimeError, TypeError) as error:
            logger.warning(
                "the model cannot be told other timesteps, so the search does without and ends farther from "
                "the unpruned samples: %s",
                error,
            )
            return False
        return True

    def subnet(self, table: GateTable) -> fx.GraphModule:
        """Return the SubNet of a gate table."""
        return self._bound(self.supernet(table.history), BindGates(table), Loop)

    def learnable(self, candidate: Candidate) -> fx.GraphModule:
        """Return the SubNet of a candidate whose tables are inputs, see `Candidate.tables`, split into steps.

        The last few are kept: a candidate is fitted on some samples, then on all, then moved.
        """
        steering = candidate.steering
        key = candidate.history, steering is None, tuple(map(tuple, candidate.table.keep_rows))
        split = self._learnable.pop(key, None)
        if split is None:
            bind = BindGates(candidate.table, free_weights=True)
            supernet = self.supernet(candidate.history, steering)
            split = split_steps(self._bound(supernet, bind, draft_class(Loop)))
        self._learnable[key] = split
        while len(self._learnable) > MOST_LEARNABLE:
            del self._learnable[next(iter(self._learnable))]
        return split

    def _bound(self, supernet: fx.GraphModule, bind: BindGates, kind: type[fx.GraphModule]) -> fx.GraphModule:
        supernet = trimmed(supernet, bind.table)
        return Pipeline((bind, DropDeadBlocks()), kind=kind).edit(supernet)

    # -- running

    def noted(self, what: str, make: Callable[[], Tables]) -> Tables:
        """Return a measurement from the journal, with the size of chunks that it ended with, or make it."""

        def measured() -> Tables:
            made = make()
            return {**made, CHUNK: torch.tensor(self.chunks.size)}

        noted = dict(self.journal.once(what, measured))
        self.chunks.size = int(noted.pop(CHUNK))
        return noted

    @torch.no_grad()
    def evaluate(self, candidate: Candidate, batch: Batch | None = None) -> Candidate:
        """Return the candidate with its loss on a batch, all calibration samples if omitted."""
        chosen = batch or self.batch

        def measured() -> Tables:
            result = torch.cat(self.chunks.map(self._runner(candidate), chosen))
            return self.with_loss(candidate, result, chosen).scores

        scores = self.noted(f"evaluate {candidate.digest}", measured)
        return self.charged(candidate.with_scores(scores), chosen)

    def _runner(self, candidate: Candidate) -> Callable[[Batch], torch.Tensor]:
        """Return what runs a candidate on a batch."""
        if candidate.steering is None:
            subnet = self.subnet(candidate.table)
            return lambda part: part.run(subnet)
        split = self.learnable(candidate)
        read = {str(node.target) for node in split.graph.nodes if node.op == "placeholder"}

        def run(part: Batch) -> torch.Tensor:
            tables = candidate.tables(part.sample.device)
            return part.run(split, **{name: table for name, table in tables.items() if name in read})

        return run

    def charged(self, candidate: Candidate, batch: Batch) -> Candidate:
        """Charge for the run of a batch that gave a candidate its loss, and return the candidate."""
        self.charge(self.cost.kept(candidate.table), batch)
        if batch is self.batch and math.isfinite(candidate.loss):
            self.curve.append((self.budget.spent, candidate.loss))
        return candidate

    def with_loss(self, candidate: Candidate, result: torch.Tensor, batch: Batch) -> Candidate:
        """Return the candidate with the loss of samples that it made; nothing is charged."""
        result, target = self.seen(result), self._target(batch, result)
        loss = self._distance(result, target).item()
        if not math.isfinite(loss):
            return replace(candidate, loss=math.inf, unlikeness=1.0)
        unlikeness = 1 - ssim(result, target).item() if target.dim() == 4 else 1.0
        # Of large samples SSIM overflows long before a loss does, and nothing can be ranked by NaN.
        return replace(candidate, loss=loss, unlikeness=unlikeness if math.isfinite(unlikeness) else 1.0)

    def loss(self, result: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the consistency loss of final samples, differentiable."""
        return self._distance(self.seen(result), self._target(batch, result))

    def _target(self, batch: Batch, result: torch.Tensor) -> torch.Tensor:
        """Return the unpruned samples as the loss sees them, beside the pruned ones."""
        target = self.seen(batch.target.to(result.device))
        if not bool(target.isfinite().all()):
            raise FloatingPointError(
                "the unpruned samples of the search are infinite or NaN"
                + ("" if self.config.decode is None else " after decode: does it run in a wide enough dtype?")
            )
        return target

    def seen(self, samples: torch.Tensor) -> torch.Tensor:
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
