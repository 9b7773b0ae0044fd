"""Run the steps of a plan one call at a time: what is carried from step to step, and what is let go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..passes.steer_calls import mixture
from ..passes.step_graphs import Step, StepKind
from .call_arguments import CallArguments, joined
from .graphs import Graphs, Values


class Mixer:
    """Mixes the predictions of one of the calls that each step makes, through a run.

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
        if any(value not in self._held for value in step.reads):
            raise RuntimeError(
                "a step by this plan reads what an earlier one did not compute: guidance that pauses during "
                "a run cannot follow a plan that has the conditions apart"
            )
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
    for lane, kind, own in zip(lanes, kinds, lanes[0].graphs.halved(arguments, values), strict=True):
        lane.take(index, {output: own[output] for output in kind.saved})
    return result
