"""The converged images: more steps change them less and less, and closed forms are met."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from benchmarks.cases import Case
from benchmarks.converged import DiffusionSolver, FlowSolver, converged
from dipgo_fx.denoise import prepared


@pytest.mark.parametrize("scheduler", ["DDIM", "Euler"])
def test_more_steps_change_less(scheduler: str) -> None:
    """And the unpruned loop of few steps is further away."""
    case = Case("digits-dit", 10, scheduler)
    inputs = case.inputs(4, held_out=True)
    few, more, many = (converged(case, inputs, steps) for steps in (20, 40, 80))
    with torch.no_grad():
        loop = case.loop()(inputs.sample, **inputs.conditioning)
    assert (many - more).square().mean() < 0.5 * (more - few).square().mean()
    assert (many - more).square().mean() < (many - loop).square().mean()


def test_it_starts_where_the_loop_starts_and_ends_at_no_noise() -> None:
    """Every integer timestep at most."""
    own = prepared(Case("digits-dit", 4).scheduler, 4)
    solver = DiffusionSolver(own, 10_000)
    assert solver.timesteps[0] == own.timesteps[0]
    assert solver.timesteps.tolist() == list(range(int(own.timesteps[0]), -1, -1))


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_a_single_image_is_found_whatever_is_predicted(kind: str) -> None:
    """A network that knows the one image there is leads there from any noise."""
    own = prepared(Case("digits-dit", 4).scheduler, 4)
    own.register_to_config(prediction_type=kind)
    solver = DiffusionSolver(own, 50)
    image, sample = torch.full((1, 1, 2, 2), 0.5), torch.randn(1, 1, 2, 2, generator=torch.Generator())
    alphas = own.alphas_cumprod.double()
    for timestep in solver.timesteps:
        alpha, sigma = float(alphas[timestep] ** 0.5), float((1 - alphas[timestep]) ** 0.5)
        noise = (sample - alpha * image) / sigma
        told = {"epsilon": noise, "sample": image, "v_prediction": alpha * noise - sigma * image}
        (sample,) = solver.step(told[kind], timestep, sample)
    torch.testing.assert_close(sample, image, atol=2e-3, rtol=0)


def test_flow_matching_goes_straight() -> None:
    """From noise to the one image there is."""
    own = FlowMatchEulerDiscreteScheduler()
    own.set_timesteps(4)
    solver = FlowSolver(SimpleNamespace(config=own.config, sigmas=own.sigmas), 8)
    image, noise = torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 1, 2, 2)
    sample = noise
    for timestep in solver.timesteps:
        (sample,) = solver.step(noise - image, timestep, sample)
    torch.testing.assert_close(sample, image + (1 - own.sigmas[0]) * (noise - image))
