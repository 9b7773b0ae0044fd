"""DDIM whose noise is extrapolated from up to four predictions: PNDM's linear steps, known as iPNDM."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from .core import Method, Setting, Task
from .curve import Outcome
from .grids import grids, levels_of
from .multistep import ADAMS_BASHFORTH, MultistepScheduler, adams_bashforth
from .samplers import by_share
from .tuning import Knobs, staged


def settings(task: Task) -> Generator[Setting, Outcome, None]:
    """Tune each number of steps that is asked for: where the timesteps are, the order, timesteps again."""
    for asked, count in by_share(task).items():
        points = grids(task, count)

        def made(
            knobs: Knobs, asked: float = asked, points: dict[str, tuple[float, ...]] = points
        ) -> Setting:
            return Setting(knobs, points[knobs["grid"]], asked)

        places = [{"grid": name} for name in points]
        orders = [{"order": order} for order in range(2, min(len(ADAMS_BASHFORTH), max(count, 2)) + 1)]
        yield from staged({"steps": count, "order": 2}, [places, orders, places], made)


def scheduler(task: Task, setting: Setting) -> Any:
    """Return the sampler of a setting."""
    levels = levels_of(task)
    table = adams_bashforth(levels, levels.tensor(setting.data), setting.knobs["order"])
    return MultistepScheduler(task.scheduler.config, levels, table)


IPNDM = Method("iPNDM", "diffusers", settings, scheduler=scheduler)
