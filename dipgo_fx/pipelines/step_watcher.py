"""What a pipeline's scheduler is given for a step: what guidance makes of its model's predictions."""

from __future__ import annotations

import functools
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .step_clock import stepped_sample

CLEARLY = 1.01
"""How many times the weight of another the largest has to be: rounding moves the weights of equal ones."""


@dataclass(frozen=True)
class Stepped:
    """What a scheduler was given for a step: the guided prediction, and the sample."""

    output: torch.Tensor
    sample: torch.Tensor

    @classmethod
    def of(cls, step: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stepped:
        """Return what is among the arguments of a scheduler's `step`."""
        return cls(args[0] if args else kwargs["model_output"], stepped_sample(step, args, kwargs))

    def weights(self, predictions: Sequence[torch.Tensor]) -> list[float]:
        """Return how much of each condition's prediction is in the guided one.

        Args:
            predictions: of the calls of the model at this step; if there is one call, it may hold several
                conditions, with as many rows each, else all have as many.

        Returns:
            a weight a condition, in the order of calls or of rows: under guidance with a scale s they are
            1 - s for the unconditional prediction and s for the conditional one. They are equal where the
            conditions are, or where the scheduler is not given the guided prediction.
        """
        output = self._as_stepped(self.output)
        parts = [self._as_stepped(prediction) for prediction in predictions]
        if len(parts) == 1 and len(parts[0]) > len(output):
            parts = [*parts[0].chunk(len(parts[0]) // len(output))]
        elif len(parts) == 1 and _is_doubled(output) and not _is_doubled(parts[0]):
            parts, output = [*parts[0].chunk(2)], output.chunk(2)[0]  # DiTPipeline steps the rows of both
        if any(part.shape != output.shape for part in parts):  # Cosmos steps both before it guides
            return [1 / len(parts)] * len(parts)
        values = torch.stack([part.flatten() for part in parts])
        weights = torch.linalg.pinv(values @ values.T) @ (values @ output.flatten())
        return [float(weight) for weight in weights]

    def _as_stepped(self, prediction: torch.Tensor) -> torch.Tensor:
        """Return a prediction as the scheduler takes it, without a learned variance, which nobody guides."""
        # U-Nets of videos have a dimension of frames, which their schedulers take as rows.
        if prediction.dim() == self.sample.dim() + 1:
            prediction = prediction.transpose(1, 2).flatten(0, 1)
        return prediction[:, : self.sample.shape[1]].detach().to("cpu", torch.float64)


def _is_doubled(output: torch.Tensor) -> bool:
    halves = output.chunk(2)
    return len(halves) == 2 and torch.equal(*halves)


def conditional(weights: Sequence[float], otherwise: int) -> int:
    """Return which of the conditions of a step is not the unconditional one.

    Guidance that leads towards a condition takes more of it than of the other. Where both are the same, or
    the pipeline guides by none, it is `otherwise`.
    """
    sizes = [abs(weight) for weight in weights]
    most = sizes.index(max(sizes))
    return most if sizes[most] > CLEARLY * sizes[otherwise] else otherwise


class StepWatcher:
    """Watches the next step of a pipeline's scheduler, once, and leaves the scheduler as it was found.

    Attributes:
        stepped: what the last step that was watched was given, `None` before.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self.stepped: Stepped | None = None
        self._watched: tuple[Any, Any] | None = None

    @property
    def is_watching(self) -> bool:
        """Whether the scheduler was not stepped since."""
        return self._watched is not None

    def watch(self) -> None:
        """Look at the next step."""
        self.leave()  # a run that was cancelled at its first step
        self.stepped = None
        scheduler = self._pipe.scheduler
        own = vars(scheduler).get("step")
        step = scheduler.step

        @functools.wraps(type(scheduler).step)  # pipelines read its signature
        def watched(stepped: Any, *args: Any, **kwargs: Any) -> Any:
            if stepped is not scheduler:  # a copy of it
                return type(stepped).step(stepped, *args, **kwargs)
            self.stepped = Stepped.of(step, args, kwargs)
            self.leave()
            return step(*args, **kwargs)

        self._watched = scheduler, own
        # A method, so that a copy of the scheduler steps itself: an error may leave it watched.
        scheduler.step = types.MethodType(watched, scheduler)

    def leave(self) -> None:
        """Watch no longer."""
        if self._watched is not None:
            scheduler, own = self._watched
            self._watched = None
            vars(scheduler).pop("step", None)
            if own is not None:
                scheduler.step = own
