"""The caches that ship with diffusers: what they are installed on."""

from __future__ import annotations

import re

import pytest

from benchmarks.cases import Case
from benchmarks.peers import FIRST_BLOCK, SEACACHE, TAYLORSEER, PeerSampler, Setting, Task, outcome_of
from benchmarks.peers.core import ActsOnNothing
from benchmarks.peers.diffusers_caches import mag_ratios, pab_settings, patterns, taylor_settings

pytestmark = pytest.mark.long


def task_of(name: str) -> Task:
    """Return a task of two samples."""
    return Task.of(Case(name, 4), samples=2, ratios=[0.5], full_runs=2.0)


@pytest.mark.parametrize("name", ["digits-dit", "digits-unet"])
@pytest.mark.parametrize("part", ["branch", "block", "lite"])
def test_every_pattern_is_a_module(name: str, part: str) -> None:
    """TaylorSeer ignores patterns that match nothing, so none may."""
    model = Case(name, 4).model
    modules = [path for path, _ in model.named_modules()]
    found = [pattern for group in patterns(model, part).values() for pattern in group]
    assert found
    assert all(sum(re.fullmatch(pattern, path) is not None for path in modules) == 1 for pattern in found)


def test_settings_are_distinct() -> None:
    """None is tried twice."""
    task = task_of("digits-dit")
    for settings in (pab_settings, taylor_settings):
        told = [str(each) for each in settings(task)]
        assert len(set(told)) == len(told) > 1


def test_ratios_are_read_from_what_magcache_prints() -> None:
    """One a step, near one; a model without transformer blocks has none."""
    ratios = mag_ratios(task_of("digits-dit"))
    assert len(ratios) == 4
    assert all(0.1 < ratio < 10 for ratio in ratios)
    with pytest.raises(ActsOnNothing, match="prints no ratios"):
        mag_ratios(task_of("digits-unet"))


def test_a_high_threshold_skips_more() -> None:
    """First Block Cache runs the first block and nothing else once it is content."""
    task = task_of("digits-dit")
    kept = []
    for threshold in (1e-6, 1e6):
        sampler = PeerSampler(task, FIRST_BLOCK, Setting({"threshold": threshold}))
        sampler(task.sample, **task.conditioning)
        kept.append(sampler.macs.total / task.full.total)
    assert kept[0] == 1
    assert kept[1] < 0.4


@pytest.mark.parametrize("part", ["branch", "block", "lite"])
def test_all_parts_run_where_transformers_return_tuples(part: str) -> None:
    """The hook cannot give a tuple of one back, so it is put on what is inside."""
    task = task_of("emoji-unet")
    knobs = {"interval": 2, "order": 1, "warmup": 1, "modules": part}
    sampler = PeerSampler(task, TAYLORSEER, Setting(knobs, patterns(task.model, part)))
    outcome = outcome_of(sampler, task.sample, task.conditioning, task.target)
    assert outcome.error == ""
    assert outcome.kept < 1


def test_seacache_repeats_what_changes_little() -> None:
    """And nothing below a threshold of 0; it has no blocks in a U-Net and says so."""
    kept = []
    for threshold in (0.0, 1e6):
        task = task_of("digits-dit")
        knobs = {"threshold": threshold, "max_consecutive_cached": 0, "cache_end_steps": 0}
        sampler = PeerSampler(task, SEACACHE, Setting(knobs))
        sampler(task.sample, **task.conditioning)
        kept.append(sampler.macs.total / task.full.total)
    assert kept[0] == 1
    assert kept[1] < 0.5
    task = task_of("digits-unet")
    outcome = outcome_of(PeerSampler(task, SEACACHE, Setting()), task.sample, task.conditioning, task.target)
    assert "no repeated transformer blocks" in outcome.error
