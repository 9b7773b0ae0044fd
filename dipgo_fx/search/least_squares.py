"""Weights of skipped steps by least squares, step by step while the pruned loop runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from ..passes import HISTORY
from ..passes.insert_gates import WEIGHTS
from ..passes.steer_calls import MIX
from .batch import Batch
from .candidate import Candidate, Tables
from .evaluator import Evaluator
from .off_grid import place_of
from .shares import Shares
from .stepwise import Lockstep, sample_after, starts

RIDGE = 1e-5
"""Pull of what is fitted towards where it started, relative to the size of the values that it weighs."""


Entry = tuple[str, tuple[int, ...]]
"""A number that is fitted: the name of its table and its place there."""


@torch.no_grad()
def fit_stepwise(evaluator: Evaluator, candidate: Candidate, batch: Batch | None = None) -> Candidate:
    """Return the candidate with what makes up the model's predictions fitted, and its loss, in one run.

    Where a prediction is a backup, the next sample is affine in its weights (all but, if the scheduler
    clips), and so it is in the mixture of a steered call. Going through the loop once, each step gets those
    that bring its sample closest to the unpruned one of that step (or, if the next is told another timestep,
    the one of that), from wherever the pruned run is by then: errors so far are corrected, not repeated. A
    step at which that brings it no closer keeps what it has.
    Chunks go through the loop side by side, and each step's normal equations are summed over them.

    Args:
        evaluator: charged with the run.
        candidate: its tables are where the fit starts and what it leaves elsewhere.
        batch: all calibration samples if omitted.
    """
    chosen = batch or evaluator.batch

    def measured() -> Tables:
        result, tables = _fitted_run(evaluator, candidate, chosen)
        return {**tables, **evaluator.with_loss(candidate, result, chosen).scores}

    fitted = evaluator.noted(f"fit {candidate.digest}", measured)
    return evaluator.charged(candidate.with_tables(fitted).with_scores(fitted), chosen)


def _fitted_run(evaluator: Evaluator, candidate: Candidate, batch: Batch) -> tuple[torch.Tensor, Tables]:
    """Return the samples of the run in which a candidate is fitted, and its tables afterwards."""
    split = evaluator.learnable(candidate)
    entries, places = stepwise_entries(evaluator, candidate), _places(evaluator, candidate)

    def fit(chunk: int) -> tuple[torch.Tensor, Tables]:
        shares = Shares(batch.chunks(chunk))
        steps = _Fitting(split, shares, candidate.tables(shares.own[0].sample.device), entries, places)
        return torch.cat(shares.join(steps.run_with(steps.tables))), steps.tables

    return evaluator.chunks.retried(fit, len(batch))


def _places(evaluator: Evaluator, candidate: Candidate) -> list[float]:
    """Return where on the unpruned path, see `Batch.at`, each step should leave the sample.

    That is where the next step takes itself to be: between two steps if the model is told so.
    """
    timesteps = evaluator.loop.facts.timesteps
    told = [1.0] * len(timesteps) if candidate.steering is None else candidate.steering.told.tolist()
    return [*(place_of(step, timesteps, told[step]) for step in range(1, len(timesteps))), len(timesteps)]


def stepwise_entries(evaluator: Evaluator, candidate: Candidate) -> dict[int, list[Entry]]:
    """Return for each step what is fitted there: weights of a prediction that is a backup, and mixtures."""
    reads, keep = evaluator.cost.reads, candidate.table.keep
    liveness = reads.liveness(candidate.table)
    found: dict[int, list[Entry]] = {}
    for step in range(evaluator.cost.num_steps):
        heads = [head for head in reads.heads if liveness.reads_backup(step, head)]
        found[step] = [
            (WEIGHTS, (step, head, k))
            for head in heads
            for k in range(min(int(keep[:step, head].sum()), HISTORY))
        ]
        if candidate.steering is not None:
            found[step] += [(MIX, place) for place in mixed_entries(evaluator, candidate, step)]
    return {step: entries for step, entries in found.items() if entries}


def mixed_entries(evaluator: Evaluator, candidate: Candidate, step: int) -> list[tuple[int, ...]]:
    """Return the places of the mixtures that are worth fitting at a step, none at the first run.

    A skipped call takes some of the sample beside its forecast, which can be all else. A running call is
    mixed where the next one runs too: otherwise the forecasts in between express the same correction.
    """
    cost, keep = evaluator.cost, candidate.table.keep
    first, found = candidate.table.first, list[tuple[int, ...]]()
    # The calls of a step have equal shares of the sample before they run, so those are not fitted apart.
    if step == first or (step < first and cost.num_calls > 1):
        return found
    for call in range(cost.num_calls):
        heads = cost.heads_of(call)
        runs = [bool(keep[t, heads].all()) for t in range(step, min(step + 2, cost.num_steps))]
        columns = range(4) if all(runs) else () if runs[0] else range(1)
        found += [(step, call, column) for column in columns if column < 2 or column - 1 <= step - first]
    return found if evaluator.carries_sample else [place for place in found if place[-1] > 0]


class _Fitting(Lockstep):
    """Fits what makes up a step's predictions before it runs; the tables are edited in place.

    `entries` are for each step what is fitted, `places` where it should leave the sample.
    """

    def __init__(
        self,
        split: fx.GraphModule,
        shares: Shares[Batch],
        tables: Tables,
        entries: dict[int, list[Entry]],
        places: Sequence[float],
    ) -> None:
        super().__init__(split, shares.own)
        self.tables, self.shares, self.entries, self.places = tables, shares, entries, places

    def call_step(self, index: int, step: Any, args: Sequence[Any]) -> list[Any]:
        # Where nothing runs at the next step either, a Runge-Kutta scheduler's sample may have no reader.
        if index in self.entries and index + 1 in starts(step):
            return self._fitted(index, step, args)
        return super().call_step(index, step, args)

    def _fitted(self, index: int, step: fx.GraphModule, args: Sequence[Any]) -> list[Any]:
        """Fit step `index` and return what it then hands on."""
        entries = self.entries[index]
        start = torch.stack([self.tables[name][place] for name, place in entries]).double()
        chunks = [
            _Affine(index, step, each, self.tables, entries, self._wanted(run.batch, index))
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

    def _wanted(self, batch: Batch, index: int) -> torch.Tensor:
        return batch.at(self.places[index]).to(batch.sample.device)

    def _total(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.shares.sum(torch.stack(list(parts)).sum(0))


class _Affine:
    """A step of one chunk: the sample that it hands on, affine in what makes up its predictions."""

    def __init__(
        self,
        index: int,
        step: fx.GraphModule,
        args: Any,
        tables: Tables,
        entries: list[Entry],
        wanted: torch.Tensor,
    ) -> None:
        self.index, self.step, self.tables, self.entries = index, step, tables, entries
        self.wanted = wanted.flatten().double()
        self.run = _Rerun(step, args, [tables[name] for name in {name for name, _ in entries}])

    def result(self, values: torch.Tensor) -> Any:
        """Return what the step hands on with these values of the entries."""
        for (name, place), value in zip(self.entries, values, strict=True):
            self.tables[name][place] = value
        return self.run.again()

    def normal(self, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the normal equations of what must be added to `start`."""
        base = self._sample(start)
        units = torch.eye(len(start)).to(start)
        columns = torch.stack([self._sample(start + unit) - base for unit in units], 1)
        return columns.T @ columns, columns.T @ (self.wanted - base)

    def error(self, values: torch.Tensor) -> torch.Tensor:
        """Return how far the sample is from the unpruned one, squared."""
        return (self._sample(values) - self.wanted).square().sum()

    def _sample(self, values: torch.Tensor) -> torch.Tensor:
        return sample_after(self.index, self.step, self.result(values)).flatten().double()


class _Rerun(fx.Interpreter):
    """Runs a step again after tables were edited: what does not depend on them is not run again.

    That is all that the model computes at the step, and the noise it draws.
    """

    def __init__(self, step: fx.GraphModule, args: Any, tables: list[torch.Tensor]) -> None:
        super().__init__(step)
        self.known: dict[fx.Node, Any] = {}
        placeholders = [node for node in step.graph.nodes if node.op == "placeholder"]
        moving = {
            node
            for node, given in zip(placeholders, args, strict=True)
            if any(given is table for table in tables)
        }
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
        """Return what the step returns with the tables as they are now."""
        # A node with a value, be it None, is passed over.
        return self.run(initial_env=dict(self.known))


def _ridge(gram: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Return what least squares adds to the weights, next to nothing where the columns hardly differ."""
    if not bool(gram.any()):  # the scheduler does not read the model at this step
        return torch.zeros_like(slope)
    size = gram.diagonal()
    change: torch.Tensor = torch.linalg.solve(gram + torch.diag(RIDGE * size + 1e-12 * size.mean()), slope)
    return change
