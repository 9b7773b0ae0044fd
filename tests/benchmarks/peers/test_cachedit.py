"""cache-dit on the digits transformer."""

from __future__ import annotations

import pytest

from benchmarks.cases import Case
from benchmarks.peers import CACHE_DIT_MASK, PeerSampler, Task, outcome_of
from benchmarks.peers.cachedit import CALIBRATORS, mask_settings

pytestmark = pytest.mark.long

pytest.importorskip("cache_dit")


def test_a_mask_says_which_steps_run() -> None:
    """At the others the first block runs alone."""
    task = Task.of(Case("digits-dit", 4), samples=2, ratios=[0.5], full_runs=2.0)
    found = {str(each): each for each in mask_settings(task)}
    chosen = found["mask=2 of 4, calibrator=none"]
    assert chosen.data == [1, 0, 1, 0]
    sampler = PeerSampler(task, CACHE_DIT_MASK, chosen)
    sampler(task.sample, **task.conditioning)
    assert 0.5 < sampler.macs.total / task.full.total < 0.6


def test_every_calibrator_runs_and_is_another() -> None:
    """Higher orders and fits need more steps than these before they differ."""
    task = Task.of(Case("digits-dit", 12), samples=2, ratios=[0.5], full_runs=2.0)
    found = {str(each): each for each in mask_settings(task)}
    psnrs = set()
    for calibrator in CALIBRATORS:
        sampler = PeerSampler(task, CACHE_DIT_MASK, found[f"mask=8 of 12, calibrator={calibrator}"])
        outcome = outcome_of(sampler, task.sample, task.conditioning, task.target)
        assert outcome.error == "", calibrator
        psnrs.add(outcome.psnr)
    assert len(psnrs) >= 6
