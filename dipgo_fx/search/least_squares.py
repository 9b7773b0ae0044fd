"""Weights of skipped steps by least squares, step by step while the pruned loop runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from ..passes import HISTORY, GateTable
from ..passes.insert_gates import WEIGHTS
from .batch import Batch
from .candidate import Candidate
from .evaluator import Evaluator
from .shares import Shares
from .stepwise import Lockstep, sample_after, starts

RIDGE = 1e-5
"""Pull of a fitted weight towards where it started, relative to the size of the values."""


@torch.no_grad()
def fit_stepwise(evaluator: Evaluator, candidate: Candidate, batch: Batch | None = None) -> Candidate:
    """Return the candidate with the weights of the model's predictions fitted, and its loss, in one run.

    Where a prediction is a backup, the next sample is affine in its weights (all but, if the scheduler
    clips). Going through the loop once, each such step gets the weights that bring its sample closest
    to the unpruned one of that step, from wherever the pruned run is by then: errors so far are
    corrected, not repeated. A step at which that brings it no closer keeps its weights. Chunks go through the
    loop side by side, and each step's normal equations are summed over them.

    Args:
        evaluator: charged with the run.
        candidate: its weights are where the fit starts and what it leaves elsewhere.
        batch: all calibration samples if omitted.
    """
    chosen = batch or evaluator.batch
    split = evaluator.learnable(candidate)
    gates = forecast_heads(evaluator, candidate.table)

    def fit(chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
        shares = Shares(chosen.chunks(chunk))
        steps = _Fitting(split, shares, candidate.table, gates)
        return torch.cat(shares.join(steps.run_with({WEIGHTS: steps.weights}))), steps.weights

    result, weights = evaluator.chunks.retried(fit, len(chosen))
    return evaluator.score(candidate.with_weights(weights.double().cpu()), result, chosen)


def forecast_heads(evaluator: Evaluator, table: GateTable) -> dict[int, list[int]]:
    """Return the steps at which a prediction is a backup, and the closed gates that give it."""
    reads = evaluator.cost.reads
    liveness = reads.liveness(table)
    found = {
        step: [head for head in reads.heads if liveness.reads_backup(step, head)]
        for step in range(evaluator.cost.num_steps)
    }
    return {step: heads for step, heads in found.items() if heads}


class _Fitting(Lockstep):
    """Fits the weights of a step's predictions before it runs; the table `weights` is edited in place.

    `gates` are for each step the closed gates that the prediction reads directly.
    """

    def __init__(
        self, split: fx.GraphModule, shares: Shares[Batch], table: GateTable, gates: dict[int, list[int]]
    ) -> None:
        super().__init__(split, shares.own)
        self.weights = table.weights.to(shares.own[0].sample.device, torch.float32, copy=True)
        self.shares, self.gates, self.keep = shares, gates, table.keep

    def call_step(self, index: int, step: Any, args: Sequence[Any]) -> list[Any]:
        # Where nothing runs at the next step either, a Runge-Kutta scheduler's sample may have no reader.
        if index in self.gates and index + 1 in starts(step):
            return self._fitted(index, step, args)
        return super().call_step(index, step, args)

    def _fitted(self, index: int, step: fx.GraphModule, args: Sequence[Any]) -> list[Any]:
        """Fit the weights of step `index` and return what it then hands on."""
        row = self.weights[index]
        entries = [
            (n, k) for n in self.gates[index] for k in range(min(int(self.keep[:index, n].sum()), HISTORY))
        ]
        start = torch.stack([row[entry] for entry in entries]).double()
        chunks = [
            _Affine(index, step, each, self.weights, entries, run.batch)
            for run, each in zip(self.runs, args, strict=True)
        ]
        gram, slope = (self._total(parts) for parts in zip(*(c.normal(start) for c in chunks), strict=True))
        fitted = start + _ridge(gram, slope).to(start)
        # Clipping is not affine: what was fitted may then be farther off than where the fit started.
        closer = bool(
            self._total([chunk.error(fitted) for chunk in chunks])
            < self._total([chunk.error(start) for chunk in chunks])
        )
        return [chunk.result(fitted if closer else start) for chunk in chunks]

    def _total(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.shares.sum(torch.stack(list(parts)).sum(0))


class _Affine:
    """A step of one chunk: the sample that it hands on, affine in the weights of its predictions."""

    def __init__(
        self,
        index: int,
        step: fx.GraphModule,
        args: Any,
        weights: torch.Tensor,
        entries: list[tuple[int, int]],
        batch: Batch,
    ) -> None:
        self.index, self.step, self.row, self.entries = index, step, weights[index], entries
        self.wanted = batch.path[index].to(batch.sample.device).flatten().double()
        self.run = _Rerun(step, args, weights)

    def result(self, weights: torch.Tensor) -> Any:
        """Return what the step hands on with these weights."""
        for entry, weight in zip(self.entries, weights, strict=True):
            self.row[entry] = weight
        return self.run.again()

    def normal(self, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the normal equations of what must be added to `start`."""
        base = self._sample(torch.zeros_like(start))
        columns = torch.stack([self._sample(unit) - base for unit in torch.eye(len(start)).to(start)], 1)
        return columns.T @ columns, columns.T @ (self.wanted - base - columns @ start)

    def error(self, weights: torch.Tensor) -> torch.Tensor:
        """Return how far the sample is from the unpruned one, squared."""
        return (self._sample(weights) - self.wanted).square().sum()

    def _sample(self, weights: torch.Tensor) -> torch.Tensor:
        return sample_after(self.index, self.step, self.result(weights)).flatten().double()


class _Rerun(fx.Interpreter):
    """Runs a step again after a table was edited: what does not depend on the table is not run again.

    That is all that the model computes at the step, and the noise it draws.
    """

    def __init__(self, step: fx.GraphModule, args: Any, table: torch.Tensor) -> None:
        super().__init__(step)
        self.known: dict[fx.Node, Any] = {}
        placeholders = [node for node in step.graph.nodes if node.op == "placeholder"]
        moving = {node for node, given in zip(placeholders, args, strict=True) if given is table}
        for node in step.graph.nodes:
            if node.op == "output" or not moving.isdisjoint(node.all_input_nodes):
                moving.add(node)
        self.still = {node for node in step.graph.nodes if node not in moving} | set(placeholders)
        self.read_again = {read for node in moving for read in node.all_input_nodes}
        self.run(*args)

    def run_node(self, node: fx.Node) -> Any:
        """Run a node and keep its value if it stays and is read again."""
        value = super().run_node(node)
        if node in self.still:
            self.known[node] = value if node in self.read_again else None
        return value

    def again(self) -> Any:
        """Return what the step returns with the table as it is now."""
        # A node with a value, be it None, is passed over.
        return self.run(initial_env=dict(self.known))


def _ridge(gram: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Return what least squares adds to the weights, next to nothing where the columns hardly differ."""
    pull = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    if not bool(gram.any()):  # the scheduler does not read the model at this step
        return torch.zeros_like(slope)
    change: torch.Tensor = torch.linalg.solve(gram + pull, slope)
    return change
