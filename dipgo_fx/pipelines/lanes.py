"""Run the steps of a plan one call at a time: what is traced, what is carried, what is let go."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..cuda_graphs import outliving
from ..errors import PlanError
from ..loop import LoopFacts
from ..passes import TraceError
from ..passes.blocks import path_of
from ..passes.call_recorder import CallGraph, record_call
from ..passes.call_state import scaled, scales_of
from ..passes.forward_slot import ForwardSlot, parameters_of
from ..passes.loop_recorder import TIMESTEP
from ..passes.steer_calls import mixture
from ..passes.step_graphs import Step, StepKind, step_graph

RECORDED = 0.02
"""How far a graph may be from its model, relative to the largest value: kernels may round otherwise."""
MOST_CALLS = 16
"""How many graphs are kept of calls that differ in nothing but values that the model's Python looks at."""
MOST_KINDS = 32
"""Of how many kinds of calls (sizes, prompt lengths, precisions) graphs are kept, those used last."""
Values = dict[int, torch.Tensor]
"""Tensors of one step that later ones read, by the number of the block output that they are."""


@dataclass(frozen=True)
class CallArguments:
    """The arguments of one call of a denoiser."""

    named: dict[str, Any]

    @classmethod
    def of(cls, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallArguments:
        """Return arguments by name; a timestep that is a number as the tensor that a model makes of it."""
        named = {**dict(zip(parameters_of(model), args, strict=False)), **kwargs}
        for name, value in named.items():
            if name in TIMESTEP and isinstance(value, (int, float)):
                dtype = torch.float64 if isinstance(value, float) else torch.int64
                named[name] = torch.tensor(value, dtype=dtype)
        return cls(_copied(named))

    def fresh(self) -> dict[str, Any]:
        """Return the arguments for one call of the model: some take lists apart that they are given."""
        return _copied(self.named)

    @property
    def timestep(self) -> torch.Tensor:
        """What the model is told of the timestep. Raises `TraceError` if it is told nothing."""
        for name, value in self.named.items():
            if name in TIMESTEP:
                return value  # type: ignore[no-any-return]
        raise TraceError(f"the denoiser is called without a timestep, with {sorted(self.named)}")

    def told(self, factor: float) -> CallArguments:
        """Return the arguments with another timestep, this many times theirs."""
        name = next(name for name in self.named if name in TIMESTEP)
        return CallArguments({**self.named, name: self.named[name] * factor})

    @cached_property
    def leaves(self) -> list[Any]:
        """All values among nested arguments, in order."""
        return pytree.tree_leaves(self.named)

    @cached_property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors among them."""
        return [leaf for leaf in self.leaves if isinstance(leaf, torch.Tensor)]

    @cached_property
    def signature(self) -> tuple[Any, ...]:
        """What calls that may share a graph have in common: structure, shapes, and all that is no tensor.

        Under autocast a recording holds casts.
        """
        device = self.tensors[0].device.type
        cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        return (pytree.tree_structure(self.named), cast, *map(_kind, self.leaves))

    @property
    def rows(self) -> int:
        """Rows of the sample, the first tensor."""
        return self.tensors[0].shape[0]

    def halves(self) -> tuple[CallArguments, CallArguments]:
        """Return the arguments of both conditions of guidance: the halves of all tensors with `rows` rows."""
        first, second = (
            CallArguments(pytree.tree_map(lambda leaf, k=k: _half(leaf, self.rows, k), self.named))
            for k in range(2)
        )
        return first, second


def joined(results: Sequence[Any]) -> Any:
    """Return the results of several calls as that of one, row by row."""
    if len(results) == 1:
        return results[0]
    leaves, structures = zip(*map(pytree.tree_flatten, results), strict=True)
    rows = [
        torch.cat(parts) if isinstance(parts[0], torch.Tensor) else parts[0]
        for parts in zip(*leaves, strict=True)
    ]
    return pytree.tree_unflatten(rows, structures[0])


class Graphs:
    """What was traced and compiled of one denoiser: a graph for each kind of call and of step.

    Args:
        model: the denoiser.
        facts: of the plan, which say which of its modules are blocks.
        options: of `torch.compile`; `None` runs the graphs as they are.
    """

    def __init__(self, model: nn.Module, facts: LoopFacts, options: Mapping[str, Any] | None) -> None:
        self.model, self.blocks, self.options = model, facts.chosen, options
        self.parts = frozenset(block.partition(".")[0] for block in map(path_of, facts.blocks))
        self._calls: dict[tuple[Any, ...], list[CallGraph]] = {}
        self._steps: dict[tuple[CallGraph, StepKind], Callable[..., Any]] = {}

    def is_like(self, other: Graphs) -> bool:
        """Tell whether these graphs serve where others are asked for."""
        asked = other.model, other.blocks, other.parts, other.options
        return (self.model, self.blocks, self.parts, self.options) == asked

    def call(self, arguments: CallArguments) -> CallGraph:
        """Return the graph of the model's call with such arguments."""
        calls = self._calls[arguments.signature] = self._calls.pop(arguments.signature, [])
        found = next((call for call in calls if call.holds_for(arguments.tensors)), None)
        if found is None:
            with ForwardSlot(self.model).bare():
                # First for real: what a model keeps of its first call must not be what a recording sees.
                with scaled(scales_of(self.model)):
                    expected = self.model(**arguments.fresh())
                changing = (next(iter(arguments.named)), *TIMESTEP)
                found = record_call(self.model, self.blocks, arguments.named, changing, self.parts)
                _check_recording(found, arguments, expected)
            calls.append(found)
            while len(calls) > MOST_CALLS:
                self._forget(calls[0])
            while len(self._calls) > MOST_KINDS:
                for call in self._calls.pop(next(iter(self._calls))):
                    self._forget(call)
        return found

    def step(self, arguments: CallArguments, kind: StepKind) -> Callable[..., Any]:
        """Return what a kind of step computes of such arguments, see `step_graph`."""
        call = self.call(arguments)
        if (call, kind) not in self._steps:
            graph: Any = step_graph(call, kind)
            if self.options is not None:
                graph = outliving(torch.compile(graph, **self.options), self.options)
            self._steps[call, kind] = graph
        return self._steps[call, kind]

    @property
    def num_steps(self) -> int:
        """How many distinct steps there are so far, over all kinds of calls."""
        return len(self._steps)

    def forget_outdated(self) -> None:
        """Forget graphs of a model that changed: an adapter may have replaced parts, FreeU sets numbers."""
        for call in [call for calls in self._calls.values() for call in calls]:
            if not call.is_of(self.model):
                self._forget(call)

    def _forget(self, gone: CallGraph) -> None:
        for calls in self._calls.values():
            calls[:] = [call for call in calls if call is not gone]
        self._steps = {key: step for key, step in self._steps.items() if key[0] is not gone}

    def run(
        self,
        arguments: CallArguments,
        kind: StepKind,
        values: Iterable[torch.Tensor],
        weights: Iterable[float],
        mixed: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> tuple[Any, Values]:
        """Return what the model returns, and the values that the kind of step saves.

        Args:
            arguments: of the call.
            kind: of the step.
            values: of earlier steps, that it reads.
            weights: of those.
            mixed: what is taken for the prediction.
        """
        step = self.step(arguments, kind)
        with self.call(arguments).scaled():
            results = step(*arguments.tensors, *values, *weights)
        count = len(results) - len(kind.saved)
        saved = dict(zip(kind.saved, results[count:], strict=True))
        made = list(results[:count])
        if mixed is not None:
            made[0] = mixed(made[0])
        return self.call(arguments).wrapped(made), saved


class Mixer:
    """What is taken for the predictions of one call of the model a step, through a run.

    Args:
        rows: of `Steering.mix`, from the step that ran first; `None` takes all as they are.
        first: the prediction of that step.
    """

    def __init__(self, rows: Sequence[Sequence[float]] | None, first: torch.Tensor | None) -> None:
        self.rows = rows
        self.past: list[torch.Tensor] = []
        if rows is not None and first is not None:
            self._keep(0, first)

    def __call__(self, index: int, sample: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Return what stands for the prediction of step `index`, counted from the first that ran."""
        if self.rows is None:
            return prediction
        made = [prediction, *self.past]
        mixed = mixture(self.rows[index], sample, made, prediction.shape[1])
        self._keep(index, prediction)
        return mixed

    def _keep(self, index: int, prediction: torch.Tensor) -> None:
        """Keep what the next two steps read."""
        assert self.rows is not None
        ahead = self.rows[index + 1 : index + 3]
        self.past = [prediction, *self.past][:2] if any(row[2] or row[3] for row in ahead) else []

    @property
    def nbytes(self) -> int:
        """Bytes that are held for later steps."""
        return sum(prediction.nbytes for prediction in self.past)


class Lane:
    """One call of the model a step, under one gate table, through a run.

    Args:
        graphs: of the model.
        steps: of the lane, whose first has run already.
        first: the values that it saved.
        mixer: of its predictions.
    """

    def __init__(self, graphs: Graphs, steps: tuple[Step, ...], first: Values, mixer: Mixer) -> None:
        self.graphs, self.steps, self.mixer = graphs, steps, mixer
        self._held = {(output, 0): first[output] for output in steps[0].kind.saved}
        self.bytes_held = [self._bytes()]

    def run(self, index: int, arguments: CallArguments) -> Any:
        """Return the result of the step `index`, counted from the first that ran."""
        step = self.steps[index]
        values = [self._held[value] for value in step.reads]
        sample = arguments.tensors[0]
        result, saved = self.graphs.run(
            arguments, step.kind, values, step.weights, lambda made: self.mixer(index, sample, made)
        )
        self.take(index, saved)
        return result

    def take(self, index: int, saved: Values) -> None:
        """Keep what the step `index` saved for later ones, and let go what it was the last to read."""
        self._held.update({(output, index): value for output, value in saved.items()})
        for value in self.steps[index].frees:
            del self._held[value]
        self.bytes_held.append(self._bytes())

    def let_go(self) -> None:
        """Hold nothing any more: no step will follow."""
        self._held.clear()
        self.mixer.past.clear()

    def _bytes(self) -> int:
        return sum(value.nbytes for value in self._held.values()) + self.mixer.nbytes


def run_halves(lanes: Sequence[Lane], index: int, arguments: CallArguments) -> Any:
    """Return the result of the step `index` of a call that holds both conditions of guidance.

    Each half goes through a lane of its own, but where both run whole the call stays one: a device that
    small batches leave idle takes hardly longer for two rows than for one.
    """
    kinds = [lane.steps[index].kind for lane in lanes]
    if any(kind.closed for kind in kinds):
        halves = zip(lanes, arguments.halves(), strict=True)
        return joined([lane.run(index, half) for lane, half in halves])
    saved = sorted({output for kind in kinds for output in kind.saved})

    def mixed(prediction: torch.Tensor) -> torch.Tensor:
        halves = zip(lanes, arguments.tensors[0].chunk(2), prediction.chunk(2), strict=True)
        return torch.cat([lane.mixer(index, sample, made) for lane, sample, made in halves])

    result, values = lanes[0].graphs.run(
        arguments, StepKind((), tuple(saved)), (), (), None if lanes[0].mixer.rows is None else mixed
    )
    for half, (lane, kind) in enumerate(zip(lanes, kinds, strict=True)):
        lane.take(index, {output: values[output].chunk(2)[half] for output in kind.saved})
    return result


def check_blocks(call: CallGraph, facts: LoopFacts) -> None:
    """Raise `PlanError` naming both sides if a model has other blocks than a plan."""
    planned = tuple(dict.fromkeys(map(path_of, facts.blocks)))
    if planned != call.blocks or len(facts.blocks) != len(planned) * len(facts.guidance.calls):
        mine = [name for name in planned if name not in call.blocks][:3]
        theirs = [name for name in call.blocks if name not in planned][:3]
        raise PlanError(
            f"this plan is for {len(planned)} blocks (among them {mine}), the model of this pipeline calls "
            f"{len(call.blocks)} (among them {theirs}): search a plan for this model"
        )


def _check_recording(call: CallGraph, arguments: CallArguments, expected: Any) -> None:
    """Raise `TraceError` if a graph does not compute what its model does: one call a graph, for certainty."""
    wanted = [leaf for leaf in pytree.tree_leaves(expected) if isinstance(leaf, torch.Tensor)]
    with call.scaled():
        found = call.module(*arguments.tensors)
    for ours, theirs in zip(found, wanted, strict=True):
        margin = RECORDED * float(theirs.nan_to_num().abs().max())
        if not torch.allclose(ours, theirs, rtol=RECORDED, atol=margin, equal_nan=True):
            raise TraceError(
                "the recorded graph of this model gives other values than the model: its Python edits "
                "tensors in a way that was not seen, so it cannot follow a plan"
            )


def _copied(named: dict[str, Any]) -> dict[str, Any]:
    """Return nested arguments with lists and mappings of their own."""
    copied: dict[str, Any] = pytree.tree_map(lambda leaf: leaf, named)
    return copied


def _half(leaf: Any, rows: int, index: int) -> Any:
    if isinstance(leaf, torch.Tensor) and leaf.dim() > 0 and leaf.shape[0] == rows:
        return leaf.chunk(2)[index]
    return leaf


def _kind(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return leaf.shape, leaf.dtype, leaf.device
    if isinstance(leaf, (int, float, str, bool, type(None), torch.dtype, torch.device)):
        return type(leaf), leaf
    if not isinstance(leaf, Hashable):
        raise TraceError(f"an argument of type {type(leaf).__name__} cannot be part of a graph")
    return leaf
