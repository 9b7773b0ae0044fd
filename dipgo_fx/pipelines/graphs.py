"""What was traced and compiled of a denoiser: which graph serves a call, and when it is recorded anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from ..cuda_graphs import outliving
from ..errors import PlanError
from ..loop import LoopFacts
from ..passes import TraceError
from ..passes.blocks import path_of
from ..passes.call_recorder import CallGraph, record_call
from ..passes.call_state import scaled, scales_of
from ..passes.forward_slot import ForwardSlot
from ..passes.loop_recorder import TIMESTEP, tensors_in
from ..passes.step_graphs import StepKind, step_graph
from .call_arguments import CallArguments, joined

RECORDED = 0.02
"""How far a graph may be from its model, relative to the largest value: kernels may round otherwise."""
MOST_CALLS = 16
"""How many graphs are kept of calls that differ in nothing but values that the model's Python looks at."""
MOST_KINDS = 32
"""Of how many kinds of calls (sizes, prompt lengths, precisions) graphs are kept, those used last."""
Values = dict[int, torch.Tensor]
"""Tensors of one step that later ones read, by the number of the block output that they are."""


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
        self._row_dims: dict[CallGraph, list[int | None]] = {}  # of block outputs, where a call was halved

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

    def _step(self, call: CallGraph, kind: StepKind) -> Callable[..., Any]:
        """Return what a kind of step computes of a call, see `step_graph`."""
        if (call, kind) not in self._steps:
            graph: Any = step_graph(call, kind)
            if self.options is not None:
                graph = outliving(torch.compile(graph, **self.options), self.options)
            self._steps[call, kind] = graph
        return self._steps[call, kind]

    @property
    def num_graphs(self) -> int:
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
        self._row_dims.pop(gone, None)

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
        call = self.call(arguments)
        step = self._step(call, kind)
        with call.scaled():
            results = step(*arguments.tensors, *values, *weights)
        count = len(results) - len(kind.saved)
        saved = dict(zip(kind.saved, results[count:], strict=True))
        made = list(results[:count])
        if mixed is not None:
            made[0] = mixed(made[0])
        return call.wrapped(made), saved

    def halved(self, arguments: CallArguments, values: Values) -> tuple[Values, Values]:
        """Return the values that a call with both conditions of guidance saved, for each of the two.

        Raises `RuntimeError` for a model whose rows cannot be told apart.
        """
        call = self.call(arguments)
        if call not in self._row_dims:
            self._row_dims[call] = self._found_row_dims(call, arguments)
        halves = {o: _halves(value, self._row_dims[call][o]) for o, value in values.items()}
        return {o: first for o, (first, _) in halves.items()}, {o: last for o, (_, last) in halves.items()}

    def _found_row_dims(self, call: CallGraph, arguments: CallArguments) -> list[int | None]:
        """Return where block outputs have their rows: in which dimension a call of half of them has half."""
        halves = arguments.halves()
        try:
            ours = self.call(halves[0])
            with ForwardSlot(self.model).bare(), scaled(scales_of(self.model)):
                apart = joined([self.model(**half.fresh()) for half in halves])
                together = self.model(**arguments.fresh())
            dims = [_row_dim(*map(_shape, pair)) for pair in zip(call.outputs, ours.outputs, strict=True)]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise RuntimeError(f"{self._not_apart}: {type(error).__name__}: {error}") from error
        if not _are_alike(tensors_in(apart), tensors_in(together)):
            raise RuntimeError(f"{self._not_apart}: alone they give other values")
        return dims

    @property
    def _not_apart(self) -> str:
        return (
            "this plan has the two conditions of guidance apart, and the rows of one call of "
            f"{type(self.model).__name__} cannot be told apart (search it with split_guidance=False)"
        )


def _shape(node: fx.Node) -> tuple[int, ...]:
    return node.meta["spec"].shape  # type: ignore[no-any-return]


def _halves(value: torch.Tensor, dim: int | None) -> tuple[torch.Tensor, ...]:
    return (value, value) if dim is None else value.chunk(2, dim)


def _row_dim(whole: tuple[int, ...], half: tuple[int, ...]) -> int | None:
    """Return the one dimension of which a half has half, `None` if both are the same."""
    differing = [dim for dim, sizes in enumerate(zip(whole, half, strict=True)) if len({*sizes}) > 1]
    if not differing:
        return None
    (dim,) = differing
    if whole[dim] != 2 * half[dim]:
        raise ValueError(f"of {whole} a half is {half}")
    return dim


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
    with call.scaled():
        found = call.module(*arguments.tensors)
    if not _are_alike(found, tensors_in(expected)):
        raise TraceError(
            "the recorded graph of this model gives other values than the model: its Python edits "
            "tensors in a way that was not seen, so it cannot follow a plan"
        )


def _are_alike(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    """Tell whether tensors are the same but for what kernels may round otherwise."""
    return all(
        torch.allclose(
            ours,
            theirs,
            rtol=RECORDED,
            atol=RECORDED * float(theirs.nan_to_num().abs().max()),
            equal_nan=True,
        )
        for ours, theirs in zip(found, expected, strict=True)
    )
