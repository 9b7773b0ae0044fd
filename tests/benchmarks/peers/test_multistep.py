"""Samplers as tables of coefficients are the stock ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

from benchmarks.peers.multistep import MultistepScheduler, adams_bashforth, ddim, dpm_2m
from benchmarks.peers.noise_levels import NoiseLevels

pytestmark = pytest.mark.long

GRID = (950, 700, 450, 200, 50)


def run(scheduler: Any, predictions: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """Return the final sample of a scheduler that is given predictions."""
    for timestep, prediction in zip(scheduler.timesteps, predictions, strict=True):
        sample = scheduler.step(prediction, timestep, sample, return_dict=False)[0]
    return sample


def given() -> tuple[torch.Tensor, torch.Tensor]:
    """Return predictions and a start."""
    values = torch.randn(len(GRID) + 1, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return values[1:], values[0]


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_dpm_is_the_stock_one(prediction: str) -> None:
    """On the same grid, whatever the network predicts."""
    stock = DPMSolverMultistepScheduler(prediction_type=prediction, beta_schedule="squaredcos_cap_v2")
    stock.set_timesteps(timesteps=list(GRID))
    levels = NoiseLevels.of(stock)
    own = MultistepScheduler(stock.config, levels, dpm_2m(levels, levels.tensor(GRID)))
    torch.testing.assert_close(run(own, *given()), run(stock, *given()), rtol=1e-5, atol=1e-5)


def test_ddim_is_the_stock_one() -> None:
    """On the grid that it has by itself; of first order in another's words too."""
    stock = DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False, steps_offset=1)
    stock.set_timesteps(len(GRID))
    levels = NoiseLevels.of(stock)
    times = levels.tensor([float(t) for t in stock.timesteps])
    own = MultistepScheduler(stock.config, levels, ddim(levels, times))
    torch.testing.assert_close(run(own, *given()), run(stock, *given()), rtol=0, atol=1e-5)
    # A constant noise is extrapolated to itself.
    predictions, sample = given()
    constant = predictions[:1].expand(len(GRID), *sample.shape)
    higher = MultistepScheduler(stock.config, levels, adams_bashforth(levels, times, 4))
    torch.testing.assert_close(run(higher, constant, sample), run(stock, constant, sample), rtol=0, atol=1e-5)


def test_flow_matching_of_first_order_is_euler() -> None:
    """Its sigma is a thousandth of the timestep."""
    stock = FlowMatchEulerDiscreteScheduler()
    stock.set_timesteps(len(GRID))
    levels = NoiseLevels.of(stock)
    times = levels.tensor([float(t) for t in stock.timesteps]).clamp(max=999.0)
    own = MultistepScheduler(stock.config, levels, ddim(levels, times))
    torch.testing.assert_close(run(own, *given()), run(stock, *given()), rtol=0, atol=1e-2)


def test_noise_levels_lie_between_those_of_integers() -> None:
    """And timesteps are found again."""
    stock = DDIMScheduler(clip_sample=False)
    stock.set_timesteps(4)
    levels = NoiseLevels.of(stock)
    alpha, sigma = levels.at(levels.tensor([3.0, 3.5, 4.0]))
    assert alpha[0] > alpha[1] > alpha[2]
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(levels.timestep_of((alpha / sigma).log()), levels.tensor([3.0, 3.5, 4.0]))
    clipping = DDIMScheduler(clip_sample=True)
    clipping.set_timesteps(4)
    with pytest.raises(NotImplementedError, match="clips"):
        NoiseLevels.of(clipping)
