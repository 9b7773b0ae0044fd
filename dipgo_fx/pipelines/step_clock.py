"""Which step of its loop a stock pipeline is at: read off its scheduler and the timestep that comes in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

Convention = Callable[[float, float], float]
CONVENTIONS: tuple[Convention, ...] = (
    lambda t, total: t,
    lambda t, total: t / total,
    lambda t, total: 1 - t / total,
)
"""What pipelines tell a model of a timestep: itself, its share of the training steps, or one minus that."""
MOST_CALLS = 6
"""Calls of the model a step: a condition each for guidance, and for what guides beside it."""


@dataclass
class StepClock:
    """Counts the calls of a model within a run of a pipeline.

    A run begins where the pipeline sets the scheduler's timesteps anew, which every stock pipeline does
    first: a run that was cancelled leaves nothing behind.

    Attributes:
        levels: the timesteps of the run.
        start: index of the first step that runs; above 0 where a strength leaves steps out.
        step: index of the step at hand.
        call: index of the model's call within it.
        calls_at_start: how often the first step has called the model.
        runs: how many runs have begun.
        set_anew: whether timesteps were set for the run at hand; else a run like the one before began.
    """

    levels: tuple[float, ...] = ()
    start: int = 0
    step: int = -1
    call: int = 0
    calls_at_start: int = 1
    runs: int = 0
    set_anew: bool = True
    _timesteps: torch.Tensor | None = None
    _ways: list[list[float]] = field(default_factory=list)  # timesteps by each convention that fits so far
    _last: float = 0.0
    _length: Any = None  # how many of the timesteps the pipeline says that it walks through
    _index: Any = None  # the scheduler's own count of its steps at the last call, where it has one

    def is_within_run(self, scheduler: Any) -> bool:
        """Tell whether steps of the run are left."""
        return scheduler.timesteps is self._timesteps and self.step + 1 < len(self.levels)

    def tick(self, scheduler: Any, timestep: Any, length: Any = None) -> bool:
        """Move on to the call that comes in with `timestep`, and tell whether a run begins with it.

        Args:
            scheduler: of the pipeline, its timesteps set.
            timestep: what the model is told.
            length: how many of the timesteps the pipeline says that it walks through, if it says so.

        Raises `RuntimeError` for a timestep that is not the next one.
        """
        value, tolerance = _value(timestep)
        before, self._index = self._index, getattr(scheduler, "step_index", None)
        if scheduler.timesteps is not self._timesteps:
            levels = tuple(float(t) for t in scheduler.timesteps.tolist())
            if levels == self.levels and not self._is_over and self._goes_on(value, tolerance):
                lost = self._lost(
                    value, "with timesteps set anew (if the run before was cancelled, call again)"
                )
                self._timesteps, self.levels = None, ()
                raise lost
            self._timesteps = scheduler.timesteps
            self.levels, self.set_anew = levels, True
            self._begin(scheduler, value, tolerance, length)
            return True
        if not self._ways:
            return self._count(value)
        again, forward = (self._fitting(step, value, tolerance) for step in (self.step, self.step + 1))
        # Two timesteps may be one number in half precision: then the scheduler's own count decides.
        stayed = self._index == before and hasattr(scheduler, "step_index") and value == self._last
        if again and (
            not forward or stayed or (self.step > self.start and self.call + 1 < self.calls_at_start)
        ):
            self._ways = again
            self._call_again(value)
            return False
        if forward:
            self._ways = forward
            self.step, self.call, self._last = self.step + 1, 0, value
            return False
        if self._fitting(self.start, value, tolerance):
            self.set_anew = False
            self._begin(scheduler, value, tolerance, length)
            return True
        rest = self._ways[0][self.step + 1 :]
        raise self._lost(value, f"where {rest[0] if rest else 'the end of the run'} was expected")

    def _begin(self, scheduler: Any, value: float, tolerance: float, length: Any) -> None:
        self.runs, self._length = self.runs + 1, length
        total = float(getattr(scheduler.config, "num_train_timesteps", 1000))
        ways = [[convention(level, total) for level in self.levels] for convention in CONVENTIONS]
        # Of equal timesteps, as Heun and PNDM have them, the one that the pipeline says that it begins at.
        left_out = len(self.levels) - length if isinstance(length, int) else None
        said = getattr(scheduler, "begin_index", None), left_out
        starts = [_place(way, value, tolerance, said) for way in ways]
        found = [start for start in starts if start is not None]
        # Else it tells its model something else: all that is known is that it changes with the step.
        self.start = found[0] if found else int(getattr(scheduler, "begin_index", None) or 0)
        self._ways = [way for way, start in zip(ways, starts, strict=True) if start == self.start]
        self._ways = self._ways if found else []
        self.step, self.call, self.calls_at_start, self._last = self.start, 0, 1, value

    @property
    def walked(self) -> tuple[float, ...]:
        """The timesteps up to the last that the pipeline says it walks to, all of them if it says nothing."""
        return self.levels[: self.start + self._length] if isinstance(self._length, int) else self.levels

    @property
    def _is_over(self) -> bool:
        """Whether the run at hand has walked through all of its timesteps, or as many as it said."""
        done = self.step + 1
        return done == len(self.levels) or done - self.start == self._length

    def _count(self, value: float) -> bool:
        """Move on by what is told alone: another value is another step."""
        if value == self._last:
            self._call_again(value)
            return False
        if self.step + 1 == len(self.levels):
            raise self._lost(value, "where the end of the run was expected")
        self.step, self.call, self._last = self.step + 1, 0, value
        return False

    def _goes_on(self, value: float, tolerance: float) -> bool:
        """Tell whether a value is the next of a run, which a new one would hardly begin with."""
        steps = [self.step + 1, *([self.step] if self.step > self.start else [])]
        return any(self._fitting(step, value, tolerance) for step in steps)

    def _call_again(self, value: float) -> None:
        self.call += 1
        if self.step == self.start:
            self.calls_at_start = self.call + 1
            if self.call == MOST_CALLS and len(self.levels) > 1:
                raise self._lost(value, f"for the {self.call + 1}th time")

    def _fitting(self, step: int, value: float, tolerance: float) -> list[list[float]]:
        """Return the ways to tell that have `value` at a step."""
        return [way for way in self._ways if step < len(way) and abs(way[step] - value) <= tolerance]

    def _lost(self, value: float, what: str) -> RuntimeError:
        return RuntimeError(
            f"the model is called with timestep {value:g} after step {self.step} of {len(self.levels)}, "
            f"{what}: this loop does not walk through scheduler.timesteps one by one, or another pipeline "
            "uses the same model; dipgo_fx.disable(pipe) runs it unpruned"
        )


def _place(way: list[float], value: float, tolerance: float, said: Sequence[int | None]) -> int | None:
    """Return the step whose timestep is nearest to `value`, `None` if none is within `tolerance`.

    Of equally near ones the first that is among `said`, else the earliest.
    """
    near = {step: abs(level - value) for step, level in enumerate(way) if abs(level - value) <= tolerance}
    least = min(near.values(), default=0.0)
    nearest = [step for step, distance in near.items() if distance == least]
    return next((step for step in said if step in nearest), nearest[0] if nearest else None)


def step_arguments(
    step: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Mapping[str, Any]:
    """Return the arguments of a scheduler's `step` by name."""
    return inspect.signature(step).bind(*args, **kwargs).arguments


def stepped_sample(step: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Return the sample among the arguments of a scheduler's `step`."""
    sample: torch.Tensor = step_arguments(step, args, kwargs)["sample"]
    return sample


def _value(timestep: Any) -> tuple[float, float]:
    """Return a timestep as a number, and how far its dtype may have rounded it."""
    if not isinstance(timestep, torch.Tensor):
        return float(timestep), 1e-6 * abs(float(timestep))
    value = float(timestep.max())  # of models with a timestep a token: what is given is told 0
    digits = torch.finfo(timestep.dtype).eps if timestep.is_floating_point() else 0.0
    return value, max(digits, 1e-6) * max(abs(value), 1.0)
