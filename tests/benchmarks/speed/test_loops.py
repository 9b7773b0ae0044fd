"""Wall time: who runs when, and what a row says of it."""

from __future__ import annotations

import pytest

from benchmarks.speed.loops import HandPlan, guidance_rows, hand_plans, wall_rows
from benchmarks.speed.subjects import SMALL, random_dit
from dipgo_fx import trace

STEPS = 6


def test_plans_by_hand_keep_whole_steps_and_a_tail() -> None:
    """Every so many steps run whole, the last blocks at the others."""
    loop = trace(random_dit(SMALL).model, _scheduler(), STEPS)
    keep = HandPlan("", 3, "linear", tail=2).on(loop).keep
    assert [bool(row.all()) for row in keep] == [True, False, False] * 2
    assert [int(row.sum()) for row in keep[1:3]] == [2, 2]
    names = [plan.name for plan in hand_plans(2)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("rows", [wall_rows, guidance_rows])
def test_speed_ups_are_relative_to_the_first_row(rows: object) -> None:
    """It keeps all MACs; a pruned loop's ideal is what its share promises."""
    found = rows(random_dit(SMALL), STEPS, 1)  # type: ignore[operator]
    assert (found[0]["speed-up"], found[0]["share of MACs"]) == (1, 1)
    for row in found:
        assert row["ideal"] == pytest.approx(1 / row["share of MACs"], rel=1e-3)
        assert row["efficiency"] == pytest.approx(row["speed-up"] * row["share of MACs"], abs=2e-3)
    assert min(row["share of MACs"] for row in found) < 0.5


def _scheduler() -> object:
    import diffusers

    return diffusers.DDIMScheduler()
