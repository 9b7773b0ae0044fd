"""Annealed masks of whole steps."""

from __future__ import annotations

import random

import pytest

from benchmarks.cases import CALIBRATION, Case
from benchmarks.plans import ANNEALED_LINEAR, ANNEALED_REUSE, Effort, PlanMethod
from benchmarks.plans.annealing import neighbour


@pytest.mark.parametrize("method", [ANNEALED_LINEAR, ANNEALED_REUSE], ids=["linear", "reuse"])
def test_a_search_stays_within_its_budget_and_is_seeded(method: PlanMethod) -> None:
    """Its plan keeps whole steps only."""
    case = Case("digits-dit", 6, samples=6)
    effort = Effort(full_runs=6.0)
    first, second = (method.find(case, 0.5, effort) for _ in range(2))
    assert first.plan == second.plan
    assert 1 < first.full_runs * CALIBRATION / case.samples <= effort.full_runs + 1.6
    assert int(first.plan.keep.all(1).sum()) == int(first.plan.keep.any(1).sum()) == 3


def test_a_move_keeps_the_first_step_and_their_number() -> None:
    """And changes one of the others."""
    rng = random.Random(0)
    for _ in range(20):
        moved = neighbour((0, 2, 5), 8, rng)
        assert moved[0] == 0
        assert len(set(moved) & {0, 2, 5}) == 2
        assert len(moved) == 3
    assert neighbour((0,), 8, rng) == (0,)
