"""Weights of skipped steps by least squares, step by step while the pruned loop runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from ..passes import HISTORY, GateTable, split_steps
from ..passes.insert_gates import WEIGHTS
from .batch import Batch
from .candidate import Candidate
from .evaluator import Evaluator
from .stepwise import Stepwise, sample_after, starts

RIDGE = 1e-5
"""Pull of a fitted weight towards where it started, relative to the size of the values."""


@torch.no_grad()
def fit_stepwise(evaluator: Evaluator, candidate: Candidate, batch: Batch | None = None) -> Candidate:
    """Return the candidate with the weights of the model's predictions fitted, and its loss, in one run.

    Where a prediction is a backup, the next sample is affine in its weights (all but, if the scheduler
    clips). Going through the loop once, each such step gets the weights that bring its sample closest
    to the unpruned one of that step, from wherever the pruned run is by then: errors so far are
    corrected, not repeated. A step at which that brings it no closer keeps its weights.

    Args:
        evaluator: charged with the run.
        candidate: its weights are where the fit starts and what it leaves elsewhere.
        batch: all calibration samples if omitted.
    """
    chosen = batch or evaluator.batch
    split = split_steps(evaluator.learnable(candidate))
    gates = forecast_heads(evaluator, candidate.table)
    steps = _Fitting(split, chosen, candidate.table, gates)
    result = steps.run_on(chosen, {WEIGHTS: steps.weights})
    return evaluator.score(candidate.with_weights(steps.weights.double().cpu()), result, chosen)


def forecast_heads(evaluator: Evaluator, table: GateTable) -> dict[int, list[int]]:
    """Return the steps at which a prediction is a backup, and the closed gates that give it."""
    reads = evaluator.cost.reads
    liveness = reads.liveness(table)
    found = {
        step: [head for head in reads.heads if liveness.reads_backup(step, head)]
        for step in range(evaluator.cost.num_steps)
    }
    return {step: heads for step, heads in found.items() if heads}


class _Fitting(Stepwise):
    """Fits the weights of a step's predictions before it runs; the table `weights` is edited in place.

    `gates` are for each step the closed gates that the prediction reads directly.
    """

    def __init__(
        self, split: fx.GraphModule, batch: Batch, table: GateTable, gates: dict[int, list[int]]
    ) -> None:
        super().__init__(split, batch)
        self.weights = table.weights.to(batch.sample.device, torch.float32, copy=True)
        self.path, self.gates, self.keep = batch.path, gates, table.keep

    def call_step(self, index: int, step: fx.GraphModule, args: Any) -> Any:
        # Where nothing runs at the next step either, a Runge-Kutta scheduler's sample may have no reader.
        if index in self.gates and index + 1 in starts(step):
            return self._fitted(index, step, args)
        return step(*args)

    def _fitted(self, index: int, step: fx.GraphModule, args: Any) -> Any:
        """Fit the weights of step `index` and return what it then hands on."""
        row, run = self.weights[index], _Rerun(step, args, self.weights)
        entries = [
            (n, k) for n in self.gates[index] for k in range(min(int(self.keep[:index, n].sum()), HISTORY))
        ]
        start = torch.stack([row[entry] for entry in entries]).double()

        def result(weights: torch.Tensor) -> Any:
            for entry, weight in zip(entries, weights, strict=True):
                row[entry] = weight
            return run.again()

        def sample(weights: torch.Tensor) -> torch.Tensor:
            return sample_after(index, step, result(weights)).flatten().double()

        base, wanted = sample(torch.zeros_like(start)), self.path[index].flatten().double()
        columns = [sample(unit) - base for unit in torch.eye(len(entries)).to(start)]
        fitted = _ridge(torch.stack(columns, 1), wanted - base, start)
        # Clipping is not affine: what was fitted may then be farther off than where the fit started.
        closer = bool((sample(fitted) - wanted).norm() < (sample(start) - wanted).norm())
        return result(fitted if closer else start)


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


def _ridge(columns: torch.Tensor, wanted: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Return the least-squares weights, drawn to `start` where the columns hardly differ."""
    gram = columns.T @ columns
    pull = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    if not bool(gram.any()):  # the scheduler does not read the model at this step
        return start
    change: torch.Tensor = torch.linalg.solve(gram + pull, columns.T @ (wanted - columns @ start))
    return start + change
