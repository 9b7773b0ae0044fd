"""The ladder that a search leaves: plans for other ratios and other step counts without a new search."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dipgo_fx
import zoo
from dipgo_fx import Plan, PlanError, PruneConfig
from dipgo_fx.api import at_ratio, at_steps, build
from dipgo_fx.ladder import highest, moved
from dipgo_fx.losses import psnr
from loops import cost, inputs, loop, run

STEPS = 8
KEY = ("dit", "ddim", "block", None, STEPS)


@cache
def plan() -> Plan:
    """Return the plan of a tiny search."""
    return dipgo_fx.prune(
        zoo.model("dit"),
        zoo.SCHEDULERS["ddim"](),
        0.5,
        num_inference_steps=STEPS,
        config=PruneConfig(samples=6, batch_size=2, full_runs=8),
        progress=False,
        generator=zoo.generator(1),
    ).plan


def test_rungs_rise() -> None:
    """A ladder goes from one step to all but one, each rung with the first step, none twice."""
    counts = [len(rung.steps) for rung in plan().rungs]
    assert counts == list(range(1, STEPS))
    assert all(rung.steps[0] == 0 and len({*rung.steps}) == len(rung.steps) for rung in plan().rungs)


def test_the_search_keeps_its_own_plan() -> None:
    """Asked for the ratio it was searched for, the ladder gives the plan that was found."""
    same = at_ratio(plan(), 0.5, cost(*KEY))
    assert torch.equal(same.keep, plan().keep)
    live = cost(*KEY).live(same.keep.tolist(), same.weights.tolist())
    read = cost(*KEY).reads.read_by_output
    assert torch.equal(same.weights[:, read], plan().weights[:, read])
    assert live.any()


@settings(max_examples=10)
@given(ratio=st.floats(0, 0.87))
def test_every_ratio_stays_within_its_budget(ratio: float) -> None:
    """Law 5 holds for plans of the ladder, and law 4: what was predicted is what the SubNet costs."""
    found = at_ratio(plan(), ratio, cost(*KEY))
    subnet = build(loop(*KEY), found, cost(*KEY))
    full = cost(*KEY).full.total
    assert dipgo_fx.count_macs(subnet).total <= round((1 - ratio) * full)
    assert found.ratio == pytest.approx(1 - dipgo_fx.count_macs(subnet).total / full, abs=1e-12)


def test_fitted_rungs_beat_extrapolation() -> None:
    """On noise the search did not see, rungs are closer to the unpruned result than linear backups."""
    x, c = inputs("dit", 32)
    target = run(loop(*KEY), x, c)
    gains = []
    for rung in plan().rungs[2:6]:
        keep = torch.zeros(STEPS, len(plan().blocks), dtype=torch.bool)
        keep[list(rung.steps)] = True
        linear = build(loop(*KEY), Plan.from_keep(loop(*KEY), keep, "linear"), cost(*KEY))
        fitted = highest([rung], cost(*KEY), len(rung.steps) / STEPS)
        assert fitted is not None
        learned = Plan.from_keep(loop(*KEY), fitted.keep, weights=fitted.weights)
        ours = psnr(run(build(loop(*KEY), learned, cost(*KEY)), x, c), target)
        gains.append(ours - psnr(run(linear, x, c), target))
    # The model is random and knows no image: single rungs may lose a little.
    assert min(gains) > -0.5
    assert sum(gains) / len(gains) > 0.5


def test_placing_at_the_same_timesteps_changes_nothing() -> None:
    """Placed by noise level among its own timesteps a rung is itself."""
    levels = plan().timesteps
    again = moved(plan().rungs, levels, levels, cost(*KEY))
    for before, after in zip(plan().rungs, again, strict=False):
        assert before.steps == after.steps
        skipped = [t for t in range(STEPS) if t not in before.steps]
        torch.testing.assert_close(before.weights[skipped], after.weights[skipped], rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [3, 5, 13, 20])
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_another_step_count(steps: int, ratio: float) -> None:
    """A plan serves other step counts, within the budget of that loop, and says where it came from."""
    pruned = dipgo_fx.apply(
        zoo.model("dit"), zoo.SCHEDULERS["ddim"](), plan(), ratio=ratio, num_inference_steps=steps
    )
    key = ("dit", "ddim", "block", None, steps)
    assert len(pruned.plan.timesteps) == steps
    assert dipgo_fx.count_macs(pruned).total <= round((1 - ratio) * cost(*key).full.total)
    assert pruned.plan.origin["moved_from"] == plan().origin
    x, c = inputs("dit", 2)
    assert run(pruned, x, c).isfinite().all()


def test_plans_without_a_ladder_say_so() -> None:
    """A plan written by hand serves its own step count only."""
    keep = torch.ones(STEPS, len(plan().blocks), dtype=torch.bool)
    by_hand = Plan.from_keep(loop(*KEY), keep)
    key = ("dit", "ddim", "block", None, 5)
    with pytest.raises(PlanError, match="holds no ladder to place at 5 steps"):
        at_steps(by_hand, loop(*key).facts, 0.5, cost(*key))


def test_another_model_is_still_refused() -> None:
    """Only the step count may differ."""
    other = ("unet", "ddim", "block", None, 5)
    with pytest.raises(PlanError, match="this plan is for model='DiTTransformer2DModel'"):
        at_steps(plan(), loop(*other).facts, 0.5, cost(*other))


def test_a_ladder_survives_its_file(tmp_path: Path) -> None:
    """Law 10 for rungs."""
    plan().save(tmp_path / "plan.json")
    read = Plan.load(tmp_path / "plan.json")
    assert [rung.steps for rung in read.rungs] == [rung.steps for rung in plan().rungs]
    for before, after in zip(plan().rungs, read.rungs, strict=True):
        assert torch.equal(before.weights, after.weights)


@pytest.mark.parametrize(
    ("steps", "weights", "said"),
    [
        ((1, 2), torch.zeros(STEPS, 1, 3), "must rise from 0"),
        ((0, 3, 2), torch.zeros(STEPS, 1, 3), "must rise from 0"),
        ((0, STEPS), torch.zeros(STEPS, 1, 3), "must rise from 0"),
        ((0, 2), torch.zeros(STEPS, 1, 2), "weights must be"),
        ((0, 2), torch.full((STEPS, 1, 3), torch.nan), "must be finite"),
    ],
)
def test_damaged_rungs_are_refused(
    tmp_path: Path, steps: tuple[int, ...], weights: torch.Tensor, said: str
) -> None:
    """A file whose rungs cannot be is not read."""
    damaged = replace(plan(), rungs=(replace(plan().rungs[0], steps=steps, weights=weights),))
    damaged.save(tmp_path / "plan.json")
    with pytest.raises(PlanError, match=said):
        Plan.load(tmp_path / "plan.json")
