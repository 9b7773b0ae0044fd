"""Learning a sampler by Levenberg's and Marquardt's steps; derivatives are differences of resumed runs."""

from __future__ import annotations

import torch

from .learning import Corrections, Learned, Lesson, Trace

NUDGE = 1e-3  # ten times as much is no derivative any more under guidance
FIRST_DAMPING, EASE, FIRM = 1e-2, 0.2, 8.0
STEPS = 4  # that the budget must allow for, at fewer samples if need be
FEWEST = 8  # samples
LEAST_DAMPING, MOST_DAMPING = 1e-4, 1e3


@torch.no_grad()
def levenberg(lesson: Lesson, corrections: Corrections, full_runs: float) -> float:
    """Correct a sampler in place towards the unpruned samples, and return what it cost in full runs.

    A step that does not lower the squared error of all samples is taken back and damped more.

    Args:
        lesson: what to learn on.
        corrections: what to learn.
        full_runs: the most it may cost, in unpruned runs of all samples.
            Derivatives go by as many samples as leave several steps, others at each step.
    """
    spent, damping, turn = 0.0, FIRST_DAMPING, 0
    entries, count = corrections.entries(), len(lesson.sample)
    run = lesson.price(corrections())
    best = lesson.loss(corrections()).item()
    spent += run
    whole = run + sum(lesson.price(corrections(), first) for _, _, first in entries)
    samples = min(count, max(FEWEST, int(count * full_runs / (STEPS * whole))))
    price = whole * samples / count
    while spent + price + run <= full_runs:
        few = lesson.part((torch.arange(samples) + turn * samples) % count)
        curvature, slope = _normal(few, corrections)
        spent, turn = spent + price, turn + 1
        while spent + run <= full_runs and damping < MOST_DAMPING:
            scale = curvature.diagonal()
            system = curvature + torch.diag(damping * scale + 1e-6 * scale.mean() + 1e-30)
            change = torch.linalg.solve(system, slope)
            _move(corrections, change)
            loss = lesson.loss(corrections()).item()
            spent += run
            if loss < best:
                best, damping = loss, max(damping * EASE, LEAST_DAMPING)
                break
            _move(corrections, -change)
            damping *= FIRM
        else:
            break
    return spent


def _normal(lesson: Lesson, corrections: Corrections) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the normal equations of a step."""
    base = lesson.trace(corrections())
    effects = torch.stack(
        [
            (_nudged(lesson, corrections, index, base) - base.result).flatten().double() / NUDGE
            for index in range(len(corrections.entries()))
        ]
    )
    lack = (lesson.target - base.result).flatten().double()
    return (effects @ effects.T).cpu(), (effects @ lack).cpu()


def _nudged(lesson: Lesson, corrections: Corrections, index: int, base: Trace) -> torch.Tensor:
    """Return the final samples with one number nudged, resumed where that first matters."""
    parameter, place, first = corrections.entries()[index]
    before = parameter[place].item()
    parameter[place] = before + NUDGE
    learned: Learned = corrections()
    result = lesson.trace(learned, base, first).result
    parameter[place] = before
    return result


def _move(corrections: Corrections, change: torch.Tensor) -> None:
    for (parameter, place, _), amount in zip(corrections.entries(), change.tolist(), strict=True):
        parameter[place] += amount
