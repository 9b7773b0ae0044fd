"""A tiny pipeline as something to check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

from dipgo_fx import Plan
from dipgo_fx.pipelines.denoiser import denoisers, parts
from dipgo_fx.pipelines.step_clock import StepClock

from .inventory import denoiser_classes
from .pipelines import PIPELINES
from .skipping import calls_of, random_plan, recorded, skipping

STEPS, BATCH = 4, 2
OPEN, SEED = 0.6, 1
"""Share of open gates, and seed, of the random plan that pipelines run by."""


@dataclass(frozen=True)
class Subject:
    """A pipeline to check.

    Attributes:
        build: makes it afresh, always with the same weights.
        run: runs it, always with the same seed, and returns what comes out.
        arguments: of its call that depend on the number of samples; `None` if it makes only one.
        fixed: the others.
    """

    build: Callable[[], DiffusionPipeline]
    run: Callable[[DiffusionPipeline], torch.Tensor]
    arguments: Callable[[int], Mapping[str, Any]] | None = None
    fixed: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls, key: str, steps: int = STEPS, build: Callable[[], DiffusionPipeline] | None = None
    ) -> Subject:
        """Return the tiny pipeline of a key, or one that runs as it does."""
        tiny = PIPELINES[key]
        run = partial(tiny.call, steps=steps, batch=1 if tiny.single else BATCH)
        inputs = None if tiny.single else tiny.inputs
        fixed = {name: value for name, value in tiny.fixed.items() if name != "generator"}
        return cls(build or tiny.build, run, inputs, {**fixed, **tiny.steps(steps)})

    @property
    def denoiser(self) -> str:
        """The class of its denoiser, empty if it is none of diffusers' own."""
        classes = [type(part).__name__ for part in parts(self.build()).values()]
        return next((name for name in classes if name in denoiser_classes()), "")

    def plan(self, open_share: float = OPEN) -> Plan:
        """Return a random plan for it."""
        return random_plan(recorded(self.build(), self.run)[1], open_share, SEED)

    def skipped(self, pipe: DiffusionPipeline, plan: Plan) -> torch.Tensor:
        """Run it with the blocks that a plan skips replaced by hand, the reference for `enable`."""
        by_hand = [self._skipping(pipe, model, plan) for model in denoisers(pipe)]
        with ExitStack() as stack:
            for skips in by_hand:
                stack.enter_context(skips)
            return self.run(pipe)

    def _skipping(
        self, pipe: DiffusionPipeline, model: nn.Module, plan: Plan
    ) -> AbstractContextManager[None]:
        """Return what lets one of a pipeline's denoisers skip blocks, from its own first step on."""
        calls, clock = calls_of(pipe, self.run, model), StepClock()
        clock.tick(pipe.scheduler, calls[0].timestep)
        # Schedulers have a timestep twice, but not the first; some pipelines tell another at each call.
        told = [float(call.timestep.max()) for call in calls]
        at_first = sum(1 for _ in takewhile(lambda value: value == told[0], told))
        a_step = max(at_first, round(len(calls) / (len(plan.timesteps) - clock.start)))
        return skipping(model, plan, a_step, clock.start)
