"""SmoothCache: attentions and feed-forwards repeat where a calibration run changed little.

The installed wheel runs schedules but lacks the calibration that makes them (its `calibration` folder
is missing), so the rule of the paper is written out here.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .core import ActsOnNothing, Method, PeerSampler, Setting, Stage, Task

LOOKAHEAD = 3  # the paper's longest run of repeats
THRESHOLDS = (0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1.0, 1e9)
COMPONENTS = ("attn1", "ff")

Errors = dict[str, list[list[float]]]


def settings(task: Task) -> Iterator[Setting]:
    """Calibrate once, then yield the schedules of thresholds, for attentions alone and with feed-forwards.

    Attentions alone are what the package's helper for diffusers wraps; the paper also repeats
    feed-forwards, which its general helper can do.
    """
    errors = calibrate(task)
    if not errors:
        raise ActsOnNothing("the helper for diffusers wraps BasicTransformerBlock only, and there is none")
    for names in (COMPONENTS, COMPONENTS[:1]):
        for threshold in THRESHOLDS:
            schedule = {name: schedule_of(errors[name], threshold) for name in names if name in errors}
            yield Setting({"threshold": threshold, "components": "+".join(schedule)}, schedule)


def calibrate(task: Task) -> Errors:
    """Return, for each component and k, the relative L1 change between steps i and i + k + 1.

    Averaged over the blocks of the model, on one run of the task's sample.
    """
    watches: dict[str, list[_Watch]] = {}

    def install(stage: Stage, setting: Setting) -> None:
        for block in _blocks(stage.model):
            for name in COMPONENTS:
                if getattr(block, name, None) is not None:
                    watch = _Watch()
                    watches.setdefault(name, []).append(watch)
                    getattr(block, name).register_forward_hook(watch)

    PeerSampler(task, Method("SmoothCache calibration", "", settings, install), Setting())(
        task.sample, **task.conditioning
    )
    return {name: _mean([watch.errors for watch in group]) for name, group in watches.items()}


def schedule_of(errors: Sequence[Sequence[float]], threshold: float) -> list[int]:
    """Return the 0/1 schedule: after a computed step, repeat for as long as the error allows.

    At each computed step the longest run of repeats wins whose last step still is within the
    threshold. The first and the last step are computed.
    """
    steps = len(errors[0]) + 1
    schedule, step = [1] * steps, 0
    while step < steps:
        fitting = [k for k, row in enumerate(errors) if step < len(row) and row[step] <= threshold]
        run = 1 + max(fitting) if fitting else 0
        schedule[step + 1 : step + 1 + run] = [0] * len(schedule[step + 1 : step + 1 + run])
        step += run + 1
    schedule[-1] = 1
    return schedule


def install(stage: Stage, setting: Setting) -> None:
    """Enable the package's helper."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from SmoothCache import SmoothCacheHelper

    names = sorted({key.partition("-")[0] for key in setting.data})  # "attn1-3": block 3's alone
    helper = SmoothCacheHelper(stage.model, _block_class(), names, setting.data)
    helper.enable()


class _Watch:
    """A forward hook that compares each output with the last few."""

    def __init__(self) -> None:
        self.errors: list[list[float]] = [[] for _ in range(LOOKAHEAD)]
        self._last: deque[torch.Tensor] = deque(maxlen=LOOKAHEAD)

    def __call__(self, module: Any, args: Any, output: torch.Tensor) -> None:
        for k, earlier in enumerate(self._last):
            self.errors[k].append(float((earlier - output).abs().sum() / output.abs().sum()))
        self._last.appendleft(output.detach().clone())


def _mean(tables: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    return [
        [sum(column) / len(column) for column in zip(*rows, strict=True)]
        for rows in zip(*tables, strict=True)
    ]


def _blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    return [module for module in model.modules() if isinstance(module, _block_class())]


def _block_class() -> type[torch.nn.Module]:
    from diffusers.models.attention import BasicTransformerBlock

    return BasicTransformerBlock


SMOOTHCACHE = Method("SmoothCache", "dit-smoothcache", settings, install)
