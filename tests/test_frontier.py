"""The frontier of a plan: other ratios and other step counts without a new search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dipgo_fx
import zoo
from dipgo_fx import Plan, PlanError
from dipgo_fx.applying import build
from dipgo_fx.deriving import at_ratio, at_steps
from dipgo_fx.frontier import Point, at_timesteps, best_within
from dipgo_fx.placement import Placement
from loops import cost, inputs, loop, run
from searches import FRONTIER_STEPS, PLAIN, SPLIT, Key, plain_and_split, thinned, with_frontier
from steerings import steering_of

# -- points


@plain_and_split
def test_a_point_gives_its_table_back(key: Key) -> None:
    """What it runs and what its predictions read is all there is to a plan that skips steps."""
    costs = cost(*key)
    for point in with_frontier(key).frontier:
        table = point.table(costs)
        assert torch.equal(table.keep, Placement(point.runs).keep(costs))
        again = Point.of(point.runs, table, costs).table(costs)
        assert again == table
        heads = costs.reads.heads
        assert torch.equal(
            table.weights[:, heads][~table.keep[:, heads]], point.weights[~table.keep[:, heads]]
        )


def test_the_dearest_that_fits_is_taken() -> None:
    """None where not even the cheapest does."""
    costs, points = cost(*PLAIN), with_frontier(PLAIN).frontier
    for index, point in enumerate(points):
        share = costs.kept_at_most(Placement(point.runs).keep(costs), 3)
        assert best_within(points, costs, share) is point
        below = best_within(points, costs, share - 1e-6)
        assert below is (points[index - 1] if index else None)


@pytest.mark.parametrize("changes", [{"runs": ((0, 1),)}, {"weights": torch.zeros(FRONTIER_STEPS, 1, 3)}])
def test_points_are_compared_by_value(changes: dict[str, Any]) -> None:
    """Equal runs and equal weights make equal points."""
    point = with_frontier(PLAIN).frontier[2]
    assert replace(point, weights=point.weights.clone()) == point
    assert replace(point, **changes) != point
    assert point != "a point"


# -- other ratios


@plain_and_split
def test_the_search_keeps_its_own_plan(key: Key) -> None:
    """Asked for the ratio it was searched for, the frontier gives the plan that was found."""
    plan = with_frontier(key)
    same = at_ratio(plan, 0.5, cost(*key))
    assert torch.equal(same.keep, plan.keep)
    heads = cost(*key).reads.heads
    assert torch.equal(same.weights[:, heads], plan.weights[:, heads])
    assert torch.equal(same.states(), plan.states())


@settings(max_examples=10)
@given(key=st.sampled_from((PLAIN, SPLIT)), ratio=st.floats(0, 0.87))
def test_every_ratio_stays_within_its_budget(key: Key, ratio: float) -> None:
    """Law 5 holds for plans of the frontier, and law 4: what was predicted is what the SubNet costs."""
    found = at_ratio(with_frontier(key), ratio, cost(*key))
    macs, full = dipgo_fx.count_macs(build(loop(*key), found)).total, cost(*key).full.total
    assert macs <= round((1 - ratio) * full)
    assert found.ratio == pytest.approx(1 - macs / full, abs=1e-12)


# -- other step counts


@plain_and_split
def test_placing_at_the_same_timesteps_changes_nothing(key: Key) -> None:
    """Placed by noise level among its own timesteps a point is itself."""
    points, levels = with_frontier(key).frontier, with_frontier(key).timesteps
    again = at_timesteps(points, levels, levels, cost(*key))
    assert len(again) >= len(points)
    for before, after in zip(points, again, strict=False):
        assert before.runs == after.runs
        for call, steps in enumerate(before.runs):
            skipped = [t for t in range(FRONTIER_STEPS) if t not in steps]
            mine, theirs = (p.weights.chunk(len(p.runs), 1)[call][skipped] for p in (before, after))
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@given(
    first=st.integers(0, 3),
    calls=st.integers(1, 2),
    levels=st.lists(st.floats(0, 1000), min_size=6, max_size=15, unique=True),
    seed=st.integers(0, 99),
)
def test_steering_goes_with_its_point(first: int, calls: int, levels: list[float], seed: int) -> None:
    """Runs stay told as they were, what is before the first run and skipped steps go by noise level."""
    key = PLAIN if calls == 1 else SPLIT
    facts, costs = loop(*key).facts, cost(*key)
    steering, old = steering_of(facts, seed, first), facts.timesteps
    runs = ((first, 5, 6),) * calls
    point = Point(runs, torch.zeros(FRONTIER_STEPS, calls, 3), steering)
    new = sorted(levels, reverse=True)
    (placed,) = at_timesteps((point,), old, new, costs.with_steps(len(new)))[:1]
    moved = placed.steering
    assert moved is not None
    steps = placed.runs[0]
    assert torch.equal(moved.told[list(steps)], steering.told[list(runs[0])])
    assert moved.first == steps[0]
    early = steering.mix[:first, 0, 0].tolist()
    assert all(share in early for share in moved.mix[: steps[0], 0, 0].tolist())
    assert (moved.mix[list(steps)] == torch.tensor([0.0, 1.0, 0.0, 0.0])).all()
    (same,) = at_timesteps((point,), old, old, costs)[:1]
    assert same.steering is not None
    skipped = [t for t in range(FRONTIER_STEPS) if t not in runs[0]]
    torch.testing.assert_close(
        same.steering.mix[skipped][..., 0], steering.mix[skipped][..., 0], rtol=0, atol=1e-12
    )


# Every two of a step count, a ratio and a kind of loop occur together.
ELSEWHERE = [
    (steps, ratio, key) for steps in (3, 5, 13, 20) for ratio in (0.3, 0.6) for key in (PLAIN, SPLIT)
]
FAST = [
    (steps, ratio, (PLAIN, SPLIT)[(index + turn) % 2])
    for index, steps in enumerate((3, 5, 13, 20))
    for turn, ratio in enumerate((0.3, 0.6))
]


@pytest.mark.parametrize(("steps", "ratio", "key"), thinned(ELSEWHERE, FAST))
def test_another_step_count(steps: int, ratio: float, key: Key) -> None:
    """A plan serves other step counts, within the budget of that loop."""
    pruned = dipgo_fx.apply(
        zoo.model("dit"),
        zoo.SCHEDULERS["ddim"](),
        with_frontier(key),
        ratio=ratio,
        num_inference_steps=steps,
    )
    assert pruned.facts.num_inference_steps == len(pruned.plan.timesteps) == steps
    assert dipgo_fx.count_macs(pruned).total <= round((1 - ratio) * pruned.report.before.total)
    x, c = inputs("dit", 2, key[3])
    assert run(pruned, x, c).isfinite().all()


def test_plans_without_a_frontier_say_so() -> None:
    """A plan written by hand serves its own step count only."""
    by_hand = Plan.from_keep(loop(*PLAIN), torch.ones_like(with_frontier(PLAIN).keep))
    other = ("dit", "ddim", "block", None, 5)
    with pytest.raises(PlanError, match="holds no frontier to place at 5 steps"):
        at_steps(by_hand, loop(*other).facts, 0.5, cost(*other))


@plain_and_split
def test_another_model_is_still_refused(key: Key) -> None:
    """Only the step count may differ."""
    other = ("unet", "ddim", "block", None, 5)
    with pytest.raises(PlanError, match="this plan is for model='DiTTransformer2DModel'"):
        at_steps(with_frontier(key), loop(*other).facts, 0.5, cost(*other))


# -- files


@plain_and_split
def test_a_frontier_survives_its_file(tmp_path: Path, key: Key) -> None:
    """Law 10 for its points."""
    with_frontier(key).save(tmp_path / "plan.json")
    read = Plan.load(tmp_path / "plan.json")
    assert read == with_frontier(key)
    assert read.frontier == with_frontier(key).frontier


@pytest.mark.parametrize(
    ("steps", "weights", "said"),
    [
        ((-1, 2), torch.zeros(FRONTIER_STEPS, 1, 3), "must rise from 0"),
        ((1, 2), torch.zeros(FRONTIER_STEPS, 1, 3), r"must rise from 0, got \(\(1, 2\),\)"),
        ((0, 3, 2), torch.zeros(FRONTIER_STEPS, 1, 3), "must rise from 0"),
        ((0, FRONTIER_STEPS), torch.zeros(FRONTIER_STEPS, 1, 3), "must be of 1 calls and"),
        ((0, 2.0), torch.zeros(FRONTIER_STEPS, 1, 3), "must be whole numbers"),
        ((), torch.zeros(FRONTIER_STEPS, 1, 3), "must be whole numbers"),
        ((0, 2), torch.zeros(FRONTIER_STEPS, 1, 2), r"weights \(T, R, 3\), got 1 calls and"),
        ((0, 2), torch.full((FRONTIER_STEPS, 1, 3), torch.nan), "must be finite"),
    ],
)
def test_points_that_cannot_be_are_refused(steps: tuple[int, ...], weights: torch.Tensor, said: str) -> None:
    """By themselves, or by the plan that they are of."""

    def planned() -> Plan:
        point = Point((steps,), weights)
        return replace(with_frontier(PLAIN), frontier=(point,))

    with pytest.raises(PlanError, match=said):
        planned()


def test_a_point_has_the_weights_of_all_that_is_read() -> None:
    """Points with more or fewer columns of weights than the loop's predictions read are refused."""
    plan = with_frontier(PLAIN)
    point = plan.frontier[0]
    damaged = replace(point, weights=point.weights.expand(FRONTIER_STEPS, 2, 3))
    with pytest.raises(PlanError, match="of the 1 blocks"):
        replace(plan, frontier=(damaged,))
    of_format_3 = replace(plan, frontier=(damaged,), cost=None)
    with pytest.raises(PlanError, match="of the 1 blocks"):
        at_ratio(of_format_3, 0.8, cost(*PLAIN))
