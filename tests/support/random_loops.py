"""A random model with a random scheduler as something that laws are about, for properties to draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from diffusers import DiffusionPipeline
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn

import dipgo_fx
import zoo
from dipgo_fx import PrunedLoop
from dipgo_fx.applying import build
from dipgo_fx.cost import LoopCost
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.guidance import Guidance
from dipgo_fx.loop import Loop
from dipgo_fx.passes import HISTORY, GateTable, Granularity, InsertGates, Steering
from dipgo_fx.plan import Plan
from dipgo_fx.search.config import Config
from dipgo_fx.tracing import trace
from loops import eager_with_plan, run, scattered
from random_models import FAMILIES, Architecture
from random_schedulers import Sampler, samplers
from steerings import Steered, steering_of
from tables import evenly

DTYPES = (torch.float32, torch.float32, torch.float64, torch.bfloat16)


@dataclass(frozen=True)
class Case:
    """All that was drawn for a loop, a plan and what it runs on; as printed it can be built again.

    Attributes:
        architecture: the model.
        sampler: the scheduler and its steps.
        granularity: which modules are blocks.
        guidance_scale: as in `trace`.
        split_guidance: likewise.
        names_shared: whether tracing is told which inputs all samples share.
        dtype: of weights and inputs.
        examples: samples that the loop is traced with.
        batch: samples that it runs on.
        open_share: share of gates that the plan leaves open.
        history: how many values its closed gates read; 2 are those of a linear backup now and then.
        first: the first step that a steered run calls the model at.
        removed: ratio asked for, as a share of the largest that there is.
        seed: of all tables.
    """

    architecture: Architecture
    sampler: Sampler
    granularity: Granularity
    guidance_scale: float | None
    split_guidance: bool
    names_shared: bool
    dtype: torch.dtype
    examples: int
    batch: int
    open_share: float
    history: int
    first: int
    removed: float
    seed: int


@st.composite
def cases(draw: st.DrawFn, family: str, most_steps: int = 6) -> Case:
    """Draw a case whose model is of a family of `random_models`."""
    sampler = draw(samplers(most_steps))
    architecture = draw(FAMILIES[family](sampler.reads_variance or draw(st.booleans())))
    assume(not sampler.reads_variance or architecture.variance)
    levels = sampler.levels
    assume(not architecture.looks_timesteps_up or (not levels.is_floating_point() and levels.max() < 1000))
    assume(not architecture.divides_by_timesteps or levels.dtype != torch.float64)
    guidance_scale = draw(st.none() | st.floats(0, 10))
    return Case(
        architecture=architecture,
        sampler=sampler,
        granularity=draw(st.sampled_from(("stage", "block", "branch"))),
        guidance_scale=guidance_scale,
        split_guidance=guidance_scale is not None and draw(st.booleans()),
        names_shared=draw(st.booleans()),
        dtype=torch.float32 if architecture.is_single_only else draw(st.sampled_from(DTYPES)),
        examples=draw(st.integers(1, 2)),
        batch=draw(st.integers(1, 3)),
        open_share=draw(evenly(0, 100)) / 100,
        history=draw(st.integers(1, HISTORY)),
        first=draw(st.integers(0, min(2, len(levels) - 1))),
        removed=draw(evenly(0, 99)) / 100,
        seed=draw(st.integers(0, 2**32 - 1)),
    )


class Subject:
    """What a case is about, made once when it is asked for."""

    def __init__(self, case: Case) -> None:
        self.case = case

    @cached_property
    def model(self) -> nn.Module:
        """The model."""
        return self.case.architecture.build(self.case.dtype)

    @property
    def guidance(self) -> Guidance:
        """How a step calls it."""
        return Guidance(self.case.guidance_scale, self.case.split_guidance)

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the inputs that all samples share."""
        return self.case.architecture.shared

    def inputs(self, batch: int) -> tuple[torch.Tensor, Mapping[str, Any]]:
        """Return noise and conditioning for some samples."""
        made, dtype = self.case.architecture, self.case.dtype
        return made.sample(batch, dtype), made.conditioning(batch * self.guidance.rows, dtype)

    @cached_property
    def loop(self) -> Loop:
        """The traced loop."""
        sample, conditioning = self.inputs(self.case.examples)
        return trace(
            self.model,
            self.case.sampler.build(),
            self.case.sampler.steps,
            sample=sample,
            conditioning=conditioning,
            guidance_scale=self.guidance.scale,
            split_guidance=self.guidance.split,
            granularity=self.case.granularity,
            shared=self.shared if self.case.names_shared else None,
        )

    @property
    def cost(self) -> LoopCost:
        """Its costs."""
        return LoopCost.of(self.loop)

    @cached_property
    def expected(self) -> torch.Tensor:
        """The eager loop's samples."""
        return self.eager(self.model)

    @torch.no_grad()
    def eager(self, model: Any) -> torch.Tensor:
        """Run the plain loop with something that is called as the model is."""
        return denoise(
            model,
            prepared(self.case.sampler.build(), self.case.sampler.steps),
            *self.inputs(self.case.batch),
            self.guidance,
            shared=self.shared,
            generator=zoo.generator(3),
        )

    def run(self, graph: nn.Module, **tables: torch.Tensor) -> torch.Tensor:
        """Run a graph on what the eager loop ran on."""
        x, c = self.inputs(self.case.batch)
        return run(graph, x, c, **tables)  # type: ignore[no-any-return]

    @cached_property
    def shape(self) -> tuple[int, int]:
        """T and N."""
        return self.loop.num_steps, len(self.loop.blocks)

    def numbers(self, seed: int = 0) -> torch.Tensor:
        """Return a `(T, N)` table of random numbers in [0, 1)."""
        return torch.rand(self.shape, generator=zoo.generator(self.case.seed + seed), dtype=torch.float64)

    def table(self, keep: torch.Tensor) -> GateTable:
        """Return how closed gates of a keep table read the past."""
        history = self.case.history
        if history == 1 or (history == 2 and self.case.seed % 2):
            return GateTable.of(keep, "reuse" if history == 1 else "linear")
        return GateTable(keep, scattered(self.shape, history, self.case.seed))

    @cached_property
    def plan(self) -> Plan:
        """The plan."""
        keep = self.numbers() <= self.case.open_share
        keep[0] = True
        return Plan(self.loop.facts, self.table(keep), 0.0)

    @cached_property
    def subnet(self) -> Loop:
        """The SubNet of the plan."""
        return build(self.loop, self.plan)

    @cached_property
    def supernet(self) -> Loop:
        """The SuperNet that has as many values at hand as the plan reads."""
        gated: Any = InsertGates(self.plan.history)(self.loop).graph_module
        return gated  # type: ignore[no-any-return]

    def eager_with_plan(self) -> tuple[torch.Tensor, Any]:
        """Run the plain loop under the plan; return its samples and how often each block was called."""
        x, c = self.inputs(self.case.batch)
        return eager_with_plan(self.model, self.case.sampler.build(), self.plan, x, c, self.shared)

    @cached_property
    def steering(self) -> Steering:
        """A steering of its calls; models that look timesteps up are told them as they are."""
        made = steering_of(self.loop.facts, self.case.seed, self.case.first)
        if not self.case.architecture.looks_timesteps_up:
            return made
        return replace(made, told=torch.ones_like(made.told))

    def steered(self) -> torch.Tensor:
        """Run the plain loop with steered calls."""
        shape, variance = self.case.architecture.shape, self.case.architecture.variance
        channels = shape[0] * (1 + variance)
        return self.eager(Steered(self.model, self.steering, len(self.guidance.calls), channels))

    def search(self, ratio: float, config: Config) -> PrunedLoop:
        """Search a plan, always with the same seed."""
        sample, conditioning = self.inputs(1)
        return dipgo_fx.prune(
            self.model,
            self.case.sampler.build(),
            ratio,
            num_inference_steps=self.case.sampler.steps,
            guidance_scale=self.guidance.scale,
            split_guidance=self.guidance.split,
            granularity=self.case.granularity,
            sample=sample,
            conditioning=conditioning,
            config=config,
            generator=zoo.generator(self.case.seed % 2**31),
            progress=False,
        )

    def pipeline(self) -> DiffusionPipeline:
        """Return a pipeline whose loop is the plain one."""
        made = Pipeline(self.model, self.case.sampler.build())
        made.subject = self
        return made


class ConditionalFirst(Guidance):
    """Guidance in two calls as stock pipelines make them: the conditional one first."""

    def conditions(self, *args: Any) -> list[Mapping[str, Any]]:
        """Return the conditioning of each call."""
        return super().conditions(*args)[::-1]

    def combine(self, predictions: list[torch.Tensor], channels: int) -> torch.Tensor:
        """Return the guided prediction."""
        return super().combine(predictions[::-1], channels)


class Pipeline(DiffusionPipeline):
    """The least that a pipeline has: a model, a scheduler, and a call that walks through its timesteps."""

    subject: Subject

    def __init__(self, denoiser: nn.Module, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler)

    @torch.no_grad()
    def __call__(self) -> torch.Tensor:
        """Return the samples of a run."""
        subject = self.subject
        self.scheduler.set_timesteps(subject.case.sampler.steps)
        return denoise(
            self.denoiser,
            self.scheduler,
            *subject.inputs(subject.case.batch),
            ConditionalFirst(subject.guidance.scale, subject.guidance.split),
            shared=subject.shared,
            generator=zoo.generator(3),
        )
