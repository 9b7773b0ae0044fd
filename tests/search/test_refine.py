"""The default recipe as a whole: within its budgets, and never worse than a uniform plan."""

from __future__ import annotations

import math
import random
from itertools import islice

import pytest
import torch

import zoo
from dipgo_fx import PaperConfig, PruneConfig
from dipgo_fx.budget import fits
from dipgo_fx.cost import LoopCost
from dipgo_fx.passes import HISTORY, Backup, GateTable
from dipgo_fx.placement import Placement, open_from_output, whole_steps
from dipgo_fx.search import refine as module
from dipgo_fx.search.batch import Batch
from dipgo_fx.search.calibration import calibrate
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.choose_runs import skips_whole_steps
from dipgo_fx.search.config import Config
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.refine import refine
from dipgo_fx.search.sensitivity import whole_steps_candidate
from dipgo_fx.search.spacing import even_steps, most_steps
from loops import loop
from searches import PLAIN, QUICK, SPLIT, STEPS, Key, evaluator_of, quick, searched

UNIFORM: list[tuple[Backup, int, bool]] = [("reuse", 1, False), ("linear", 2, False), ("linear", 3, True)]


@pytest.mark.parametrize(
    ("name", "placed"),
    [
        ("dit", 99),
        pytest.param("unet", 2, marks=pytest.mark.long),
        pytest.param("unet", 99, marks=pytest.mark.long),
    ],
)
def test_no_uniform_plan_is_better(name: str, placed: int) -> None:
    """The default recipe returns nothing that a uniform plan of equal MACs beats on the calibration."""
    graph = loop(name, "ddim", "block", None, STEPS)
    plan = searched(name).plan
    batch = calibrate(graph, zoo.model(name), None, QUICK.samples, 1.0, zoo.generator(5))
    judge = Evaluator(graph, LoopCost.of(graph), batch, QUICK)
    found = judge.evaluate(Candidate(plan.table, HISTORY, steering=plan.steering))
    assert found.loss == pytest.approx(plan.origin["loss"], rel=1e-6)
    for backup, history, by_step in UNIFORM:
        count = most_steps(judge.cost, (), 0.5, history)[-1]
        for steps in islice(even_steps(STEPS, count), placed):
            keep = open_from_output(
                whole_steps(steps, judge.cost).keep(judge.cost), 0.5, judge.cost, history, by_step
            )
            uniform = judge.evaluate(Candidate(GateTable.of(keep, backup)))
            assert found.loss <= uniform.loss * (1 + 1e-6)


@pytest.mark.parametrize("limit", [12.0, 24.0])
@pytest.mark.parametrize("kept", [0.3, 0.7])
@pytest.mark.parametrize("key", [PLAIN, pytest.param(SPLIT, marks=pytest.mark.long)], ids=["plain", "split"])
def test_a_search_spends_what_it_may_and_no_more(key: Key, kept: float, limit: float) -> None:
    """All that choosing, fitting and moving cost is known before it is spent; by default that is 24 runs."""
    judge = evaluator_of(key, 12, limit)
    refine(judge, kept, 0, progress=False)
    assert 0.6 * limit < judge.budget.spent <= limit
    assert PruneConfig().full_runs == 24


@pytest.mark.parametrize("limit", [0.1, 40.0])
def test_nothing_is_pruned_of_a_whole_budget_whatever_may_be_spent(limit: float) -> None:
    """Law 3: all that moves and fits could do to the loop as it is would be to round it otherwise."""
    judge = evaluator_of((*PLAIN[:4], 2, *PLAIN[5:]), 12, limit)
    refined = refine(judge, 1.0, 0, progress=False)
    found = refined.best
    assert bool(found.table.keep.all())
    assert (found.loss, found.name, found.steering) == (0, "unpruned", None)
    assert refined.notes == {"start": "unpruned", "start_loss": 0}


