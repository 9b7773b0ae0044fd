"""Ways to a plan: budgets, seeds, and what no search sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmarks.cases import CALIBRATION, Case
from benchmarks.plans import PLAN_METHODS, UNIFORM_REUSE, Effort, Found, OutOfReachError, table_search
from benchmarks.plans.learned import at_other_ratio
from benchmarks.plans.schedules import deepcache_plan
from benchmarks.plans.table_search import genetic_search, random_search

STEPS, RATIO = 4, 0.5


@pytest.fixture(scope="module")
def case() -> Case:
    """A case whose searches take seconds."""
    return Case("digits-dit", STEPS, samples=4)


@pytest.mark.parametrize("search", [random_search, genetic_search])
def test_searches_stay_within_their_budget_and_are_seeded(
    search: Callable[[Case, float, Effort], Found], case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search spends what it may and not more, and finds the same table again."""
    monkeypatch.setattr(table_search, "POPULATION", 3)
    effort = Effort(full_runs=2.0, scale=2.0)
    first, second = (search(case, RATIO, effort) for _ in range(2))
    assert first.plan == second.plan
    assert first.plan.ratio >= RATIO
    assert first.samples == case.samples
    assert 2 < first.full_runs * CALIBRATION / case.samples <= 4
    with pytest.raises(ValueError, match="less than one evaluation"):
        search(case, RATIO, Effort(full_runs=1.2))


def test_held_out_inputs_are_not_those_of_calibration(case: Case) -> None:
    """No search sees the noise that results are measured on."""
    noises = [case.inputs(4, held_out).sample for held_out in (False, True)]
    assert not torch.equal(*noises)
    assert not torch.equal(noises[1], case.evaluator().batch.sample)


def test_a_uniform_plan_keeps_whole_steps(case: Case) -> None:
    """Every step runs whole or not at all."""
    found = UNIFORM_REUSE.find(case, RATIO, Effort())
    assert [bool(row.all()) for row in found.plan.keep] == [bool(row.any()) for row in found.plan.keep]
    assert int(found.plan.keep.all(1).sum()) == STEPS * RATIO
    assert found.plan.history == 1


@pytest.mark.long
def test_a_method_may_be_out_of_reach() -> None:
    """DeepCache's cheapest schedule on a U-Net is named where it is too dear."""
    with pytest.raises(OutOfReachError, match=r"keeps 0\.\d{3} or more"):
        deepcache_plan(Case("digits-unet", STEPS, samples=4), 0.95)


@pytest.mark.long
@pytest.mark.parametrize("name", ["digits-dit", "digits-unet"])
def test_every_method_finds_a_plan_for_every_ratio(name: str) -> None:
    """None costs more than what was asked for."""
    case = Case(name, 6, samples=4)
    for method in PLAN_METHODS:
        if method.suits(case):
            for ratio in (0.3, 0.6):
                found = method.find(case, ratio, Effort(3.0, paper_iterations=2))
                assert found.plan.ratio >= ratio - 1e-9, method.name
                assert found.full_runs > 0
                assert found.samples in (case.samples, 16)  # the paper's own number


@pytest.mark.long
def test_another_ratio_costs_no_search(case: Case) -> None:
    """What a search left for it says what the search cost."""
    (one_search,) = (method for method in PLAN_METHODS if method.name == "dipgo_fx, one search")
    found = one_search.find(Case("digits-dit", 6, samples=4), 0.8, Effort(3.0))
    other = at_other_ratio(Case("digits-dit", 6, samples=4), found, RATIO)
    assert other.plan.ratio < found.plan.ratio
    assert (other.full_runs, other.samples) == (found.full_runs, found.samples)
