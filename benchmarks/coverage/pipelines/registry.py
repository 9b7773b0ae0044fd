"""The registry of the tiny pipelines, and the decorator that fills it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline
from packaging.version import Version

from benchmarks.coverage.pipelines.parts import Inputs, TooOldError, generator

WRITTEN_FOR = Version("0.42")
"""The diffusers that has all of these pipelines; of an older one what it lacks is left out."""


@dataclass(frozen=True)
class Tiny:
    """A tiny pipeline.

    Attributes:
        build: Makes the pipeline afresh, always with the same weights.
        call: Runs it: pipeline, steps, batch (1), seed (0); more keywords go to the pipeline. Returns
            the latents, or where the pipeline cannot give them, what it makes of them.
        inputs: Arguments of the call that depend on the batch.
        fixed: The others, steps and generator aside.
        single: Whether it makes one row, whatever the batch.
        steps: Arguments of the call that depend on the number of steps.
    """

    build: Callable[[], DiffusionPipeline]
    call: Callable[..., torch.Tensor]
    inputs: Inputs
    fixed: Mapping[str, Any]
    single: bool
    steps: Callable[[int], dict[str, Any]]


class Registry(dict[str, Any]):
    """What there is by key; what an older diffusers does not have is told from a wrong key."""

    def __missing__(self, key: str) -> Any:
        """Raise `TooOldError` with a diffusers that these pipelines were not written for, else `KeyError`."""
        if Version(diffusers.__version__) < WRITTEN_FOR:
            raise TooOldError(f"diffusers {diffusers.__version__} has no pipeline {key!r}")
        raise KeyError(key)


PIPELINES: dict[str, Tiny] = Registry()

DENOISERS: dict[str, str] = Registry()
"""Denoiser class name -> key of the first pipeline that has it."""

SINGLE: set[str] = set()
"""Keys of the pipelines that make one row, whatever the batch."""


_OPTIONAL = ("output_type", "generator")
"""Arguments that a pipeline need not have; `None` leaves them out."""


def _steps(number: int) -> dict[str, Any]:
    """Return the usual argument for a number of steps."""
    return {"num_inference_steps": number}


def tiny(
    key: str,
    *denoisers: str,
    inputs: Inputs,
    single: bool = False,
    steps_as: Callable[[int], dict[str, Any]] = _steps,
    **fixed: Any,
) -> Callable[[Callable[[], DiffusionPipeline]], Callable[[], DiffusionPipeline]]:
    """Register the decorated builder.

    Args:
        denoisers: Class names of the denoisers that no earlier pipeline has.
        inputs: Arguments of the call that depend on the batch.
        single: Whether the pipeline makes one row only.
        steps_as: Arguments of the call that depend on the number of steps.
        fixed: Other arguments of the call.
    """
    settings = {"output_type": "latent", **fixed}

    def register(make: Callable[[], DiffusionPipeline]) -> Callable[[], DiffusionPipeline]:
        def build() -> DiffusionPipeline:
            with warnings.catch_warnings():
                # Some pipelines and models of diffusers still use what it or torch has deprecated.
                warnings.simplefilter("ignore", FutureWarning)
                pipe = make()
            pipe.set_progress_bar_config(disable=True)
            return pipe

        def call(
            pipe: DiffusionPipeline, steps: int, batch: int = 1, seed: int = 0, **extra: Any
        ) -> torch.Tensor:
            arguments = {**steps_as(steps), "generator": generator(seed), **settings}
            arguments |= {**inputs(1 if single else batch), **extra}
            arguments = {
                name: value for name, value in arguments.items() if name not in _OPTIONAL or value is not None
            }
            with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
                warnings.simplefilter("ignore", FutureWarning)
                warnings.filterwarnings("ignore", "torch.meshgrid|Default grid_sample")  # of old pipelines
                warnings.filterwarnings("ignore", "In CPU autocast")  # Mochi's position embedding
                warnings.filterwarnings("ignore", "flex_attention called without")  # AnyFlow's by chunks
                torch.manual_seed(seed)  # some pipelines encode their image without the generator
                return _tensor(pipe(**arguments))

        PIPELINES[key] = Tiny(build, call, inputs, settings, single, steps_as)
        if single:
            SINGLE.add(key)
        for name in denoisers:
            DENOISERS.setdefault(name, key)
        return make

    return register


def add(
    key: str,
    cls: Callable[..., DiffusionPipeline],
    parts: Callable[[], dict[str, Any]],
    *denoisers: str,
    inputs: Inputs,
    **settings: Any,
) -> None:
    """Register the pipeline of a class whose parts a function makes; the rest is as for `tiny`."""
    tiny(key, *denoisers, inputs=inputs, **settings)(lambda: cls(**parts()))


def _tensor(output: Any) -> torch.Tensor:
    """Return the first field of a pipeline's output as one tensor."""
    while not isinstance(output, torch.Tensor | np.ndarray):
        first = output[0]
        if isinstance(output, list) and len(output) > 1:
            return torch.stack([_tensor(item) for item in output])
        output = first
    return torch.as_tensor(output)