def overflow(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Let the samples of plans that run at most so many steps be infinite or NaN."""
    real = Evaluator.with_loss

    def with_loss(self: Evaluator, candidate: Candidate, result: torch.Tensor, batch: Batch) -> Candidate:
        overflows = int(candidate.table.keep.any(1).sum()) <= most
        return real(self, candidate, result * math.inf if overflows else result, batch)

    monkeypatch.setattr(Evaluator, "with_loss", with_loss)


def test_plans_that_overflow_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """They end no search, and no other ratio is served by one."""
    overflow(monkeypatch, 1)
    plan = quick().plan
    assert all(math.isfinite(loss) for _, loss in plan.origin["curve"])
    assert plan.frontier
    assert all(len(point.runs[-1]) > 1 for point in plan.frontier)


@pytest.mark.parametrize("config", [QUICK, PaperConfig(samples=2, iterations=1, width=16)])
def test_where_all_plans_overflow_the_search_says_so(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no plan to write down."""
    overflow(monkeypatch, STEPS)
    with pytest.raises(FloatingPointError, match="are infinite or NaN: ask for a lower ratio"):
        quick(config=config)


def test_a_start_that_overflows_has_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """None that a file could hold."""
    overflow(monkeypatch, 1)
    judge = evaluator_of((*PLAIN[:4], 2, *PLAIN[5:]), 4, 4)
    assert refine(judge, 0.5, 0, progress=False).notes["start_loss"] is None


def test_it_says_where_it_started() -> None:
    """The plan's origin names the start of the lowest loss, and what was found."""
    origin = searched().plan.origin
    assert origin["recipe"] == "PruneConfig"
    assert origin["start_loss"] > 0
    assert "whole steps" in origin["start"]
    assert "whole steps" in origin["name"]
    assert origin["samples"] == QUICK.samples


def test_what_is_found_fits_and_is_judged_on_all_samples() -> None:
    """The loss of the best candidate is what its SubNet gives; it is the curve's, too."""
    judge = evaluator_of(PLAIN, 6, limit=8)
    found = refine(judge, 0.4, 0, progress=False)
    assert judge.cost.kept(found.best.table) <= 0.4
    again = judge.evaluate(found.best)
    assert again.loss == pytest.approx(found.best.loss, rel=1e-6)
    assert found.notes.keys() == {"start", "start_loss"}
    assert judge.budget.spent > 1


@pytest.mark.parametrize("kept", [0.3, 0.6])
def test_no_affordable_plan_of_the_frontier_is_preferred(
    kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found ranks no worse than any plan of the frontier that fits, of which the dearest is best.

    So where its loss is above that of a cheaper plan, it looks better.
    """
    known: list[Candidate] = []
    real = module.fit_frontier
    monkeypatch.setattr(module, "fit_frontier", lambda *args: known.extend(real(*args)) or [*known])
    judge = evaluator_of(PLAIN, 9, limit=8)
    found = refine(judge, kept, 0, progress=False)
    affordable = [each for each in known if fits(judge.cost, each.table.keep, kept, HISTORY)]
    assert found.best.rank <= affordable[-1].rank == min(each.rank for each in affordable)
    assert all(found.best.loss <= each.loss or found.best.unlikeness < each.unlikeness for each in affordable)
    assert judge.evaluate(found.best).rank == pytest.approx(found.best.rank)
    if skips_whole_steps(found.best, judge.cost) and found.best.rank < affordable[-1].rank:
        assert found.best.placement.runs in {point.runs for point in found.frontier}
    sizes = [Placement(point.runs).size for point in found.frontier]
    assert sizes == sorted({*sizes})


@pytest.mark.parametrize("split", [False, True], ids=["plain", "split"])
def test_a_search_goes_on_from_a_late_plan(split: bool) -> None:
    """Neighbours of a plan that begins late can be made, where guidance is split too."""
    judge = evaluator_of(SPLIT if split else PLAIN, 4)
    late = whole_steps_candidate(judge, ((1, 3), (1, 3, 5)) if split else ((1, 3, 5),))
    for seed in range(20):
        moved = module._neighbour(judge, late, 0.6, random.Random(seed))
        assert moved is not None
        assert moved.steering is not None
        assert {moved.steering.first} == {runs[0] for runs in moved.placement.runs}
