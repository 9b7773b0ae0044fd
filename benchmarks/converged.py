"""What ever more steps come to: the sampler's differential equation, solved with steps of its own.

It starts where the unpruned loop starts, with the same noise at the loop's first timestep: with the cosine
noise levels of the models here the timesteps before it blow up every error of the network.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from benchmarks.cases import Case, Inputs
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.frozen import frozen
from dipgo_fx.guidance import Guidance


def converged(case: Case, inputs: Inputs, steps: int) -> torch.Tensor:
    """Return the samples of the same noise, in at most so many steps."""
    own = prepared(case.scheduler, case.steps)
    solver: Any = FlowSolver(own, steps) if "FlowMatch" in type(own).__name__ else DiffusionSolver(own, steps)
    noise = inputs.sample / case.noise_scale
    with torch.no_grad(), frozen(case.model):
        return denoise(case.model, solver, noise, inputs.conditioning, Guidance(case.guidance))


class DiffusionSolver:
    """DDIM without noise whose noise is extrapolated from two calls: second order in the steps.

    Args:
        own: the loop's scheduler, timesteps set. Clipping of clean samples, which some have, is left out.
        steps: as many integer timesteps at most.
    """

    def __init__(self, own: Any, steps: int) -> None:
        stock = DDIMScheduler.from_config(own.config)
        first = float(own.timesteps[0])
        grid = torch.linspace(first, 0, min(steps, int(first) + 1)).round().long().unique().flip(0)
        self.config, self.timesteps = stock.config, grid
        alphas = stock.alphas_cumprod.double()
        self._levels = torch.cat([alphas[grid], stock.final_alpha_cumprod.double().reshape(1)])
        self._step = 0
        self._last: torch.Tensor | None = None

    def step(
        self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, return_dict: bool = True
    ) -> tuple[torch.Tensor]:
        """Return the sample at the next timestep."""
        now, after = self._levels[self._step : self._step + 2].tolist()
        noise = self._noise(model_output, sample, now)
        straight = noise if self._last is None else 1.5 * noise - 0.5 * self._last
        self._step, self._last = self._step + 1, noise
        ratio = (after / now) ** 0.5
        return (ratio * sample + ((1 - after) ** 0.5 - ratio * (1 - now) ** 0.5) * straight,)

    def _noise(self, output: torch.Tensor, sample: torch.Tensor, now: float) -> torch.Tensor:
        """Return the noise that an output of the model stands for."""
        alpha, sigma = now**0.5, (1 - now) ** 0.5
        if self.config.prediction_type == "epsilon":
            return output
        if self.config.prediction_type == "sample":
            return (sample - alpha * output) / sigma
        return alpha * output + sigma * sample


class FlowSolver:
    """Flow matching by two-step Adams-Bashforth, evenly from the loop's first noise level to none."""

    def __init__(self, own: Any, steps: int) -> None:
        self.config = own.config
        self._levels = torch.linspace(float(own.sigmas[0]), 0, steps + 1)
        self.timesteps = self._levels[:-1] * own.config.num_train_timesteps
        self._step = 0
        self._last: torch.Tensor | None = None

    def step(
        self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, return_dict: bool = True
    ) -> tuple[torch.Tensor]:
        """Return the sample at the next noise level."""
        straight = model_output if self._last is None else 1.5 * model_output - 0.5 * self._last
        width = float(self._levels[self._step + 1] - self._levels[self._step])
        self._step, self._last = self._step + 1, model_output
        return (sample + width * straight,)
