"""How a peer's own package runs in the eager sampling loop."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from benchmarks.cases import Case
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.guidance import Guidance
from dipgo_fx.macs import Cost

from .meter import MacMeter


@dataclass(frozen=True)
class Task:
    """A sampling loop to make cheaper.

    Attributes:
        model: a diffusers denoiser; never touched, peers get a twin that shares its weights.
        scheduler: a diffusers scheduler; left as found.
        steps: what `set_timesteps` is given.
        sample: initial noise for peers that calibrate, and for choosing settings.
        conditioning: what `model.forward` takes besides; 2 * batch rows under guidance.
        guidance_scale: classifier-free guidance, or `None`.
        asked: shares of the loop's MACs that may be kept, which searching peers aim at.
        full_runs: how much a searching peer may spend for each share, in unpruned runs of `sample`.
    """

    model: nn.Module
    scheduler: Any
    steps: int
    sample: torch.Tensor
    conditioning: Mapping[str, Any]
    guidance_scale: float | None = None
    asked: tuple[float, ...] = (0.2, 0.3, 0.5, 0.7)
    full_runs: float = 60.0

    @classmethod
    def of(cls, case: Case, samples: int, ratios: Sequence[float], full_runs: float) -> Task:
        """Return the loop of a case.

        Args:
            case: what is to be made cheaper.
            samples: calibration samples that settings are chosen on.
            ratios: shares of MACs to remove.
            full_runs: of a searching peer, in runs of as many samples as our search has.
        """
        inputs = case.inputs(samples, held_out=False)
        return cls(
            case.model,
            case.scheduler,
            case.steps,
            inputs.sample,
            inputs.conditioning,
            case.guidance,
            tuple(round(1 - ratio, 6) for ratio in ratios),
            full_runs * case.samples / samples,
        )

    @cached_property
    def full(self) -> Cost:
        """MACs of the unpruned loop for one sample."""
        one = PeerSampler(self, NOTHING, Setting())
        one(self.sample[:1], **_rows(self.conditioning, Guidance(self.guidance_scale).rows))
        return one.macs

    @cached_property
    def target(self) -> torch.Tensor:
        """The unpruned result of `sample`."""
        return PeerSampler(self, NOTHING, Setting())(self.sample, **self.conditioning)


class ActsOnNothing(RuntimeError):
    """A package that hooks no module of a model and raises nothing; the message says what it does say."""


@dataclass(frozen=True)
class Setting:
    """One setting of a peer.

    Attributes:
        knobs: for the table.
        data: what a calibration found.
        asked: the share of MACs that it was searched for, `None` if it serves every share.
        spent: what finding it cost, in unpruned runs of the task's sample, its own run not counted.
        error: why it could not be found; it is then not run.
    """

    knobs: Mapping[str, Any] = field(default_factory=dict)
    data: Any = None
    asked: float | None = None
    spent: float = 0.0
    error: str = ""

    def __str__(self) -> str:
        """Return the knobs in one line."""
        return ", ".join(f"{name}={value}" for name, value in self.knobs.items()) or "-"


@dataclass
class Stage:
    """What a peer installs itself on for one run; thrown away afterwards.

    Attributes:
        model: a twin of the task's model: its own modules, the same weights.
        scheduler: a copy, timesteps set.
        call: what the loop calls for a prediction; a peer may replace it.
        step: index of the running step.
    """

    model: nn.Module
    scheduler: Any
    call: Callable[..., torch.Tensor]
    step: int = 0

    @property
    def timestep(self) -> float:
        """Noise level of the running step."""
        return float(self.scheduler.timesteps[self.step])


@dataclass(frozen=True)
class Method:
    """A peer.

    Attributes:
        name: for the table.
        package: the distribution whose code runs.
        settings: yields its settings; may calibrate, and raises what the package raises. A generator gets
            the outcome of each setting as the value of its `yield`, so it may go on from the best.
        install: puts the package's hooks on a stage.
        scheduler: gives the loop's scheduler, timesteps set, where it is not the task's own.
    """

    name: str
    package: str
    settings: Callable[[Task], Iterable[Setting]]
    install: Callable[[Stage, Setting], None] = lambda stage, setting: None
    scheduler: Callable[[Task, Setting], Any] = lambda task, setting: prepared(task.scheduler, task.steps)


NOTHING = Method("unpruned", "diffusers", lambda task: [Setting()])


class PeerSampler:
    """`sampler(sample, **conditioning)` returns the final latents; `sampler.macs` is what that run cost.

    Every call starts afresh: no state of a package outlives it.
    """

    def __init__(self, task: Task, method: Method, setting: Setting) -> None:
        self.task, self.method, self.setting = task, method, setting
        self.macs = Cost()

    @torch.no_grad()
    def __call__(self, sample: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        """Run the loop under a meter, which does not change its result."""
        with MacMeter() as meter:
            latents = self.plain(sample, **conditioning)
        self.macs = meter.cost(len(sample))
        return latents

    @torch.no_grad()
    def plain(self, sample: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        """Run the loop."""
        with quiet():
            stage = self._stage()
            self.method.install(stage, self.setting)
            latents = denoise(
                _Caller(stage),
                stage.scheduler,
                sample,
                conditioning,
                Guidance(self.task.guidance_scale),
                on_step=lambda step, sample: setattr(stage, "step", step),
            )
        release(stage.model)
        return latents

    def _stage(self) -> Stage:
        model = twin(self.task.model)

        def call(sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
            result: torch.Tensor = model(sample, timestep=timestep, **conditioning, return_dict=False)[0]
            return result

        return Stage(model, self.method.scheduler(self.task, self.setting), call)


def twin(model: nn.Module) -> nn.Module:
    """Return a copy of a model that shares its weights, for packages that edit what they are given."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def release(model: nn.Module) -> None:
    """Cut a used twin loose from its hooks, which hold cached features and would wait for the collector."""
    for module in model.modules():
        for name in ("forward", "_diffusers_hook"):
            module.__dict__.pop(name, None)


@contextmanager
def quiet() -> Iterator[None]:
    """Swallow what packages print."""
    with open(os.devnull, "w", encoding="utf-8") as sink, redirect_stdout(sink):
        yield


class _Caller(nn.Module):
    """A stage as the model of the eager loop."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        return self._stage.call(sample, timestep=timestep, **conditioning)


def _rows(conditioning: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Return conditioning for one sample: the first row, and the first of the conditional ones."""

    def first(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value[:: max(len(value) // rows, 1)][:rows]
        return _rows(value, rows) if isinstance(value, Mapping) else value

    return {name: first(value) for name, value in conditioning.items()}
