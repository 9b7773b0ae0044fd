"""The yardstick: the same sampler with fewer steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from dipgo_fx.denoise import prepared

from .core import Method, Setting, Task
from .grids import grids, levels_of
from .multistep import MultistepScheduler, ddim

SPACINGS = ("leading", "trailing", "linspace")
ALL_COUNTS = 20  # up to this many steps every number of steps is tried


def counts(task: Task, every: bool = True) -> list[int]:
    """Return numbers of steps, fewest last: those that are asked for, and with `every` others between."""
    found = {fitting(task, asked) for asked in task.asked}
    if every:
        found |= set(range(1, task.steps, -(-task.steps // ALL_COUNTS)))
    return sorted(found, reverse=True)


def fitting(task: Task, asked: float) -> int:
    """Return how many steps keep at most the share `asked` of the MACs, at least one."""
    return max(1, int(task.steps * asked + 1e-9))


def by_share(task: Task) -> dict[float, int]:
    """Return the numbers of steps that are asked for, by share; of equal ones that of the largest share."""
    found = {fitting(task, asked): asked for asked in sorted(task.asked)}
    return {asked: count for count, asked in found.items()}


def spacings(task: Task) -> Iterator[dict[str, Any]]:
    """Yield numbers of steps with the scheduler's own spacing, then those asked for with others."""
    own = task.scheduler.config.get("timestep_spacing")
    yield from ({"steps": count, "spacing": own} for count in counts(task))
    for spacing in SPACINGS if own else ():
        if spacing != own:
            yield from ({"steps": count, "spacing": spacing} for count in counts(task, every=False))


def settings(task: Task) -> Iterator[Setting]:
    """Yield numbers of steps and spacings, for DDIM also grids that start where the loop does."""
    for knobs in spacings(task):
        yield Setting(knobs)
    if isinstance(task.scheduler, DDIMScheduler):
        for count in counts(task, every=False):
            for name, timesteps in grids(task, count).items():
                yield Setting({"steps": count, "grid": name}, timesteps)


def in_steps(task: Task, setting: Setting) -> Any:
    """Return the task's scheduler with the setting's steps."""
    if setting.data is not None:
        levels = levels_of(task)
        times = levels.tensor(setting.data)
        return MultistepScheduler(task.scheduler.config, levels, ddim(levels, times))
    spacing = setting.knobs["spacing"]
    config = {"timestep_spacing": spacing} if spacing else {}
    made = type(task.scheduler).from_config(task.scheduler.config, **config)
    return prepared(made, setting.knobs["steps"])


FEWER = Method("fewer steps", "diffusers", settings, scheduler=in_steps)
