"""The frontier that a search leaves: how its points are fitted and placed."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx import Plan, PruneConfig
from dipgo_fx.applying import build
from dipgo_fx.frontier import best_within
from dipgo_fx.passes import GateTable, Steering
from dipgo_fx.placement import Placement
from dipgo_fx.search import choose_runs, effort
from dipgo_fx.search import fit_frontier as module
from dipgo_fx.search.batch import Batch
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.choose_runs import skips_whole_steps
from dipgo_fx.search.effort import POINTS, is_low
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.fit_frontier import (
    fit_frontier,
    pareto,
    points_of,
)
from dipgo_fx.search.foresight import Foresight
from dipgo_fx.search.losses import psnr
from dipgo_fx.search.sensitivity import whole_steps_candidate
from loops import cost, inputs, loop, run
from searches import (
    FRONTIER_STEPS,
    PLAIN,
    SPLIT,
    Key,
    evaluator_of,
    quick,
    thinned,
    with_frontier,
)


@pytest.mark.parametrize("key", [PLAIN, pytest.param(SPLIT, marks=pytest.mark.long)], ids=["plain", "split"])
def test_points_rise(key: Key) -> None:
    """A frontier goes up from one step, none twice; all calls of a point begin at the same step."""
    calls, points = len(loop(*key).facts.guidance.calls), with_frontier(key).frontier
    counts = [Placement(point.runs).size for point in points]
    assert counts == sorted({*counts})
    assert counts[0] == calls
    assert counts[-1] <= calls * (FRONTIER_STEPS - 1)
    assert len(counts) > 2
    for point in points:
        assert len(point.runs) == calls
        assert all(steps == tuple(sorted({*steps})) for steps in point.runs)
        assert len({steps[0] for steps in point.runs}) == 1
        assert {*point.runs[0]} <= {*point.runs[-1]}


@pytest.mark.parametrize("key", [PLAIN, pytest.param(SPLIT, marks=pytest.mark.long)], ids=["plain", "split"])
def test_a_frontier_is_judged_on_all_samples_and_falls(key: Key) -> None:
    """Each plan ranks before all cheaper ones, its loss that of its tables on the whole batch."""
    judge = evaluator_of(key, 9, 8, seed=2)
    found = fit_frontier(judge, [[1.0] * FRONTIER_STEPS] * judge.cost.num_calls, 0.4)
    ranks = [each.rank for each in found]
    assert ranks == sorted({*ranks}, reverse=True)
    sizes = [each.placement.size for each in found]
    assert sizes == sorted({*sizes})
    assert pareto(found) == found
    for each in found:
        assert skips_whole_steps(each, judge.cost)
        assert judge.evaluate(each).loss == pytest.approx(each.loss)
    for point, each in zip(points_of(found, judge.cost), found, strict=True):
        assert point.runs == each.placement.runs
        assert point.steering == each.steering
        heads, table = judge.cost.reads.heads, point.table(judge.cost)
        assert torch.equal(table.keep, each.table.keep)
        assert torch.equal(table.weights[:, heads], each.table.weights[:, heads])


@pytest.mark.parametrize(
    ("asked", "count"),
    thinned([(0.25, 5), (0.66, 13), (0.95, 19)], [(0.25, 5)]),
)
def test_there_is_a_plan_for_what_was_asked(
    asked: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps that fit in the share that a search is for are tried, which others need not have."""
    key = ("dit", "ddim", "block", None, 20, False)
    judge = evaluator_of(key, 6, limit=4, seed=2)
    monkeypatch.setattr(module, "pareto", list)  # all that were tried
    assert count in {each.placement.size for each in fit_frontier(judge, [[1.0] * 20], asked)}
    assert count not in {int(share * 20 + 1e-9) for share in POINTS}


