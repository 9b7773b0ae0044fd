"""Models with inputs of their own: what `benchmarks.quality` and `benchmarks.ablations` measure on."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, cast

import diffusers
import torch
from torch import nn

import dipgo_fx
from benchmarks import frechet, metrics, trainings
from benchmarks.reference import models as reference
from dipgo_fx import Loop, Plan, PruneConfig
from dipgo_fx.cost import LoopCost
from dipgo_fx.demo import models as demo
from dipgo_fx.denoise import noise_scale
from dipgo_fx.frozen import frozen
from dipgo_fx.macs import Cost
from dipgo_fx.passes import Granularity
from dipgo_fx.search.batch import Batch
from dipgo_fx.search.calibration import calibrate
from dipgo_fx.search.config import Config
from dipgo_fx.search.evaluator import Evaluator

logger = logging.getLogger(__name__)

CASES = ("digits-dit", "digits-unet", *reference.REFERENCE_MODELS)
KNOWN = (*CASES, reference.FROZEN)
SCHEDULERS = {
    "DDIM": "DDIMScheduler",
    "PNDM": "PNDMScheduler",
    "DPM-Solver++": "DPMSolverMultistepScheduler",
    "UniPC": "UniPCMultistepScheduler",
    "Euler": "EulerDiscreteScheduler",
    "Heun": "HeunDiscreteScheduler",
    "LCM": "LCMScheduler",
    "flow-match Euler": "FlowMatchEulerDiscreteScheduler",
}
FLOW = "FlowMatch"  # in the names of samplers of models that predict a flow's velocity, and of no others
# Models that are not distilled leave [-1, 1] under LCM.
EXTRA: dict[str, dict[str, Any]] = {"LCM": {"clip_sample": True}}
CALIBRATION = 48  # samples of a search, and of a "full run" in every table
HELD_OUT_SEED = 1000  # added to a seed: noise that no search sees


class UnsuitedSamplerError(ValueError):
    """A model predicts noise and the sampler wants a velocity, or the other way round."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of a loop, n samples; under guidance conditioning has the n unconditional rows first."""

    sample: torch.Tensor
    conditioning: dict[str, torch.Tensor]
    labels: torch.Tensor | None = None

    def part(self, start: int, stop: int) -> Inputs:
        """Return some of the samples."""
        count, labels = len(self.sample), self.labels
        conditioning = {
            name: torch.cat([rows[start:stop] for rows in value.split(count)])
            for name, value in self.conditioning.items()
        }
        return Inputs(self.sample[start:stop], conditioning, None if labels is None else labels[start:stop])


