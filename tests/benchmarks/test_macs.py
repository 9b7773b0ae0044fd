"""The table of MACs: its plans, and what makes it stop."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.architectures import SETTINGS
from benchmarks.macs import PUBLISHED, Counted, spread_plan, spread_scores
from dipgo_fx.cost import LoopCost
from dipgo_fx.macs import Cost
from dipgo_fx.states import State

STEPS = 5


@pytest.fixture(scope="module")
def counted() -> Counted:
    """A few steps of the smallest setting."""
    return Counted.of(replace(SETTINGS["dit"], steps=STEPS), PUBLISHED["dit"])


def test_every_setting_is_published() -> None:
    """The first row of each is unpruned."""
    assert set(PUBLISHED) == set(SETTINGS)
    assert all(published.rows[0][1] == 0 for published in PUBLISHED.values())


def test_scores_rank_whole_steps_before_blocks() -> None:
    """The first step is the highest; within a step later blocks are."""
    scores = spread_scores(STEPS, 3)
    order = scores.flatten().argsort(descending=True)
    assert (order // 3).tolist()[::3] == [0, 2, 1, 3, 4]
    assert (order % 3).tolist() == [2, 1, 0] * STEPS


def test_a_plan_is_within_its_budget_and_spread(counted: Counted) -> None:
    """Whole steps, spread evenly, and one that is not whole."""
    plan = spread_plan(counted.loop, counted.cost, 0.4)
    assert 0.4 <= plan.ratio < 0.4125
    runs = plan.states() == State.RUNS
    assert [step for step in range(STEPS) if bool(runs[step].all())] == [0, 2]
    assert [step for step in range(STEPS) if not bool(runs[step].any())] == [3, 4]


def test_rows_say_what_the_paper_counts(counted: Counted) -> None:
    """The difference is in the paper's convention, the miss in shares of the loop."""
    ours = counted.cost.full.total / 1e12
    row = counted.row("T3", 0.0, ours / 1.25)
    assert row["difference"] == "+25.00 %"
    assert row["miss"] is None
    assert 0 <= counted.row("T3", 0.6, 1.0)["miss"] < 0.2
    bare = replace(counted, published=replace(counted.published, attention=False))
    assert bare.row("T3", 0.0, 1.0)["difference"] != counted.row("T3", 0.0, 1.0)["difference"]


def test_a_wrong_count_stops_the_table(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that costs something else than its SubNet is no result."""
    monkeypatch.setattr(LoopCost, "of_table", lambda self, table: Cost(1, 0))
    with pytest.raises(AssertionError, match="law 4"):
        counted.row("T3", 0.6, 1.0)


def test_scores_are_exact() -> None:
    """In double precision: ties would make the budget depend on the order of blocks."""
    scores = spread_scores(250, 29)
    assert scores.dtype == torch.float64
    assert len(scores.unique()) == scores.numel()
