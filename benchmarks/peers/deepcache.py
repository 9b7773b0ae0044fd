"""DeepCache: a U-Net's deep part runs at every n-th step only."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

from .core import Method, Setting, Stage, Task


def settings(task: Task) -> Iterator[Setting]:
    """Yield intervals and branches; a branch is three layers of a level at most, as the package counts."""
    stages: Any = getattr(task.model, "down_blocks", ())  # without them, the package says so itself
    layers = min(3, len(stages[0].resnets) + 1) if stages else 1
    branches = [3 * level + layer for level in range(max(len(stages), 1)) for layer in range(layers)]
    intervals = [*range(2, min(11, task.steps)), task.steps]
    yield from (Setting({"cache_interval": n, "cache_branch_id": b}) for b in branches for n in intervals)


def install(stage: Stage, setting: Setting) -> None:
    """Enable the package's helper on a stand-in for a pipeline."""
    from DeepCache import DeepCacheSDHelper

    helper = DeepCacheSDHelper(pipe=SimpleNamespace(unet=stage.model, scheduler=stage.scheduler))
    helper.set_params(**setting.knobs)
    helper.enable()

    def call(sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        # The package reads the step off a timestep that is one number and given by position.
        result: torch.Tensor = stage.model(sample, timestep[0], **conditioning, return_dict=False)[0]
        return result

    stage.call = call


DEEPCACHE = Method("DeepCache", "DeepCache", settings, install)
