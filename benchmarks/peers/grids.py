"""Timesteps for samplers of few calls that start where the unpruned loop starts.

Stock spacings of few steps start elsewhere: "leading" with 4 steps at timestep 750, for which pure noise is
then taken. Pure noise belongs to the loop's own first timestep.
"""

from __future__ import annotations

from typing import Any

import torch

from dipgo_fx.denoise import prepared
from dipgo_fx.search.spacing import even_steps

from .core import Task
from .noise_levels import NoiseLevels

LASTS = (0.0, 30.0, 60.0)  # timesteps at which grids by noise level end
POWERS = (1.0, 1.5, 2.0)
KARRAS = (3.0, 7.0)  # exponents; 7 is that of the paper, which is all but even in log-SNR


def levels_of(task: Task) -> NoiseLevels:
    """Return the noise levels of a task's loop."""
    return NoiseLevels.of(prepared(task.scheduler, task.steps))


def subsets(task: Task, count: int) -> dict[str, tuple[float, ...]]:
    """Return evenly spread timesteps of the loop's own, by the steps at which it has them."""
    own = [float(timestep) for timestep in prepared(task.scheduler, task.steps).timesteps]
    own = sorted(set(own), reverse=True)  # Heun has most of them twice
    return {
        f"steps {' '.join(map(str, chosen))}": tuple(own[step] for step in chosen)
        for chosen in even_steps(len(own), min(count, len(own)))
    }


def by_noise(levels: NoiseLevels, count: int) -> dict[str, tuple[float, ...]]:
    """Return grids from the loop's first timestep as Karras et al. have them."""
    found: dict[str, tuple[float, ...]] = {}
    for last in LASTS[: 1 if count == 1 else None]:
        alpha, sigma = levels.at(torch.tensor([levels.first, last]))
        first, final = (sigma / alpha).double().tolist()
        ratio = torch.linspace(0, 1, count, dtype=torch.float64)
        for rho in KARRAS:
            root, end = first ** (1 / rho), final ** (1 / rho)
            sigmas = (root + ratio * (end - root)) ** rho
            times = levels.timestep_of(-sigmas.log()).tolist()
            found[f"Karras {rho:g} to {last:g}"] = (levels.first, *(float(time) for time in times[1:]))
    return found


def by_power(first: float, count: int) -> dict[str, tuple[float, ...]]:
    """Return grids from a timestep whose gaps widen towards the end, where guidance needs them."""
    return {
        f"power {power:g}": tuple(first * (1 - (i / count) ** power) for i in range(count))
        for power in POWERS
    }


def grids(task: Task, count: int) -> dict[str, tuple[float, ...]]:
    """Return all of them by name."""
    levels = levels_of(task)
    return {**subsets(task, count), **by_noise(levels, count), **by_power(levels.first, count)}


def place(scheduler: Any, levels: NoiseLevels, timesteps: tuple[float, ...]) -> Any:
    """Put a solver of diffusers that keeps `sigmas` on timesteps of one's own; what ends the grid stays."""
    scheduler.set_timesteps(len(timesteps))
    alpha, sigma = levels.at(torch.tensor(timesteps))
    ratio = sigma if scheduler.config.get("use_flow_sigmas") else sigma / alpha
    scheduler.sigmas = torch.cat([ratio.float(), scheduler.sigmas[-1:].float()])
    scheduler.timesteps = torch.tensor(timesteps, dtype=torch.float32)
    return scheduler
