"""Running a loop step by step: its path, gradients that recompute, and weights that steer back to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch.utils.checkpoint import checkpoint

from .passes import ORDER
from .passes.rules import tag

if TYPE_CHECKING:
    from .calibration import Batch

RIDGE = 1e-5
"""Pull of a fitted weight towards where it started, relative to the size of the values."""


def sample_path(split: fx.GraphModule, batch: Batch) -> torch.Tensor:
    """Return the samples after each step, `(T, n, ...)`, of a loop that `split_steps` split."""
    steps = _Recorded(split, batch)
    steps.run_on(batch, {})
    return torch.stack(steps.path)


def run_checkpointed(split: fx.GraphModule, batch: Batch, tables: dict[str, torch.Tensor]) -> torch.Tensor:
    """Run a split net so that the backward pass recomputes one step at a time.

    Memory then grows with T only by what steps hand to each other: samples and block outputs.
    """
    return _Checkpointed(split, batch).run_on(batch, tables)


def steer(
    split: fx.GraphModule,
    weights: torch.Tensor,
    free: dict[int, list[int]],
    keep: torch.Tensor,
    batch: Batch,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit the weights of the model's predictions by least squares; return them and the final samples.

    Where a prediction is a backup, the next sample is affine in its weights (all but, if the scheduler
    clips). Going through the loop once, each such step gets the weights that bring its sample closest
    to the unpruned one of that step, from wherever the pruned run is by then: errors so far are
    corrected, not repeated. A step at which that brings it no closer keeps its weights.

    Args:
        split: a SubNet whose `weights` are an input, split into steps.
        weights: `(T, N, 3)`, where the fit starts and what it leaves elsewhere.
        free: for each step the closed gates that the prediction reads directly.
        keep: `(T, N)` bool.
        batch: samples with their unpruned path.
    """
    steps = _Steered(split, batch, weights, free, keep)
    result = steps.run_on(batch, {"weights": steps.weights})
    return steps.weights.double().cpu(), result


class Steps(fx.Interpreter):
    """Runs a split net; a subclass says how a step is called."""

    def __init__(self, split: fx.GraphModule, batch: Batch, **options: Any) -> None:
        super().__init__(split, **options)
        self.split = split
        self.generator = torch.Generator().manual_seed(batch.seed)

    def run_on(self, batch: Batch, tables: dict[str, torch.Tensor]) -> torch.Tensor:
        """Run all steps on a batch."""
        given = {"sample": batch.sample, **batch.conditioning, "generator": self.generator, **tables}
        names = [str(node.target) for node in self.split.graph.nodes if node.op == "placeholder"]
        inputs = [given.get(name) for name in names]
        result: torch.Tensor = self.run(*inputs)
        return result

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Call the step of one submodule."""
        return self.call_step(self.step_of(target), self.fetch_attr(target), args)

    def step_of(self, target: str) -> int:
        """Return which step a submodule computes."""
        step: fx.GraphModule = self.fetch_attr(target)
        first = next(n for n in step.graph.nodes if n.op not in ("placeholder", "get_attr"))
        return int(tag(first, "step"))

    def call_step(self, index: int, step: fx.GraphModule, args: Any) -> Any:
        """Run step `index` on what earlier steps hand to it."""
        raise NotImplementedError


class _Checkpointed(Steps):
    """Recomputes every step in the backward pass, with the same noise."""

    def call_step(self, index: int, step: fx.GraphModule, args: Any) -> Any:
        """Run a step so that its inner values are made anew when they are needed."""
        state: list[torch.Tensor] = []

        def run(*inputs: Any) -> Any:
            if state:
                self.generator.set_state(state[0])
            else:
                state.append(self.generator.get_state())
            return step(*inputs)

        return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False)


class _Recorded(Steps):
    """Keeps the sample after every step."""

    def __init__(self, split: fx.GraphModule, batch: Batch) -> None:
        super().__init__(split, batch)
        self.path: list[torch.Tensor] = []

    def call_step(self, index: int, step: fx.GraphModule, args: Any) -> Any:
        result = step(*args)
        self.path.append(_sample_after(index, step, result))
        return result


class _Steered(Steps):
    """Fits the weights of a step's predictions before it runs; the table is edited in place."""

    def __init__(
        self,
        split: fx.GraphModule,
        batch: Batch,
        weights: torch.Tensor,
        free: dict[int, list[int]],
        keep: torch.Tensor,
    ) -> None:
        super().__init__(split, batch)
        self.weights = weights.to(batch.sample.device, torch.float32, copy=True)
        self.path, self.free, self.keep = batch.path, free, keep

    def call_step(self, index: int, step: fx.GraphModule, args: Any) -> Any:
        # Where nothing runs at the next step either, a Runge-Kutta scheduler's sample may have no reader.
        if index in self.free and index + 1 in _starts(step):
            return self._fitted(index, step, args)
        return step(*args)

    def _fitted(self, index: int, step: fx.GraphModule, args: Any) -> Any:
        """Fit the weights of step `index` and return what it then hands on."""
        row, run = self.weights[index], _Rerun(step, args, self.weights)
        entries = [
            (n, k) for n in self.free[index] for k in range(min(int(self.keep[:index, n].sum()), ORDER))
        ]
        start = torch.stack([row[entry] for entry in entries]).double()

        def result(weights: torch.Tensor) -> Any:
            for entry, weight in zip(entries, weights, strict=True):
                row[entry] = weight
            return run.again()

        def sample(weights: torch.Tensor) -> torch.Tensor:
            return _sample_after(index, step, result(weights)).flatten().double()

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


def _sample_after(index: int, step: fx.GraphModule, result: Any) -> torch.Tensor:
    """Pick the sample that step `index` hands on out of what its submodule returned."""
    values = result if isinstance(result, (tuple, list)) else (result,)
    sample: torch.Tensor = values[_starts(step).index(index + 1)]
    return sample


def _starts(step: fx.GraphModule) -> list[int | None]:
    """Return for each value that a step's submodule returns the step whose sample it is."""
    (returned,) = next(n for n in step.graph.nodes if n.op == "output").args
    nodes = returned if isinstance(returned, (tuple, list)) else (returned,)
    return [max(tag(node, "starts") or (None,)) for node in nodes]
