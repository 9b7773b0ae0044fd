"""Running a loop step by step: for its path, for gradients that recompute, and to resume in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch.utils.checkpoint import checkpoint

from ..passes.tags import tag
from .batch import Batch


def sample_path(split: fx.GraphModule, batch: Batch) -> torch.Tensor:
    """Return the samples after each step, `(T, n, ...)`, of a loop that `split_steps` split."""
    steps = _Recorded(split, batch)
    steps.run_with({})
    return torch.stack(steps.path)


def run_checkpointed(split: fx.GraphModule, batch: Batch, tables: dict[str, torch.Tensor]) -> torch.Tensor:
    """Run a split net so that the backward pass recomputes one step at a time.

    Memory then grows with T only by what steps hand to each other: samples and block outputs.
    """
    return _Checkpointed(split, batch).run_with(tables)


class Stepwise(fx.Interpreter):
    """Runs a split net; a subclass says how a step is called."""

    def __init__(self, split: fx.GraphModule, batch: Batch, **options: Any) -> None:
        super().__init__(split, **options)
        self.split, self.batch = split, batch
        self.generators = batch.generators()

    def run_with(self, tables: dict[str, torch.Tensor]) -> torch.Tensor:
        """Run all steps on the batch."""
        result: torch.Tensor = self.run(*self.inputs(tables))
        return result

    def inputs(self, tables: dict[str, torch.Tensor]) -> list[Any]:
        """Return the inputs of the split net in order."""
        batch = self.batch
        given = {"sample": batch.sample, **batch.conditioning, "generator": self.generators, **tables}
        names = [str(node.target) for node in self.split.graph.nodes if node.op == "placeholder"]
        return [given.get(name) for name in names]

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


class _Checkpointed(Stepwise):
    """Recomputes every step in the backward pass, with the same noise."""

    def call_step(self, index: int, step: fx.GraphModule, args: Any) -> Any:
        """Run a step so that its inner values are made anew when they are needed."""
        states: list[torch.Tensor] = []

        def run(*inputs: Any) -> Any:
            if states:
                _set_states(self.generators, states)
            else:
                states.extend(_states(self.generators))
            return step(*inputs)

        return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False)


class _Recorded(Stepwise):
    """Keeps the sample after every step."""

    def __init__(self, split: fx.GraphModule, batch: Batch) -> None:
        super().__init__(split, batch)
        self.path: list[torch.Tensor] = []

    def call_step(self, index: int, step: fx.GraphModule, args: Any) -> Any:
        result = step(*args)
        self.path.append(sample_after(index, step, result))
        return result


class Resumable(Stepwise):
    """Remembers what steps handed on in its first run, so that another may begin in the middle."""

    def __init__(self, split: fx.GraphModule, batch: Batch) -> None:
        super().__init__(split, batch, garbage_collect_values=False)
        self.noise: dict[int, list[torch.Tensor]] = {}

    def call_step(self, index: int, step: fx.GraphModule, args: Any) -> Any:
        """Run a step; the first time note where the noise it draws begins."""
        self.noise.setdefault(index, _states(self.generators))
        return step(*args)

    def remember(self) -> None:
        """Keep the values of the run that just ended, by the step they come from."""
        self.known = dict(self.env)

    def again(self, first: int, tables: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the final samples with other tables from step `first` on."""
        known = {node: value for node, value in self.known.items() if self._made_at(node) < first}
        known |= {
            node: tables[str(node.target)]
            for node in known
            if node.op == "placeholder" and node.target in tables
        }
        _set_states(self.generators, self.noise[min(step for step in self.noise if step >= first)])
        result: torch.Tensor = self.run(initial_env=known)
        return result

    def _made_at(self, node: fx.Node) -> int:
        """Return the step a value of the split graph comes from, -1 for inputs."""
        if node.op == "call_module":
            return self.step_of(str(node.target))
        return max((self._made_at(read) for read in node.all_input_nodes), default=-1)


class Lockstep:
    """Runs a split net on the chunks of a batch together, each step on one after the other.

    What a step makes of all samples is then known before the next begins, and no more than a chunk is in the
    model at once. Between steps a chunk keeps what steps hand on: samples and block outputs.
    """

    def __init__(self, split: fx.GraphModule, chunks: Sequence[Batch]) -> None:
        self.split, self.runs = split, [Stepwise(split, chunk) for chunk in chunks]

    def run_with(self, tables: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Run all steps, and return the final samples of each chunk."""
        for run in self.runs:
            run.env, run.args_iter = {}, iter(run.inputs(tables))
        values: list[Any] = []
        for node in self.split.graph.nodes:
            if node.op == "call_module":
                index, step = self.runs[0].step_of(node.target), self.split.get_submodule(node.target)
                values = self.call_step(
                    index, step, [run.map_nodes_to_values(node.args, node) for run in self.runs]
                )
            else:
                values = [run.run_node(node) for run in self.runs]
            for run, value in zip(self.runs, values, strict=True):
                run.env[node] = value
                for gone in run.user_to_last_uses.get(node, []):
                    del run.env[gone]
        return values

    def call_step(self, index: int, step: Any, args: Sequence[Any]) -> list[Any]:
        """Run step `index` on what earlier steps hand to it for each chunk."""
        return [step(*each) for each in args]


def _states(generators: Sequence[torch.Generator]) -> list[torch.Tensor]:
    return [generator.get_state() for generator in generators]


def _set_states(generators: Sequence[torch.Generator], states: Sequence[torch.Tensor]) -> None:
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)


def sample_after(index: int, step: fx.GraphModule, result: Any) -> torch.Tensor:
    """Pick the sample that step `index` hands on out of what its submodule returned."""
    values = result if isinstance(result, (tuple, list)) else (result,)
    sample: torch.Tensor = values[starts(step).index(index + 1)]
    return sample


def starts(step: fx.GraphModule) -> list[int | None]:
    """Return for each value that a step's submodule returns the step whose sample it is."""
    (returned,) = next(n for n in step.graph.nodes if n.op == "output").args
    nodes = returned if isinstance(returned, (tuple, list)) else (returned,)
    return [max(tag(node, "starts") or (None,)) for node in nodes]
