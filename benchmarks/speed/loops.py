"""Wall time of the eager loop, the traced loop and pruned loops."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import median

import diffusers as d
import torch

from benchmarks.tables import Row
from dipgo_fx import Loop, Plan, trace
from dipgo_fx.applying import build
from dipgo_fx.cost import LoopCost
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.passes import Backup
from dipgo_fx.placement import Placement, Runs

from .clocks import Run, interleaved
from .subjects import Subject

EAGER, TRACED = "eager loop", "traced loop"


@dataclass(frozen=True)
class Contestant:
    """A loop that is timed, and the share of the unpruned loop's MACs that it keeps."""

    run: Run
    kept: float = 1.0


@dataclass(frozen=True)
class HandPlan:
    """A plan by hand: whole steps 0, stride, 2 * stride, ...; else the last `tail` blocks only."""

    name: str
    stride: int
    backup: Backup
    tail: int = 0

    def on(self, loop: Loop) -> Plan:
        """Return the plan for a loop."""
        keep = torch.zeros(loop.num_steps, len(loop.blocks), dtype=torch.bool)
        keep[:: self.stride] = True
        if self.tail:
            keep[:, -self.tail :] = True
        return Plan.from_keep(loop, keep, self.backup)


def hand_plans(tail: int) -> tuple[HandPlan, ...]:
    """Return the plans of the table: whole steps at 0.5 and 0.8, and partial ones."""
    return (
        HandPlan("whole steps, reuse, 0.5", 2, "reuse"),
        HandPlan("whole steps, linear, 0.5", 2, "linear"),
        HandPlan("whole steps, reuse, 0.8", 5, "reuse"),
        HandPlan("whole steps, linear, 0.8", 5, "linear"),
        HandPlan(f"1 of 5 whole, else last {tail} blocks, reuse", 5, "reuse", tail),
        HandPlan(f"1 of 5 whole, else last {tail} blocks, linear", 5, "linear", tail),
    )


def wall_rows(subject: Subject, steps: int, repeats: int) -> list[Row]:
    """Time the eager loop, the traced loop and pruned loops of one model."""
    scheduler = d.DDIMScheduler()
    loop = trace(subject.model, scheduler, steps)

    def eager() -> torch.Tensor:
        return denoise(subject.model, prepared(scheduler, steps), subject.sample, subject.conditioning)

    traced = partial(loop, subject.sample, **subject.conditioning)
    if not torch.equal(eager(), traced()):
        raise AssertionError(f"{subject.name}: the traced loop differs from the eager one (law 1)")
    contestants = {EAGER: Contestant(eager), TRACED: Contestant(traced)}
    for hand in hand_plans(subject.tail):
        contestants[hand.name] = _pruned(loop, hand.on(loop), subject.sample, subject.conditioning)
    return _rows(subject.name, steps, contestants, repeats)


def guidance_rows(subject: Subject, steps: int, repeats: int) -> list[Row]:
    """Time guidance as one call of twice the rows and as two calls, whole and pruned."""
    conditioning = {name: torch.cat([rows, rows]) for name, rows in subject.conditioning.items()}
    traced = partial(trace, subject.model, d.DDIMScheduler(), steps, guidance_scale=2.0)
    joint, split = traced(), traced(split_guidance=True)
    every, few, more = tuple(range(steps)), tuple(range(0, steps, 5)), tuple(range(0, steps, 4))
    loops: dict[str, tuple[Loop, Runs]] = {
        "one call a step": (joint, (every,)),
        "two calls a step": (split, (every, every)),
        f"one call, {len(few)} of {steps} steps": (joint, (few,)),
        f"two calls, {len(few)} of {steps} steps": (split, (few, few)),
        f"two calls, {len(more[::2])} unconditional and {len(more)} conditional": (split, (more[::2], more)),
    }
    contestants = {}
    for name, (loop, runs) in loops.items():
        plan = Plan.from_keep(loop, Placement(runs).keep(LoopCost.of(loop)), "linear")
        contestants[name] = _pruned(loop, plan, subject.sample, conditioning)
    return _rows(subject.name, steps, contestants, repeats)


def _pruned(
    loop: Loop, plan: Plan, sample: torch.Tensor, conditioning: dict[str, torch.Tensor]
) -> Contestant:
    return Contestant(partial(build(loop, plan), sample, **conditioning), 1 - plan.ratio)


def _rows(model: str, steps: int, contestants: dict[str, Contestant], repeats: int) -> list[Row]:
    """Time the contestants; speed-ups are relative to the first."""
    seconds = interleaved({name: each.run for name, each in contestants.items()}, repeats)
    base = seconds[next(iter(contestants))]
    return [
        {"model": model, "steps": steps, "loop": name, **_timed(seconds[name], base, contestant.kept)}
        for name, contestant in contestants.items()
    ]


def _timed(seconds: list[float], base: list[float], kept: float) -> Row:
    """Return the cells of a contestant, given its seconds by round, those of the base, and its MACs."""
    speed_up = median(plain / own for plain, own in zip(base, seconds, strict=True))
    return {
        "share of MACs": round(kept, 4),
        "median s": round(median(seconds), 4),
        "fastest s": round(min(seconds), 4),
        "speed-up": round(speed_up, 3),
        "ideal": round(1 / kept, 3),
        "efficiency": round(speed_up * kept, 3),
    }
