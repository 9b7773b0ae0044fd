"""Fewer steps: which are tried, and grids that start where the loop does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.cases import Case
from benchmarks.peers import FEWER, NOTHING, PeerSampler, Setting, Task
from benchmarks.peers.grids import grids
from benchmarks.peers.samplers import by_share, counts, fitting, settings, spacings

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


def test_some_grids_start_where_the_loop_does(task: Task) -> None:
    """Stock spacings of few steps start elsewhere; all of these at the loop's first timestep, and fall."""
    first = float(task.scheduler.from_config(task.scheduler.config).config.num_train_timesteps // STEPS * 5)
    found = grids(task, 3)
    assert len(found) > 8
    for timesteps in found.values():
        assert timesteps[0] == pytest.approx(first)
        assert list(timesteps) == sorted(timesteps, reverse=True)
        assert len(timesteps) == 3
    tried = [setting.data for setting in settings(task) if setting.data is not None]
    assert set(found.values()) <= set(tried)


def test_the_loop_on_a_grid_of_its_own_is_the_loop(task: Task) -> None:
    """All of its timesteps in the linear form give its samples, at its cost."""
    own = tuple(float(t) for t in FEWER.scheduler(task, Setting({"steps": STEPS, "spacing": None})).timesteps)
    sampler = PeerSampler(task, FEWER, Setting({"steps": STEPS, "grid": "own"}, own))
    torch.testing.assert_close(sampler(task.sample, **task.conditioning), task.target, rtol=0, atol=1e-5)
    assert sampler.macs == task.full


def test_shares_of_the_same_number_are_tried_once(task: Task) -> None:
    """As the largest of them."""
    assert by_share(replace(task, asked=(0.5, 0.55, 0.2))) == {0.55: 3, 0.2: 1}


def test_nothing_is_no_scheduler_of_its_own(task: Task) -> None:
    """Methods use the task's scheduler unless they bring another."""
    assert type(NOTHING.scheduler(task, Setting())) is type(task.scheduler)
