"""What stands in for what does not run, from the last value to weights fitted on the pruned path."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import fx

from benchmarks.plans.unpruned_fits import fitted_weights, gram_of
from benchmarks.plans.whole_steps import NEWTON_RUNS
from dipgo_fx.passes import HISTORY, Backup, GateTable
from dipgo_fx.passes.gate_table import HISTORY_OF, last_kept
from dipgo_fx.passes.tags import is_block_output, tag
from dipgo_fx.search.batch import Batch
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.gauss_newton import gauss_newton
from dipgo_fx.search.least_squares import fit_stepwise

from .designs import FITTED, LINEAR, NEWTON, REUSE

PLAIN: dict[str, Backup] = {REUSE: "reuse", LINEAR: "linear"}
CHUNK = 2  # samples whose values of all blocks are held at once


class Forecasts:
    """Predicts at the gates that a keep table closes; unpruned values are looked at once a loop."""

    def __init__(self) -> None:
        self._grams: dict[tuple[bool, int], torch.Tensor] = {}

    def evaluated(self, kind: str, evaluator: Evaluator, keep: torch.Tensor, batch: Batch) -> Candidate:
        """Return the candidate of a keep table and a way to predict, fitted and evaluated on a batch.

        A Gauss-Newton step is only made on all calibration samples.
        """
        if kind in PLAIN:
            backup = PLAIN[kind]
            return evaluator.evaluate(Candidate(GateTable.of(keep, backup), HISTORY_OF[backup]), batch)
        if kind == FITTED:
            return evaluator.evaluate(Candidate(self._fitted(evaluator, keep), HISTORY), batch)
        fitted = fit_stepwise(evaluator, Candidate(GateTable.of(keep, "linear"), HISTORY), batch)
        if kind == NEWTON and batch is evaluator.batch:
            most = NEWTON_RUNS * evaluator.cost.kept(fitted.table)
            return gauss_newton(evaluator, fitted, most)
        return fitted

    def _fitted(self, evaluator: Evaluator, keep: torch.Tensor) -> GateTable:
        """Return the table whose closed gates have the weights that fit unpruned values best."""
        linear = GateTable.of(keep, "linear")
        weights, steps = linear.weights.clone(), range(len(keep))
        liveness = evaluator.cost.reads.liveness_at_most(keep, HISTORY)
        read = [(t, n) for t in steps for n in range(keep.shape[1]) if liveness.reads_backup(t, n)]
        grams = self._of_blocks(evaluator, {block for _, block in read})
        past = last_kept(linear.keep_rows)
        for step, block in read:
            known = list(dict.fromkeys(past[step][block]))
            start = linear.weights[step, block, : len(known)]
            weights[step, block, : len(known)] = fitted_weights(grams[block], step, known, start)
        return GateTable(linear.keep, weights)

    def _of_blocks(self, evaluator: Evaluator, blocks: Collection[int]) -> dict[int, torch.Tensor]:
        """Return the products of blocks' values at any two steps, `(T, T)`, in the run that made the targets.

        That run is charged for already.
        """
        split = evaluator.loop.facts.guidance.split
        missing = {block for block in blocks if (split, block) not in self._grams}
        if missing:
            for block, gram in grams_of(evaluator, missing).items():
                self._grams[split, block] = gram
        return {block: self._grams[split, block] for block in blocks}


@torch.no_grad()
def grams_of(evaluator: Evaluator, blocks: Collection[int]) -> dict[int, torch.Tensor]:
    """Return `gram_of` of the values of some blocks in unpruned runs of the calibration samples."""
    totals: dict[int, torch.Tensor] = {}
    for part in evaluator.batch.chunks(CHUNK):
        values = _Values(evaluator.loop, blocks)
        values.run_on(part)
        for block, by_step in values.found.items():
            gram = gram_of(torch.stack([torch.cat(by_step[step]) for step in sorted(by_step)]).double())
            share = len(part) / len(evaluator.batch)
            totals[block] = totals.get(block, torch.zeros_like(gram)) + share * gram
    return totals


class _Values(fx.Interpreter):
    """Runs a traced loop and keeps what some blocks return at each step."""

    def __init__(self, loop: fx.GraphModule, blocks: Collection[int]) -> None:
        super().__init__(loop)
        names = loop.meta["facts"].blocks
        self._numbers = {names[block]: block for block in blocks}
        self.found: dict[int, dict[int, list[torch.Tensor]]] = {}

    def run_on(self, batch: Batch) -> None:
        """Run the loop on a batch."""
        given = {"sample": batch.sample, **batch.conditioning, "generator": batch.generators()}
        placeholders = [node for node in self.module.graph.nodes if node.op == "placeholder"]  # type: ignore[union-attr]
        self.run(*(given.get(str(node.target)) for node in placeholders))

    def run_node(self, node: fx.Node) -> Any:
        """Run a node, and note its value if it is one of the blocks'."""
        value = super().run_node(node)
        number = self._numbers.get(tag(node, "block"))
        if number is not None and is_block_output(node):
            by_step = self.found.setdefault(number, {})
            by_step.setdefault(tag(node, "step"), []).append(value.flatten())
        return value
