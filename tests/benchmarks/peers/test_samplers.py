"""Fewer steps: which are tried, and what DDIM does at any of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from benchmarks.cases import Case
from benchmarks.peers import NOTHING, SUBSET, PeerSampler, Setting, Task
from benchmarks.peers.samplers import SubsetDDIM, counts, fitting, search_subset, spacings, subset

pytestmark = pytest.mark.long

STEPS = 6


@pytest.fixture(scope="module")
def task() -> Task:
    """A few steps of the digits transformer."""
    return Task.of(Case("digits-dit", STEPS), samples=2, ratios=[0.5, 0.7], full_runs=30.0)


def test_numbers_of_steps_are_those_asked_for_and_others_between(task: Task) -> None:
    """Never more than the share allows, and at least one."""
    assert [fitting(task, asked) for asked in (0.5, 0.34, 0.01)] == [3, 2, 1]
    assert counts(task) == [5, 4, 3, 2, 1]
    assert counts(task, every=False) == [3, 1]
    assert len(counts(replace(task, steps=250))) <= 22


def test_other_spacings_are_tried_where_asked(task: Task) -> None:
    """All numbers with the scheduler's own spacing, those asked for with every one."""
    tried = list(spacings(task))
    assert [each["steps"] for each in tried if each["spacing"] == "leading"] == [5, 4, 3, 2, 1]
    assert [each["steps"] for each in tried if each["spacing"] == "trailing"] == [3, 1]


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


def test_a_search_ends_where_no_move_helps_or_its_budget_does(task: Task) -> None:
    """It finds as many steps as it was asked for, no worse than even ones."""

    def error(chosen: tuple[int, ...]) -> float:
        sampler = PeerSampler(task, SUBSET, Setting({"solver": "same"}, chosen))
        return float((sampler(task.sample, **task.conditioning) - task.target).square().mean())

    found = search_subset(task, 2, "same")
    assert len(found) == 2
    assert error(found) <= error((0, 3))
    assert error(search_subset(replace(task, full_runs=0.1), 2, "same")) >= error(found)


def test_nothing_is_no_scheduler_of_its_own(task: Task) -> None:
    """Methods use the task's scheduler unless they bring another."""
    assert type(NOTHING.scheduler(task, Setting())) is type(task.scheduler)
