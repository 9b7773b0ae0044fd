"""The frontier that a search leaves: how its points are fitted and placed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipgo_fx import Plan, PruneConfig
from dipgo_fx.applying import build
from dipgo_fx.frontier import best_within
from dipgo_fx.passes import GateTable
from dipgo_fx.placement import Placement, whole_steps
from dipgo_fx.search import fit_frontier as module
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.fit_frontier import (
    POINTS,
    Effort,
    Spacing,
    fit_frontier,
    skips_whole_steps,
    steps_at,
    with_point,
)
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
    """A frontier goes from one step to all but one, each point with the first step, none twice."""
    calls, points = len(loop(*key).facts.guidance.calls), with_frontier(key).frontier
    counts = [Placement(point.runs).size for point in points]
    assert counts == sorted({*counts})
    assert counts[0] == calls
    assert counts[-1] == calls * (FRONTIER_STEPS - 1)
    for point in points:
        assert len(point.runs) == calls
        assert all(steps[0] == 0 and steps == tuple(sorted({*steps})) for steps in point.runs)
        assert {*point.runs[0]} <= {*point.runs[-1]}


@given(
    key=st.sampled_from((PLAIN, SPLIT)),
    count=st.integers(1, FRONTIER_STEPS),
    spacing=st.builds(Spacing, st.floats(0.05, 1), st.floats(0, 1), st.floats(0, 0.9)),
    sensitivity=st.lists(st.floats(1e-6, 1e3), min_size=FRONTIER_STEPS, max_size=FRONTIER_STEPS),
)
def test_a_point_costs_what_whole_steps_cost(
    key: Key, count: int, spacing: Spacing, sensitivity: list[float]
) -> None:
    """However its runs are placed, a point is no dearer than its whole steps, and has at least as many."""
    costs = cost(*key)
    runs = steps_at(costs, [sensitivity] * costs.num_calls, count, spacing)
    whole = whole_steps(tuple(range(count)), costs).keep(costs)
    assert costs.kept(GateTable.of(Placement(runs).keep(costs))) <= costs.kept(GateTable.of(whole))
    assert len(runs[-1]) >= count


@pytest.mark.parametrize(
    ("asked", "count"),
    thinned([(0.25, 5), (0.66, 13), (0.95, 19)], [(0.25, 5)]),
)
def test_there_is_a_point_for_what_was_asked(asked: float, count: int) -> None:
    """The steps that fit in the share that a search is for make a point, which others need not have."""
    key = ("dit", "ddim", "block", None, 20, False)
    judge = evaluator_of(key, 6, limit=4, seed=2)
    sizes = {len(point.runs[-1]) for point in fit_frontier(judge, [[1.0] * 20], asked)}
    assert count in sizes
    assert count not in {int(share * 20 + 1e-9) for share in POINTS}


def test_beyond_the_budget_points_run_whole_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the budget ends early, the share of unconditional runs of the last low point is not passed on."""
    monkeypatch.setattr(module, "LOW", Effort((Spacing(0.45),), 1, module.NEWTON_RUNS))
    monkeypatch.setattr(module, "MIDDLE", Effort((Spacing(1.0),), 1))
    points = fit_frontier(evaluator_of(SPLIT, 6, 4.6, seed=2), [[1.0] * FRONTIER_STEPS] * 2, 0.2)
    apart = [point.runs for point in points if point.runs[0] != point.runs[1]]
    whole = [point.runs for point in points if point.runs[0] == point.runs[1]]
    assert apart
    assert max(len(runs[1]) for runs in whole) == FRONTIER_STEPS - 1
    assert all(len(runs[1]) <= 3 for runs in apart), "three conditional steps and one cost two whole ones"


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
    for point in with_frontier(PLAIN).frontier[2:6]:
        keep = Placement(point.runs).keep(costs)
        kept = costs.kept(GateTable.of(keep))
        assert best_within([point], costs, kept) is point
        table = point.table(costs, kept)
        assert torch.equal(table.keep, keep)
        fitted, linear = (
            psnr(run(_subnet(each), x, c), target) for each in (table, GateTable.of(keep, "linear"))
        )
        gains.append(fitted - linear)
    # The model is random and knows no image: single points may lose a little.
    assert min(gains) > -0.5
    assert sum(gains) / len(gains) > 0.5


def _subnet(table: GateTable) -> torch.nn.Module:
    return build(loop(*PLAIN), Plan.from_keep(loop(*PLAIN), table.keep, weights=table.weights))


# -- which candidates become points


def _candidate(runs: tuple[int, ...]) -> Candidate:
    return whole_steps_candidate(evaluator_of(PLAIN, 2), (runs,))


def test_what_a_search_found_is_a_point_of_its_own() -> None:
    """It takes the place of the point of its size, or stands between those of others."""
    points = with_frontier(PLAIN).frontier
    sizes = [Placement(point.runs).size for point in points]
    found = _candidate((0, 3, 5))
    new = with_point(points, found, cost(*PLAIN))
    assert [Placement(point.runs).size for point in new] == sorted({*sizes, 3})
    (mine,) = (point for point in new if Placement(point.runs).size == 3)
    assert mine.runs == ((0, 3, 5),)
    assert torch.equal(mine.weights, found.table.weights[:, cost(*PLAIN).reads.heads])
    assert with_point((), found, cost(*PLAIN)) == ()


def test_only_whole_steps_are_points() -> None:
    """A candidate that runs a block more, or one less, at some step leaves the frontier as it is."""
    costs, points = cost(*PLAIN), with_frontier(PLAIN).frontier
    whole = _candidate((0, 3, 5))
    assert skips_whole_steps(whole, costs)
    for step, kept in ((4, True), (3, False)):
        keep = whole.table.keep.clone()
        keep[step, 0] = kept
        partial = replace(whole, table=GateTable.of(keep, "linear"))
        assert not skips_whole_steps(partial, costs)
        assert with_point(points, partial, costs) == points