class Case:
    """One model, scheduler, step count, guidance and seed; what is costly is made once, when asked for.

    Args:
        name: one of `KNOWN`.
        steps: steps as the scheduler counts them.
        scheduler: one of `SCHEDULERS`, made from the config of the model's own; that by default.
        seed: of calibration; held-out noise comes from another.
        samples: of calibration.
        guidance: scale of classifier-free guidance; the model's own if omitted: none for digits and the flow.
        device: of models and inputs; noise is drawn on the CPU, so that it is the same everywhere.

    Raises `ValueError` for an unknown model, `UnsuitedSamplerError` for a sampler that it does not run with.
    """

    def __init__(
        self,
        name: str,
        steps: int = 20,
        scheduler: str | None = None,
        seed: int = 0,
        samples: int = CALIBRATION,
        guidance: float | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if name not in KNOWN:
            raise ValueError(f"expected a model named one of {KNOWN}, got {name!r}")
        self.name, self.steps, self.seed, self.samples = name, steps, seed, samples
        self.device = torch.device(device)
        self.family, _, short = name.partition("-")
        digits = self.family == "digits"
        loaded = demo.load(cast(demo.DigitModel, short)) if digits else reference.load(name)
        self.model: nn.Module = loaded[0].to(self.device)
        of_flow = FLOW in type(loaded[1]).__name__
        scheduler = scheduler or ("flow-match Euler" if of_flow else "DDIM")
        if (FLOW in SCHEDULERS[scheduler]) != of_flow:
            raise UnsuitedSamplerError(f"{name} was not trained for {scheduler}")
        self.scheduler_name, kind = scheduler, getattr(diffusers, SCHEDULERS[scheduler])
        self.scheduler: Any = kind.from_config(loaded[1].config, **EXTRA.get(scheduler, {}))
        own = None if digits else trainings.read(reference.WEIGHTS)[name].get("guidance")
        self.guidance = own if guidance is None else guidance
        self.other_guidance = None if self.guidance == own else guidance
        self.shape = demo.SAMPLE_SHAPE if digits else reference.SAMPLE_SHAPE[name]
        self.trained: dict[str, Plan] = {}  # plans that serve several ratios, by what made them
        self._loops: dict[tuple[Granularity, bool], Loop] = {}
        self._batches: dict[tuple[Granularity, bool], Batch] = {}
        self._evaluators: list[Evaluator] = []

    # -- inputs

    def inputs(self, samples: int, held_out: bool) -> Inputs:
        """Return noise and what to draw.

        Held-out noise is another than that of calibration; held-out emoji are also other emoji.
        """
        seed = self.seed + HELD_OUT_SEED * held_out
        noise = torch.randn((samples, *self.shape), generator=torch.Generator().manual_seed(seed))
        sample = (noise * self.noise_scale).to(self.device)
        if self.family == "emoji":
            return Inputs(sample, {"encoder_hidden_states": self._prompts(samples, held_out)})
        labels = torch.arange(samples, device=self.device) % len(reference.CLASSES)
        null = torch.full_like(labels, reference.NULL_CLASS)
        rows = labels if self.guidance is None else torch.cat([null, labels])
        if self.name == reference.FROZEN:
            return Inputs(sample, {"encoder_hidden_states": reference.digit_states().to(self.device)[rows]})
        return Inputs(sample, {"class_labels": rows}, labels)

    @property
    def noise_scale(self) -> float:
        """What the loop's sampler multiplies noise by."""
        return noise_scale(self.scheduler, self.steps)

    @cached_property
    def calibration(self) -> dict[str, torch.Tensor] | None:
        """Conditioning for a search, or `None` where random classes do."""
        given = self.inputs(self.samples, held_out=False).conditioning
        return None if "class_labels" in given else given

    def _prompts(self, samples: int, held_out: bool) -> torch.Tensor:
        """Return every second name's token states, after as many of the empty prompt under guidance."""
        _, states, nothing = reference.prompt_states()
        chosen = states[int(held_out) :: 2].float()
        rows = chosen[torch.arange(samples) % len(chosen)]
        rows = rows if self.guidance is None else torch.cat([nothing.float().expand_as(rows), rows])
        return rows.to(self.device)

    @property
    def chunk(self) -> int:
        """Samples of a search that run together: all on a GPU, which a few of so small ones leave idle."""
        return self.samples if self.device.type == "cuda" else PruneConfig().chunk

    # -- loops

    def loop_of(self, plan: Plan) -> Loop:
        """Return the unpruned loop that a plan is for."""
        return self.loop(plan.facts.granularity, plan.facts.guidance.split)

    def loop(self, granularity: Granularity = "block", split_guidance: bool = False) -> Loop:
        """Return the unpruned loop."""
        key = (granularity, split_guidance)
        if key not in self._loops:
            self._loops[key] = dipgo_fx.trace(
                self.model,
                self.scheduler,
                self.steps,
                conditioning=self.calibration,
                guidance_scale=self.guidance,
                split_guidance=split_guidance,
                granularity=granularity,
            )
        return self._loops[key]

    @property
    def full(self) -> Cost:
        """MACs of the unpruned loop for one sample."""
        return LoopCost.of(self.loop()).full

    def evaluator(
        self,
        granularity: Granularity = "block",
        config: Config | None = None,
        split_guidance: bool = False,
    ) -> Evaluator:
        """Return a new evaluator on calibration inputs, with an account of its own."""
        key = (granularity, split_guidance)
        loop = self.loop(*key)
        if key not in self._batches:
            with frozen(self.model):
                self._batches[key] = calibrate(
                    loop, self.model, self.calibration, self.samples, self.noise_scale, self.generator()
                )
        config = PruneConfig(samples=self.samples, chunk=self.chunk) if config is None else config
        self._evaluators.append(Evaluator(loop, LoopCost.of(loop), self._batches[key], config))
        return self._evaluators[-1]

    @property
    def generated(self) -> int:
        """Samples that evaluators brought to the end since they were last forgotten, unpruned ones too."""
        return sum((1 + len(each.curve)) * len(each.batch) for each in self._evaluators)

    def forget_evaluators(self) -> None:
        """Let go of evaluators: they hold the graphs that they made."""
        self._evaluators.clear()

    def generator(self) -> torch.Generator:
        """Return a new source of randomness from the case's seed."""
        return torch.Generator().manual_seed(self.seed)

    # -- judges

    @cached_property
    def classifier(self) -> metrics.Classifier | None:
        """What tells the classes apart, where there is one."""
        if self.family == "digits":
            return demo.load_classifier().to(self.device)
        return reference.load_classifier().to(self.device) if self.family == "fashion" else None

    @cached_property
    def features(self) -> metrics.Features | None:
        """The feature extractor, for images large enough."""
        return None if self.family == "digits" else metrics.Features.lite0().to(self.device)

    @cached_property
    def reference(self) -> torch.Tensor | None:
        """Features of real images."""
        if self.family not in ("fashion", "emoji"):
            return None
        return frechet.load_features(reference.WEIGHTS / f"{self.family}-features.safetensors")

    def errors(
        self,
        result: torch.Tensor,
        target: torch.Tensor,
        inputs: Inputs,
        converged: torch.Tensor | None = None,
    ) -> metrics.ImageErrors:
        """Measure images against the unpruned ones of the same noise, and against converged ones."""
        return metrics.measure(result, target, inputs.labels, self.classifier, self.features, converged)

    def quality_of(self, loop: Loop, samples: int) -> metrics.Quality:
        """Run a loop on held-out inputs and measure it."""
        return metrics.Quality.of(self.errors_of(loop, samples))

    @torch.no_grad()
    def errors_of(self, loop: Loop, samples: int) -> metrics.ImageErrors:
        """Run a loop on held-out inputs; samplers that draw noise draw the unpruned loop's."""
        inputs = self.inputs(samples, held_out=True)
        result, target = (
            each(inputs.sample, **inputs.conditioning, generator=self.generator())
            for each in (loop, self.loop())
        )
        return self.errors(result, target, inputs)


def asked_cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases of a command line, seeds last: a stopped run has whole cases.

    A model is left out, with a warning, of a sampler that it was not trained for.
    """
    asked = (options.seeds, options.models, options.schedulers, options.guidance, options.steps)
    for seed, name, scheduler, guidance, steps in product(*asked):
        try:
            yield Case(name, steps, scheduler, seed, options.calibration, guidance, options.device)
        except UnsuitedSamplerError as error:
            logger.warning("left out: %s", error)
