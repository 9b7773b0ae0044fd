"""A package's own code in the eager loop: counted like ours, and leaving nothing behind."""

from __future__ import annotations

import copy

import pytest
import torch

from benchmarks.cases import CALIBRATION, Case
from benchmarks.peers import DEEPCACHE, NOTHING, TAYLORSEER, PeerSampler, Setting, Task
from benchmarks.peers.core import twin
from benchmarks.peers.diffusers_caches import patterns

pytestmark = pytest.mark.long

STEPS = 4


def task_of(case: Case) -> Task:
    """Return the loop of a case with two samples."""
    return Task.of(case, samples=2, ratios=[0.5], full_runs=2.0)


@pytest.mark.parametrize("name", ["digits-dit", "digits-unet", "fashion-unet"])
def test_nothing_installed_is_the_unpruned_loop(name: str) -> None:
    """Its samples are the traced loop's, and the meter counts what the compiler does, under guidance too."""
    case = Case(name, STEPS)
    task = task_of(case)
    torch.testing.assert_close(task.target, case.loop()(task.sample, **task.conditioning), rtol=0, atol=1e-5)
    assert task.full == case.full


def test_a_task_is_in_the_units_of_its_case() -> None:
    """Shares that may be kept, and runs of as many samples as it has."""
    case = Case("digits-dit", STEPS)
    task = Task.of(case, samples=2, ratios=[0.3, 0.9], full_runs=2.0)
    assert task.asked == (0.7, 0.1)
    assert task.full_runs * len(task.sample) == 2.0 * CALIBRATION


def test_runs_do_not_know_of_each_other() -> None:
    """A setting gives the same twice, and the model is as it was."""
    case = Case("digits-dit", STEPS)
    task, before = task_of(case), copy.deepcopy(case.model.state_dict())
    setting = Setting({"interval": 2, "order": 1, "warmup": 1}, patterns(case.model, "block"))
    sampler = PeerSampler(task, TAYLORSEER, setting)
    first, macs = sampler(task.sample, **task.conditioning), sampler.macs
    assert macs.total < task.full.total
    assert torch.equal(sampler(task.sample, **task.conditioning), first)
    assert not torch.equal(first, task.target)
    assert torch.equal(PeerSampler(task, NOTHING, Setting())(task.sample, **task.conditioning), task.target)
    assert not any(hasattr(module, "_diffusers_hook") for module in case.model.modules())
    assert all(torch.equal(before[key], value) for key, value in case.model.state_dict().items())


def test_a_twin_shares_weights_and_no_modules() -> None:
    """What a package edits is the twin's."""
    model = Case("digits-dit", STEPS).model
    other = twin(model)
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert not {id(module) for module in model.modules()} & {id(module) for module in other.modules()}


def test_settings_are_told_in_one_line() -> None:
    """Without the data that a calibration found."""
    (first, *_) = DEEPCACHE.settings(task_of(Case("digits-unet", STEPS)))
    assert str(first) == "cache_interval=2, cache_branch_id=0"
    assert str(Setting(data=[1, 2])) == "-"