def test_where_the_budget_ends_points_take_what_is_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each then runs once on all samples, and high ones make both calls at all of their steps."""
    monkeypatch.setattr(module, "pareto", list)  # all that were tried
    judge = evaluator_of(SPLIT, 6, 0.1, seed=2)
    found = fit_frontier(judge, [[1.0] * FRONTIER_STEPS] * 2, 0.2)
    sizes = [each.placement.size for each in found]
    high = [each.placement.runs for each in found if not is_low(each.placement.size / 2, judge.cost)]
    assert all(of_call == runs[-1] for runs in high for of_call in runs)
    assert sizes == [2, 3, *(2 * size for size in effort.sizes(judge.cost)[1:])], "3 is what is asked"
    foresight = Foresight(judge.batch, [[1.0] * FRONTIER_STEPS] * 2)
    assert [runs[-1] for runs in high] == [foresight.placements(len(runs[-1]), 1)[0] for runs in high]


@pytest.mark.parametrize("limit", [8.0, 24.0])
@pytest.mark.parametrize("key", [PLAIN, SPLIT], ids=["plain", "split"])
def test_a_frontier_keeps_to_its_budget(key: Key, limit: float) -> None:
    """What is divided among the points is not exceeded, nor is what was reserved for later touched."""
    judge = evaluator_of(key, 12, limit, seed=2)
    with judge.budget.reserve(2.0):
        fit_frontier(judge, [[1.0] * FRONTIER_STEPS] * judge.cost.num_calls, 0.3)
    assert judge.budget.spent <= limit - 2.0


@pytest.mark.parametrize("full_runs", [0.1, 24.0])
def test_a_loop_that_cannot_skip_steps_has_no_frontier(full_runs: float, tmp_path: Path) -> None:
    """The last layer of a U-Net is no stage: plans of stages hold no points, and can be read back."""
    config = PruneConfig(samples=2, full_runs=full_runs)
    plan = quick("unet", 0.0, num_inference_steps=3, granularity="stage", config=config).plan
    assert plan.frontier == ()
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json").frontier == ()


def test_fitted_points_beat_extrapolation() -> None:
    """On noise the search did not see, points are closer to the unpruned result than linear backups."""
    x, c = inputs("dit", 32)
    costs, target = cost(*PLAIN), run(loop(*PLAIN), x, c)
    gains = []
    for point in with_frontier(PLAIN).frontier[1:5]:
        keep = Placement(point.runs).keep(costs)
        kept = costs.kept(GateTable.of(keep))
        assert best_within([point], costs, kept) is point
        table, plain = point.table(costs), GateTable.of(_early(keep), "linear")
        assert torch.equal(table.keep, keep)
        fitted, linear = (
            psnr(run(_subnet(*each), x, c), target) for each in ((table, point.steering), (plain, None))
        )
        gains.append(fitted - linear)
    # The model is random and knows no image: single points may lose a little.
    assert min(gains) > -0.5
    assert sum(gains) / len(gains) > 0.5


def _early(keep: torch.Tensor) -> torch.Tensor:
    """Return a keep table whose first run is that at step 0, where it has to be without a steering."""
    early = keep.clone()
    early[int(keep.any(1).int().argmax())] = False
    early[0] = True
    return early


def _subnet(table: GateTable, steering: Steering | None) -> torch.nn.Module:
    return build(loop(*PLAIN), Plan(loop(*PLAIN).facts, table, 0.0, steering=steering))


# -- which candidates become points


def _candidate(runs: tuple[int, ...], loss: float = math.inf) -> Candidate:
    return replace(whole_steps_candidate(evaluator_of(PLAIN, 2), (runs,)), loss=loss)


@given(
    found=st.lists(
        st.tuples(
            st.sets(st.integers(0, 7), min_size=1),
            st.sampled_from((0.1, 0.2, 0.4)),
            st.sampled_from((0.5, 1.0)),
        ),
        max_size=8,
    )
)
def test_no_point_is_dearer_and_no_better(found: list[tuple[set[int], float, float]]) -> None:
    """Those that are kept cost more and rank before each other; each left out has one to match it."""
    table = GateTable.of(torch.ones(8, 1, dtype=torch.bool))
    given = [
        Candidate(table, placement=Placement((tuple(sorted(runs)),)), loss=loss, unlikeness=unlikeness)
        for runs, loss, unlikeness in found
    ]
    kept = pareto(given)
    assert all(any(each is other for other in given) for each in kept)
    for cheap, dear in pairwise(kept):
        assert cheap.placement.size < dear.placement.size
        assert cheap.rank > dear.rank
    for each in given:
        assert any(other.placement.size <= each.placement.size and other.rank <= each.rank for other in kept)
    assert pareto(kept) == kept
    assert [other.rank for other in pareto(given[::-1])] == [other.rank for other in kept]


def test_points_may_begin_late() -> None:
    """A call that begins later has the sample for its predictions until then: its steering is kept."""
    late, costs = _candidate((2, 5), 0.1), cost(*PLAIN)
    assert late.steering is not None
    mix = late.steering.mix.clone()
    mix[:2, 0, 0] = torch.tensor([0.5, 0.25], dtype=torch.float64)
    late = replace(late, steering=replace(late.steering, mix=mix))
    (point,) = points_of([late], costs)
    assert point.runs == ((2, 5),)
    assert point.steering == late.steering
    assert point.table(costs) == late.table
    assert skips_whole_steps(late, costs)


@pytest.mark.parametrize(("left", "calls"), [(0.4, 6), (0.5, 7), (0.9, 7)])
def test_what_whole_steps_leave_buys_a_call(left: float, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three and a half steps under guidance are seven calls: those are tried for the point asked for."""
    judge = evaluator_of(SPLIT, 6, 12, seed=2)
    tried: set[int] = set()
    real = choose_runs.fit_stepwise

    def fit(judge: Evaluator, found: Candidate, batch: Batch) -> Candidate:
        tried.add(found.placement.size)
        return real(judge, found, batch)

    monkeypatch.setattr(choose_runs, "fit_stepwise", fit)
    fit_frontier(judge, [[1.0] * FRONTIER_STEPS] * 2, (3 + left) / FRONTIER_STEPS)
    assert {size for size in tried if size % 2} == ({calls} if calls % 2 else set())


@pytest.mark.parametrize(
    ("runs", "loss", "sizes"),
    [((0, 3, 5), 0.3, [1, 2, 3, 4]), ((0, 3), 0.3, [1, 2, 4]), ((0, 3), 0.45, [1, 2, 4])],
)
def test_what_a_search_found_is_a_point_of_its_own(
    runs: tuple[int, ...], loss: float, sizes: list[int]
) -> None:
    """It takes the place of the point of its size, or stands between those of others, if it is better."""
    costs = cost(*PLAIN)
    known = [_candidate((0,), 0.5), _candidate((0, 4), 0.4), _candidate((0, 2, 4, 6), 0.1)]
    found = _candidate(runs, loss)
    points = points_of([*known, found], costs)
    assert [Placement(point.runs).size for point in points] == sizes
    mine = [point for point in points if point.runs == (runs,)]
    assert len(mine) == (loss == 0.3)
    for point in mine:
        assert torch.equal(point.weights, found.table.weights[:, costs.reads.heads])
    assert points_of([], costs) == ()
