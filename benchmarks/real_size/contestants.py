"""Who is timed: the eager loop, the traced loop, plans by hand, and packages at about equal MACs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from benchmarks.speed.clocks import Run
from dipgo_fx import Loop, Plan, importers
from dipgo_fx.applying import build
from dipgo_fx.cost import LoopCost
from dipgo_fx.placement import Placement, Runs

from .subjects import Subject

if TYPE_CHECKING:  # packages, and what they need, may not be installed
    from benchmarks.peers.core import Method, Setting

EAGER = "eager loop"
GUIDED = "guidance, eager loop, one call a step"
RATIOS = (0.3, 0.5, 0.7, 0.8)
EVERY = 5
"""Interval of partial plans and of packages' schedules."""


@dataclass(frozen=True)
class Offer:
    """A contestant before it is built, which may fail.

    Attributes:
        method: its name.
        make: builds it; returns what runs, and its share of the unpruned loop's MACs.
        asked: share of the MACs that it was to remove, if any was asked for.
        equals: the method whose result it has to give bit for bit.
    """

    method: str
    make: Callable[[], tuple[Run, float]]
    asked: float | None = None
    equals: str = ""


def plain_offers(subject: Subject) -> Iterator[Offer]:
    """Yield the eager loop, the traced loop, whole-step plans, partial ones, and a package."""
    yield Offer(EAGER, lambda: (subject.eager, 1.0))
    yield Offer("traced loop", lambda: (partial(subject.loop, **subject.inputs), 1.0), equals=EAGER)
    for ratio in reachable(subject.steps):
        yield Offer("whole steps", partial(pruned, subject, partial(whole_plan, ratio=ratio)), ratio)
    for name, plan in partial_plans(subject).items():
        yield Offer(name, partial(pruned, subject, plan))
    yield from package_offers(subject)


def guided_offers(subject: Subject) -> Iterator[Offer]:
    """Yield loops under guidance: in one call a step and in two, whole and pruned."""
    every, fifth, half = (tuple(range(0, subject.steps, n)) for n in (1, EVERY, 2))
    yield Offer(GUIDED, lambda: (subject.eager, 1.0))
    yield Offer(
        "guidance, one call a step", lambda: (partial(subject.loop, **subject.inputs), 1.0), None, GUIDED
    )
    yield Offer("guidance, two calls a step", lambda: (partial(subject.split_loop, **subject.inputs), 1.0))
    yield Offer("guidance, two calls, joined", partial(placed, subject, (every, every), join=True))
    name = "guidance, two calls, half of the unconditional ones"
    yield Offer(name, partial(placed, subject, (half, every)))
    yield Offer(f"{name}, joined", partial(placed, subject, (half, every), join=True))
    if subject.steps % EVERY == 0:
        yield Offer("guidance, one call, whole steps", partial(placed, subject, (fifth,)), 0.8)
        name = "guidance, two calls, whole steps"
        yield Offer(name, partial(placed, subject, (fifth, fifth)), 0.8)
        yield Offer(f"{name}, joined", partial(placed, subject, (fifth, fifth), join=True), 0.8)


def package_offers(subject: Subject) -> Iterator[Offer]:
    """Yield DeepCache and its schedule as a plan for a U-Net, cache-dit for a transformer."""
    if not subject.is_unet:
        yield Offer(
            f"cache-dit{_version('cache-dit')}, static mask, 1 of {EVERY}", partial(_cache_dit, subject)
        )
        return
    name = f"DeepCache{_version('DeepCache')}, interval {EVERY}"
    yield Offer(name, partial(_deepcache, subject))
    schedule = partial(importers.deepcache, cache_interval=EVERY)
    yield Offer(
        f"DeepCache's schedule as a plan, interval {EVERY}", partial(pruned, subject, schedule), equals=name
    )


def reachable(steps: int) -> list[float]:
    """Return the ratios that whole steps can keep to, of those that are measured."""
    return [ratio for ratio in RATIOS if abs((1 - ratio) * steps - round((1 - ratio) * steps)) < 1e-6]


def whole_plan(loop: Loop, ratio: float) -> Plan:
    """Return a plan of evenly spread whole steps."""
    steps = loop.num_steps
    runs = round((1 - ratio) * steps)
    keep = torch.zeros(steps, len(loop.blocks), dtype=torch.bool)
    keep[[round(step * steps / runs) for step in range(runs)]] = True
    return Plan.from_keep(loop, keep, "linear")


def partial_plans(subject: Subject) -> dict[str, Callable[[Loop], Plan]]:
    """Return two plans of a few whole steps, and steps that run the last 3 blocks, or a quarter of them."""
    return {
        f"1 of {EVERY} whole, else the last 3 blocks": partial(tail_plan, tail=3),
        f"1 of {EVERY} whole, else the last quarter of the blocks": tail_plan,
    }


def tail_plan(loop: Loop, tail: int | None = None) -> Plan:
    """Return a plan of a few whole steps, else the last blocks, a quarter of them if omitted."""
    keep = torch.zeros(loop.num_steps, len(loop.blocks), dtype=torch.bool)
    keep[::EVERY] = True
    keep[:, -(tail or len(loop.blocks) // 4) :] = True
    return Plan.from_keep(loop, keep, "linear")


def pruned(subject: Subject, plan: Callable[[Loop], Plan]) -> tuple[Run, float]:
    """Return the loop of a plan, and what it keeps."""
    loop = build(subject.loop, plan(subject.loop))
    return partial(loop, **subject.inputs), 1 - loop.plan.ratio


def placed(subject: Subject, runs: Runs, join: bool = False) -> tuple[Run, float]:
    """Return the loop in which each call of the model is made at its steps, and what it keeps.

    With `join` the two calls of guidance are one at steps that make both.
    """
    loop = subject.loop if len(runs) == 1 else subject.split_loop
    plan = Plan.from_keep(loop, Placement(runs).keep(LoopCost.of(loop)), "linear")
    return partial(build(loop, plan, join=join), **subject.inputs), 1 - plan.ratio


def _deepcache(subject: Subject) -> tuple[Run, float]:
    from benchmarks.peers.core import Setting
    from benchmarks.peers.deepcache import DEEPCACHE

    return _package(subject, DEEPCACHE, Setting({"cache_interval": EVERY, "cache_branch_id": 0}))


def _cache_dit(subject: Subject) -> tuple[Run, float]:
    from benchmarks.peers.cachedit import CACHE_DIT_MASK, CALIBRATORS
    from benchmarks.peers.core import Setting

    mask = [int(step % EVERY == 0) for step in range(subject.steps)]
    return _package(subject, CACHE_DIT_MASK, Setting({"calibrator": CALIBRATORS[0]}, mask))


def _package(subject: Subject, method: Method, setting: Setting) -> tuple[Run, float]:
    """Return a run of a package without the meter, and the MACs that one with it counts."""
    from benchmarks.peers.core import PeerSampler, Task

    task = Task(subject.model, subject.scheduler, subject.steps, subject.sample, subject.conditioning)
    sampler = PeerSampler(task, method, setting)
    sampler(subject.sample, **subject.conditioning)
    kept = sampler.macs.total / LoopCost.of(subject.loop).full.total
    return partial(sampler.plain, subject.sample, **subject.conditioning), kept


def _version(package: str) -> str:
    """Return a package's version after a space, nothing where it is not installed."""
    try:
        return f" {version(package)}"
    except ModuleNotFoundError:
        return ""
