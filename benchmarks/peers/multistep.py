"""Linear multistep samplers as tables of coefficients, and the stock ones among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from .noise_levels import NoiseLevels

Part = Literal["noise", "clean"]
ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@dataclass(frozen=True)
class Coefficients:
    """A sampler of m calls: after call i the sample is `carry[i]` times itself plus a sum over calls j <= i.

    Attributes:
        times: `(m,)` timesteps whose noise levels turn a prediction into its clean sample and noise.
        told: `(m,)` timesteps that the network is told.
        carry: `(m,)`.
        history: `(m, m)`, row i holds what call j's part counts; entries beyond the diagonal are 0.
        part: which part of a prediction the sum is over.
    """

    times: torch.Tensor
    told: torch.Tensor
    carry: torch.Tensor
    history: torch.Tensor
    part: Part


Theory = Callable[[NoiseLevels, torch.Tensor], Coefficients]


def ddim(levels: NoiseLevels, times: torch.Tensor) -> Coefficients:
    """Return DDIM over any falling timesteps."""
    return adams_bashforth(levels, times, 1)


def adams_bashforth(levels: NoiseLevels, times: torch.Tensor, order: int) -> Coefficients:
    """Return DDIM whose noise is extrapolated as by Adams and Bashforth (PNDM's linear steps, iPNDM)."""
    alpha, sigma, after, rest = _ends(levels, times)
    weights = torch.zeros(len(times), len(times), dtype=torch.float64)
    for i in range(len(times)):
        known = ADAMS_BASHFORTH[min(order, i + 1) - 1]
        weights[i, i + 1 - len(known) : i + 1] = torch.tensor(known[::-1])
    step = rest - after * sigma / alpha
    return Coefficients(times, times, after / alpha, step[:, None] * weights, "noise")


def dpm_2m(levels: NoiseLevels, times: torch.Tensor) -> Coefficients:
    """Return DPM-Solver++ 2M, whose first and last steps are of first order."""
    alpha, sigma, after, rest = _ends(levels, times)
    carry = rest / sigma
    step = after - alpha * carry
    log_snr = (alpha / sigma).log()
    width = log_snr.diff()
    history = torch.diag(step)
    if len(times) > 2:
        half = torch.zeros_like(step)
        half[1:-1] = step[1:-1] * width[1:] / width[:-1] / 2
        history = history + torch.diag(half) - torch.diag(half[1:], -1)
    return Coefficients(times, times, carry, history, "clean")


THEORIES: dict[str, Theory] = {"DDIM": ddim, "DPM-Solver++ 2M": dpm_2m}


def _ends(levels: NoiseLevels, times: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return alpha and sigma of each call, and of the sample that follows it."""
    alpha, sigma = levels.at(times)
    last, rest = alpha.new_tensor(levels.end).split(1)
    return alpha, sigma, torch.cat([alpha[1:], last]), torch.cat([sigma[1:], rest])


class Multistep:
    """A sampler by coefficients, one run of it; differentiable."""

    def __init__(self, levels: NoiseLevels, coefficients: Coefficients) -> None:
        self.levels, self.coefficients = levels, coefficients
        self.alpha, self.sigma = levels.at(coefficients.times)
        self.known: list[torch.Tensor] = []

    def note(self, prediction: torch.Tensor, sample: torch.Tensor) -> None:
        """Remember the prediction of the next call."""
        i = len(self.known)
        levels = (self.alpha[i].to(sample), self.sigma[i].to(sample))
        clean, noise = self.levels.parts(prediction, sample, *levels)
        self.known.append(clean if self.coefficients.part == "clean" else noise)

    def update(self, prediction: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        """Return the sample after the next call of the model."""
        self.note(prediction, sample)
        i, table = len(self.known) - 1, self.coefficients
        result = table.carry[i].to(sample) * sample
        for weight, value in zip(table.history[i], self.known, strict=False):
            result = result + weight.to(sample) * value
        return result


class MultistepScheduler:
    """What the eager loop takes for a scheduler; good for one run."""

    init_noise_sigma = 1.0

    def __init__(self, config: Any, levels: NoiseLevels, coefficients: Coefficients) -> None:
        self.config, self.timesteps = config, coefficients.told.float()
        self._run = Multistep(levels, coefficients)

    def step(
        self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, return_dict: bool = True
    ) -> tuple[torch.Tensor]:
        """Return the sample after the next call."""
        return (self._run.update(model_output, sample),)
