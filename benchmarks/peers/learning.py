"""Few-call samplers whose coefficients and timesteps are theory plus a learned correction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from dipgo_fx.conditioning import map_rows
from dipgo_fx.guidance import Guidance

from .halves import ForecastHalves, repeating
from .multistep import THEORIES, Coefficients, Multistep
from .noise_levels import NoiseLevels

LEAST_GAP = 0.5  # of timesteps, for a gap of the start that is 0


@dataclass(frozen=True)
class Learned:
    """A sampler that was learned, or its start.

    Attributes:
        coefficients: of the updates.
        both: for each call whether both halves of guidance run; `None` without halves.
        differences: see `ForecastHalves`.
    """

    coefficients: Coefficients
    both: tuple[bool, ...] | None = None
    differences: torch.Tensor | None = None

    @property
    def runs(self) -> tuple[bool, ...]:
        """For each call whether all of it runs."""
        return self.both or (True,) * len(self.coefficients.times)

    def on(
        self, call: Callable[..., torch.Tensor], seen: Mapping[int, torch.Tensor] | None = None, step: int = 0
    ) -> Callable[..., torch.Tensor]:
        """Return the model's call as the sampler makes it, from call `step` of a run on."""
        if self.both is None or self.differences is None:
            return call
        return ForecastHalves(call, self.both, self.differences, seen, step)


@dataclass(frozen=True)
class Recipe:
    """What is learned, and from where.

    Attributes:
        theory: a name of `THEORIES`: what the coefficients are corrections of.
        times: timesteps of the start, the first of which stays.
        learns: of `times`, `told` (the network is told another timestep than the update uses) and
            `coefficients`.
        both: see `Learned`.
    """

    theory: str
    times: tuple[float, ...]
    learns: tuple[str, ...] = ("coefficients", "times", "told")
    both: tuple[bool, ...] | None = None


class Corrections(nn.Module):
    """Theory plus a learned correction, which starts at 0."""

    def __init__(self, levels: NoiseLevels, recipe: Recipe) -> None:
        super().__init__()
        self.levels, self.recipe = levels, recipe
        gaps = (-levels.tensor([*recipe.times, 0.0]).diff()).clamp(min=LEAST_GAP)
        size, free = len(gaps), "coefficients" in recipe.learns
        self.gaps = _parameter(gaps.log(), "times" in recipe.learns)
        self.shifts = _parameter(torch.zeros_like(gaps), "told" in recipe.learns)
        self.carry = _parameter(torch.zeros_like(gaps), free)
        self.history = _parameter(gaps.new_zeros(size, size), free)
        self.differences = None
        if recipe.both is not None:
            self.differences = _parameter(repeating(recipe.both), free)

    def times(self) -> torch.Tensor:
        """Return falling timesteps: the gaps' shares of the first one."""
        if not self.gaps.requires_grad:
            return self.levels.tensor(self.recipe.times)
        passed = self.gaps.softmax(0).cumsum(0)[:-1]
        return self.recipe.times[0] * torch.cat([passed.new_ones(1), 1 - passed])

    def forward(self) -> Learned:
        """Return the sampler as it is by now."""
        times = self.times()
        theory = THEORIES[self.recipe.theory](self.levels, times)
        size = self.sizes(theory)
        gaps = torch.cat([-times.diff(), times[-1:]]).detach()
        coefficients = replace(
            theory,
            told=(times + self.shifts * gaps).clamp(min=0),
            carry=theory.carry + size * self.carry,
            history=theory.history + size[:, None] * self.history.tril(),
        )
        return Learned(coefficients, self.recipe.both, self.differences)

    def sizes(self, theory: Coefficients) -> torch.Tensor:
        """Return for each update what a correction of 1 adds to a coefficient: its first-order step."""
        return theory.history.sum(1).detach().abs()

    def entries(self) -> list[tuple[nn.Parameter, tuple[int, ...], int]]:
        """Return each number that is learned: its parameter, its place, and the first call it matters to.

        What matters to an update only, matters to the call after it.
        """
        found: list[tuple[nn.Parameter, tuple[int, ...], int]] = []
        size = len(self.gaps)
        if self.gaps.requires_grad:  # adding one number to all of them changes nothing
            found += [(self.gaps, (i,), 0) for i in range(size - 1)]
        if self.shifts.requires_grad:
            found += [(self.shifts, (i,), i) for i in range(size)]
        if self.carry.requires_grad:
            found += [(self.carry, (i,), i + 1) for i in range(size)]
            found += [(self.history, (i, j), i + 1) for i in range(size) for j in range(i + 1)]
        if self.differences is not None and self.recipe.both is not None and self.differences.requires_grad:
            both = self.recipe.both
            found += [
                (self.differences, (i, j), i)
                for i in range(size)
                for j in range(i)
                if both[j] and not both[i]
            ]
        return found


