"""Searched timesteps, and what DDIM does at any of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from benchmarks.cases import Case
from benchmarks.peers import SUBSET, Curve, PeerSampler, Setting, Task
from benchmarks.peers.searched_timesteps import SubsetDDIM, search_subset, subset

pytestmark = pytest.mark.long

STEPS = 6


@pytest.fixture(scope="module")
def task() -> Task:
    """A few steps of the digits transformer."""
    return Task.of(Case("digits-dit", STEPS), samples=2, ratios=[0.5, 0.7], full_runs=0.4)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("clips", [False, True])
def test_ddim_over_a_list_is_ddim(prediction: str, clips: bool) -> None:
    """Over the timesteps of the stock class it takes the stock class's steps."""
    stock = DDIMScheduler(prediction_type=prediction, clip_sample=clips, beta_schedule="squaredcos_cap_v2")
    stock.set_timesteps(STEPS)
    own = SubsetDDIM.from_config(stock.config)
    own.set_subset([int(step) for step in stock.timesteps])
    sample, output = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for timestep in stock.timesteps:
        expected = stock.step(output, timestep, sample).prev_sample
        torch.testing.assert_close(own.step(output, timestep, sample)[0], expected)


def test_every_step_of_the_loop_is_the_loop(task: Task) -> None:
    """The whole set of timesteps changes nothing, and a part of it costs its share."""
    chosen = Setting({"solver": "same"}, tuple(range(STEPS)))
    sampler = PeerSampler(task, SUBSET, chosen)
    torch.testing.assert_close(sampler(task.sample, **task.conditioning), task.target, rtol=0, atol=1e-5)
    assert sampler.macs == task.full
    few = PeerSampler(task, SUBSET, Setting({"solver": "DPM-Solver++"}, (0, 2, 4)))
    few(task.sample, **task.conditioning)
    assert few.macs.total * 2 == task.full.total


def test_a_scheduler_without_timesteps_of_ones_own_says_so(task: Task) -> None:
    """Where it has none, the error names the class; where it has, they are taken."""
    setting = Setting({"solver": "same"}, (0, 2))
    euler = replace(task, scheduler=EulerDiscreteScheduler.from_config(task.scheduler.config))
    assert len(subset(euler, setting).timesteps) == 2
    pndm = replace(task, scheduler=Case("digits-dit", STEPS, "PNDM").scheduler)
    with pytest.raises(NotImplementedError, match=r"PNDMScheduler\.set_timesteps takes no timesteps"):
        subset(pndm, setting)


def test_a_search_ends_where_its_budget_does(task: Task) -> None:
    """It finds as many steps as it was asked for, no worse than even ones, and the same ones again."""

    def error(chosen: tuple[int, ...]) -> float:
        sampler = PeerSampler(task, SUBSET, Setting({"solver": "same"}, chosen))
        return float((sampler(task.sample, **task.conditioning) - task.target).square().mean())

    found, spent = search_subset(task, 2, "same")
    assert len(found) == 2
    assert spent <= task.full_runs
    assert error(found) <= error((0, 3))
    few, little = search_subset(replace(task, full_runs=1.0), 2, "same")
    assert little <= 1.0
    assert error(few) >= error(found)
    assert search_subset(task, 2, "same")[0] == found


def test_what_a_search_costs_is_counted(task: Task) -> None:
    """For the share it is for; where it cannot be made the error is an outcome."""
    curve = Curve.of(task, SUBSET)
    assert [each.setting.asked for each in curve.outcomes] == [0.3, 0.3, 0.5, 0.5]
    assert 0 < curve.full_runs_for(0.5) < curve.full_runs
    assert curve.full_runs == pytest.approx(curve.full_runs_for(0.5) + curve.full_runs_for(0.3))
    pndm = replace(task, scheduler=Case("digits-dit", STEPS, "PNDM").scheduler)
    assert all("takes no timesteps" in each.error for each in Curve.of(pndm, SUBSET).failed)
    assert len(Curve.of(pndm, SUBSET).failed) == 2
