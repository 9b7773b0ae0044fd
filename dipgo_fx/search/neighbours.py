"""Neighbours of a plan: which steps run, changed a little at random."""

from __future__ import annotations

import random

from ..placement import Runs

REACH = 2
"""How far a step moves."""


def neighbour(runs: Runs, total: int, rng: random.Random) -> Runs:
    """Return runs of equal count after a random move, or the same where there is none.

    Half of the moves shift a step in all calls that run it. Where guidance is split, the others take an
    unconditional run from one step to another, or trade it for a conditional one at a new step, or back.
    """
    if len(runs) == 1 or rng.random() < 0.5:
        return _shifted(runs, total, rng)
    unconditional, conditional = runs
    kind = rng.choice((_swapped, _widened, _narrowed))
    return kind(set(unconditional), set(conditional), total, rng) or runs


def _shifted(runs: Runs, total: int, rng: random.Random) -> Runs:
    """Move a step of the last call, and with it the other call if it is made there; the first stays first."""
    steps = runs[-1]
    movable = [t for t in steps if t > 0]
    if not movable:
        return runs
    gone = rng.choice(movable)
    second = min((t for of_call in runs for t in of_call[1:2]), default=total)
    allowed = range(1, second) if gone == steps[0] else range(steps[0] + 1, total)
    free = [t for t in allowed if t not in steps]
    if not free:
        return runs
    new = rng.choice([t for t in free if abs(t - gone) <= REACH] or free)
    return tuple(tuple(sorted(new if t == gone else t for t in of_call)) for of_call in runs)


def _swapped(unconditional: set[int], conditional: set[int], total: int, rng: random.Random) -> Runs | None:
    """Take an unconditional run to another step that makes the conditional call."""
    taken, free = _later(unconditional), sorted(conditional - unconditional)
    if not taken or not free:
        return None
    return _sorted(unconditional - {rng.choice(taken)} | {rng.choice(free)}, conditional)


def _widened(unconditional: set[int], conditional: set[int], total: int, rng: random.Random) -> Runs | None:
    """Give up an unconditional run for a conditional one at a new step."""
    taken, free = _later(unconditional), sorted({*range(min(conditional), total)} - conditional)
    if not taken or not free:
        return None
    return _sorted(unconditional - {rng.choice(taken)}, conditional | {rng.choice(free)})


def _narrowed(unconditional: set[int], conditional: set[int], total: int, rng: random.Random) -> Runs | None:
    """Give up a step that makes the conditional call alone for an unconditional run at another one."""
    alone = sorted(conditional - unconditional)
    if len(alone) < 2:
        return None
    gone, whole = rng.sample(alone, 2)
    return _sorted(unconditional | {whole}, conditional - {gone})


def _later(steps: set[int]) -> list[int]:
    """Return all but the first, at which both calls begin."""
    return sorted(steps)[1:]


def _sorted(unconditional: set[int], conditional: set[int]) -> Runs:
    return tuple(sorted(unconditional)), tuple(sorted(conditional))
