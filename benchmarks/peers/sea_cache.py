"""SeaCache of diffusers: the blocks' residual is repeated while a filtered sample changes little."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.hooks.hooks import CacheContext, _set_cache_context
from diffusers.hooks.sea_cache import SeaCacheConfig, apply_sea_cache

from .core import Method, Setting, Stage, Task
from .noise_levels import NoiseLevels

THRESHOLDS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0)
POWERS = (3.0, 2.0)  # of the clean signal's spectrum; 3 is the default, for video
# Order of the forecast, most repeats in a row (0: no limit), last steps that always run.
WAYS = ((1, 2, 1), (0, 2, 1), (1, 0, 1), (0, 0, 1), (1, 0, 0))


def settings(task: Task) -> Iterator[Setting]:
    """Yield thresholds for ways to repeat, the default's first, with the package's and a lower power."""
    for power in POWERS:
        for order, longest, last in WAYS:
            for threshold in THRESHOLDS:
                knobs = {"residual_order": order, "max_consecutive_cached": longest, "cache_end_steps": last}
                yield Setting({"threshold": threshold, **knobs, "power_exp": power})


def install(stage: Stage, setting: Setting) -> None:
    """Enable the cache, and tell it before each call where the loop is, as a pipeline does."""
    levels, plain = NoiseLevels.of(stage.scheduler), stage.call
    alpha, sigma = levels.at(torch.as_tensor(stage.scheduler.timesteps))
    ratios = (sigma / (alpha + sigma)).tolist()  # a flow's sigma with the same signal-to-noise ratio
    apply_sea_cache(stage.model, SeaCacheConfig(**setting.knobs, raw_vision_callback=_vision))

    def call(sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        context = CacheContext("loop", stage.step, len(ratios), stage.timestep, ratios[stage.step])
        _set_cache_context(stage.model, context)
        return plain(sample, timestep=timestep, **conditioning)

    stage.call = call


def _vision(module: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """Return each sample as channels, frames, height and width."""
    return [sample[:, None] for sample in args[0]]


SEACACHE = Method("SeaCache", "diffusers", settings, install)
