"""Tiny searches that tests share, where candidates are judged, and the eager loop's path under a plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import dipgo_fx
import toy
import zoo
from dipgo_fx import Loop, Plan, PruneConfig, PrunedLoop
from dipgo_fx.cost import LoopCost
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.passes import GateTable
from dipgo_fx.search.batch import Batch
from dipgo_fx.search.calibration import calibrate
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.tracing import trace
from loops import cost, loop, skipping

QUICK = PruneConfig(samples=4, full_runs=6)
STEPS = 6
"""Steps of a quick search."""
STOCHASTIC = ("ddpm", "euler-a", "lcm")
# A Runge-Kutta warm-up calls the model at steps of its own.
FEWER_STEPS = {"pndm": 4, "heun": 4}


def thinned(cases: Iterable[Sequence[Any]], fast: Iterable[Sequence[Any]]) -> list[Any]:
    """Return the cases of a test, of which all but the `fast` ones are for long runs."""
    every, kept = list(cases), list(fast)
    assert all(case in every for case in kept)
    return [pytest.param(*case, marks=() if case in kept else pytest.mark.long) for case in every]


# -- searches


def quick(name: str = "dit", ratio: float = 0.5, scheduler: str = "ddim", **options: Any) -> PrunedLoop:
    """Prune a tiny model with a tiny search."""
    given = {
        "num_inference_steps": STEPS,
        "config": QUICK,
        "progress": False,
        "generator": zoo.generator(5),
        **options,
    }
    return dipgo_fx.prune(zoo.model(name), zoo.SCHEDULERS[scheduler](), ratio, **given)


@cache
def searched(name: str = "dit", ratio: float = 0.5, **options: Any) -> PrunedLoop:
    """Return what `quick` does; the same loop at every call, so never edit it."""
    return quick(name, ratio, **options)


Key = tuple[Any, ...]
FRONTIER_STEPS = 8
PLAIN: Key = ("dit", "ddim", "block", None, FRONTIER_STEPS, False)
SPLIT: Key = ("dit", "ddim", "block", 2.0, FRONTIER_STEPS, True)
plain_and_split = pytest.mark.parametrize("key", [PLAIN, SPLIT], ids=["plain", "split"])


@cache
def with_frontier(key: Key) -> Plan:
    """Return the plan of a search on the loop of `PLAIN` or `SPLIT` that is long enough to fit a frontier."""
    return quick(
        num_inference_steps=FRONTIER_STEPS,
        guidance_scale=key[3],
        config=PruneConfig(samples=12, full_runs=8),
        generator=zoo.generator(1),
    ).plan


# -- judging


class Recording(Evaluator):
    """An evaluator that keeps the samples it judged last."""

    result: torch.Tensor

    def with_loss(self, candidate: Candidate, result: torch.Tensor, batch: Batch) -> Candidate:
        """Keep the samples."""
        self.result = result
        return super().with_loss(candidate, result, batch)


@cache
def case(
    scheduler: str = "ddim",
    guidance_scale: float | None = None,
    model: str = "dit",
    steps: int | None = None,
    split: bool = False,
) -> tuple[Loop, Batch]:
    """Return a loop and three samples with their unpruned path."""
    graph = loop(model, scheduler, "block", guidance_scale, steps or FEWER_STEPS.get(scheduler, 7), split)
    return graph, calibrate(graph, zoo.model(model), None, 3, 1.0, zoo.generator(1))


@cache
def evaluator(
    scheduler: str = "ddim",
    guidance_scale: float | None = None,
    model: str = "dit",
    steps: int | None = None,
    split: bool = False,
) -> Recording:
    """Return the evaluator of a case, the same at every call: what it has spent is not for one test alone."""
    graph, batch = case(scheduler, guidance_scale, model, steps, split)
    return Recording(graph, LoopCost.of(graph), batch, PruneConfig())


def evaluator_of(key: Key, samples: int, limit: float = float("inf"), seed: int = 1) -> Recording:
    """Return an evaluator of its own for the loop `loop(*key)`."""
    batch = calibrate(loop(*key), zoo.model(key[0]), None, samples, 1.0, zoo.generator(seed))
    return Recording(loop(*key), cost(*key), batch, PruneConfig(), limit)


def candidate(graph: Loop, kept: tuple[int, ...], history: int = 3) -> Candidate:
    """Return the candidate that runs some steps whole and extrapolates at the others, in single precision.

    Where guidance is split, the last of them runs conditionally only.
    """
    keep = torch.zeros(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[list(kept)] = True
    if graph.facts.guidance.split and len(kept) > 1:
        keep[kept[-1], : len(graph.blocks) // 2] = False
    return Candidate(GateTable(keep, GateTable.of(keep, "linear").weights.float()), history)


def plan_of(graph: Loop, keep: torch.Tensor, weights: torch.Tensor) -> Plan:
    """Return a plan whose ratio nobody reads."""
    return Plan(graph.facts, GateTable(keep, weights), 0.0)


# -- the eager loop


@torch.no_grad()
def eager_path(model: nn.Module, noise: Any, graph: Loop, batch: Batch, plan: Plan) -> torch.Tensor:
    """Return the samples after each step of the plain loop under a plan."""
    samples: list[torch.Tensor] = []
    with skipping(model, plan) as skipped:

        def on_step(step: int, sample: torch.Tensor) -> None:
            skipped.start_step(step, sample)
            samples.append(sample.clone())

        result = denoise(
            model,
            prepared(noise, graph.facts.num_inference_steps),
            batch.sample,
            batch.conditioning,
            graph.facts.guidance,
            generator=batch.generators(),
            on_step=on_step,
        )
    return torch.stack([*samples[1:], result])


def whole(graph: Loop) -> Plan:
    """Return the plan that keeps everything."""
    return Plan.from_keep(graph, torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool))


# -- a loop whose samples are affine in the weights


class Turning(toy.Stack):
    """Its prediction turns with the time: any `dimensions` of them span all the others."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(nn.Linear(3, 3, bias=False))
        self.dimensions = dimensions
        with torch.no_grad():
            nn.init.orthogonal_(self.layers[0].weight, generator=zoo.generator(4))

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction for `(rows, 3)`, the same for all rows."""
        angle = 0.9 * timestep[:, None].to(sample.dtype)
        waves = [angle.cos(), angle.sin(), (2.1 * angle).cos()]
        padding = [0 * angle] * (3 - self.dimensions)
        return self.layers[0](torch.cat([*waves[: self.dimensions], *padding], 1)) + 0 * sample


def turning(dimensions: int, steps: int = 9, rule: Any = None) -> tuple[Turning, Any, Recording]:
    """Return a model whose predictions turn, its scheduler, and an evaluator of two samples."""
    model, noise = Turning(dimensions), toy.Step(rule or (lambda p, x: 0.9 * x - 0.3 * p))
    graph = trace(model, noise, steps, sample=toy.sample(), conditioning={}, granularity="stage")
    batch = calibrate(graph, model, None, 2, 1.0, zoo.generator(1))
    return model, noise, Recording(graph, LoopCost.of(graph), batch, PruneConfig())