@dataclass
class Trace:
    """What a run of a sampler made, so that another may begin in the middle.

    Attributes:
        samples: before each call.
        predictions: of each call.
        seen: differences of the halves of guidance, by call.
        result: the final samples.
    """

    samples: list[torch.Tensor] = field(default_factory=list)
    predictions: list[torch.Tensor] = field(default_factory=list)
    seen: Mapping[int, torch.Tensor] = field(default_factory=dict)
    result: torch.Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True)
class Lesson:
    """What a sampler is learned on.

    Attributes:
        call: the model on a sample, `timestep=` and conditioning.
        levels: of the loop.
        guidance: of the loop.
        sample: initial noise.
        conditioning: of all samples.
        target: the unpruned result.
        steps: of the unpruned loop.
    """

    call: Callable[..., torch.Tensor]
    levels: NoiseLevels
    guidance: Guidance
    sample: torch.Tensor
    conditioning: Mapping[str, Any]
    target: torch.Tensor
    steps: int

    def part(self, rows: torch.Tensor) -> Lesson:
        """Return some of the samples."""
        count = len(self.sample)
        every = torch.cat([rows + i * count for i in range(self.guidance.rows)])
        conditioning = map_rows(lambda value: value[every], self.conditioning, frozenset())
        return replace(self, sample=self.sample[rows], conditioning=conditioning, target=self.target[rows])

    def loss(self, learned: Learned) -> torch.Tensor:
        """Return the squared error of a sampler, differentiable."""
        return (self.trace(learned).result - self.target).square().mean()

    def trace(self, learned: Learned, before: Trace | None = None, first: int = 0) -> Trace:
        """Run a sampler.

        Args:
            learned: the sampler.
            before: a run whose calls before call `first` this one would repeat.
            first: the first call to make; may be one more than there are.
        """
        trace, known = Trace(), before or Trace()
        run = Multistep(self.levels, learned.coefficients)
        call = learned.on(self.call, known.seen, first)
        sample = self.sample
        for step, told in enumerate(learned.coefficients.told):
            if step < first:
                prediction = known.predictions[step]
                sample = known.samples[step] if step + 1 < first else sample
            else:
                prediction = self.predict(call, sample, told)
            trace.samples.append(sample)
            trace.predictions.append(prediction)
            if step + 1 < first:
                run.note(prediction, sample)
                sample = known.samples[step + 1]
            else:
                sample = run.update(prediction, sample)
        trace.result, trace.seen = sample, getattr(call, "seen", {})
        return trace

    def predict(
        self, call: Callable[..., torch.Tensor], sample: torch.Tensor, told: torch.Tensor
    ) -> torch.Tensor:
        """Return the guided prediction at a timestep."""
        latents, channels = self.guidance.latents(sample), sample.shape[1]
        timestep = told.float().to(latents.device).expand(len(latents))
        prediction = call(latents, timestep=timestep, **self.conditioning)
        return self.guidance.combine([prediction], channels)[:, :channels]

    def price(self, learned: Learned, first: int = 0) -> float:
        """Return what the calls from `first` on cost, in unpruned runs of the same samples."""
        return sum(1.0 if each else 0.5 for each in learned.runs[first:]) / self.steps


def detached(learned: Learned) -> Learned:
    """Return a sampler that needs no gradients."""
    own = learned.coefficients
    named = {name: getattr(own, name).detach().clone() for name in ("times", "told", "carry", "history")}
    differences = None if learned.differences is None else learned.differences.detach().clone()
    return replace(learned, coefficients=replace(own, **named), differences=differences)


def _parameter(start: torch.Tensor, learned: bool) -> nn.Parameter:
    return nn.Parameter(start, requires_grad=learned)
