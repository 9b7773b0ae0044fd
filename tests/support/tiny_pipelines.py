"""Tiny stock pipelines, random plans for them, and what they make with blocks skipped by hand."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from benchmarks.coverage import pipelines
from benchmarks.coverage.skipping import calls_of, random_plan, recorded, skipping
from dipgo_fx import Plan
from dipgo_fx.pipelines.denoiser import only_denoiser

STEPS = 6


def run(key: str, pipe: Any, batch: int = 2, **options: Any) -> torch.Tensor:
    """Run a tiny pipeline."""
    return pipelines.PIPELINES[key].call(pipe, options.pop("steps", STEPS), batch, **options)


@cache
def facts_of(key: str) -> Any:
    """Return the facts of a tiny pipeline's loop."""
    return recorded(pipelines.PIPELINES[key].build(), lambda pipe: run(key, pipe))[1]


def plan_of(key: str, open_share: float = 0.6, seed: int = 1) -> Plan:
    """Return a random plan for a tiny pipeline."""
    return random_plan(facts_of(key), open_share, seed)


def skipped(key: str, pipe: Any, plan: Plan, start: int = 0, **options: Any) -> torch.Tensor:
    """Run a pipeline with the blocks that a plan skips replaced by hand, the reference for `enable`."""
    calls = len(calls_of(pipe, lambda p: run(key, p, **options)))
    # Some loops leave out the last of their scheduler's timesteps.
    with skipping(only_denoiser(pipe), plan, max(1, round(calls / (len(plan.timesteps) - start))), start):
        return run(key, pipe, **options)
