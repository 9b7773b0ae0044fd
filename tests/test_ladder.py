"""The ladder that a search leaves: plans for other ratios and other step counts without a new search."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dipgo_fx
import zoo
from dipgo_fx import Plan, PlanError, PruneConfig, ladder
from dipgo_fx.api import at_ratio, at_steps, build
from dipgo_fx.arena import Arena
from dipgo_fx.calibration import calibrate
from dipgo_fx.ladder import RUNGS, Spread, climb, highest, moved, spread_steps
from dipgo_fx.losses import psnr
from dipgo_fx.schedules import keep_table
from loops import cost, inputs, loop, run

STEPS = 8
PLAIN = ("dit", "ddim", "block", None, STEPS, False)
SPLIT = ("dit", "ddim", "block", 2.0, STEPS, True)
Key = tuple[Any, ...]
both = pytest.mark.parametrize("key", [PLAIN, SPLIT], ids=["plain", "split"])


@cache
def plan(key: Key) -> Plan:
    """Return the plan of a tiny search."""
    return dipgo_fx.prune(
        zoo.model("dit"),
        zoo.SCHEDULERS["ddim"](),
        0.5,
        num_inference_steps=STEPS,
        guidance_scale=key[3],
        config=PruneConfig(samples=12, full_runs=8),
        progress=False,
        generator=zoo.generator(1),
    ).plan


@both
def test_rungs_rise(key: Key) -> None:
    """A ladder goes from one step to all but one, each rung with the first step, none twice."""
    halves = loop(*key).facts.halves
    counts = [sum(map(len, rung.runs)) for rung in plan(key).rungs]
    assert counts == sorted({*counts})
    assert counts[0] == halves
    assert counts[-1] == halves * (STEPS - 1)
    for rung in plan(key).rungs:
        assert len(rung.runs) == halves
        assert all(steps[0] == 0 and steps == tuple(sorted({*steps})) for steps in rung.runs)
        assert {*rung.runs[0]} <= {*rung.runs[-1]}


@both
def test_the_search_keeps_its_own_plan(key: Key) -> None:
    """Asked for the ratio it was searched for, the ladder gives the plan that was found."""
    same = at_ratio(plan(key), 0.5, cost(*key))
    assert torch.equal(same.keep, plan(key).keep)
    live = cost(*key).live(same.keep.tolist(), same.weights.tolist())
    read = cost(*key).reads.read_by_output
    assert torch.equal(same.weights[:, read], plan(key).weights[:, read])
    assert live.any()


@settings(max_examples=10)
@given(key=st.sampled_from((PLAIN, SPLIT)), ratio=st.floats(0, 0.87))
def test_every_ratio_stays_within_its_budget(key: Key, ratio: float) -> None:
    """Law 5 holds for plans of the ladder, and law 4: what was predicted is what the SubNet costs."""
    found = at_ratio(plan(key), ratio, cost(*key))
    subnet = build(loop(*key), found, cost(*key))
    full = cost(*key).full.total
    assert dipgo_fx.count_macs(subnet).total <= round((1 - ratio) * full)
    assert found.ratio == pytest.approx(1 - dipgo_fx.count_macs(subnet).total / full, abs=1e-12)


@given(
    key=st.sampled_from((PLAIN, SPLIT)),
    count=st.integers(1, STEPS),
    spread=st.builds(Spread, st.floats(0.05, 1), st.floats(0, 1), st.floats(0, 0.9)),
    sensitivity=st.lists(st.floats(1e-6, 1e3), min_size=STEPS, max_size=STEPS),
)
def test_a_spread_costs_what_whole_steps_cost(
    key: Key, count: int, spread: Spread, sensitivity: list[float]
) -> None:
    """However its runs are placed, a rung is no dearer than its whole steps, and at least as many."""
    costs = cost(*key)
    runs = spread_steps(costs, [sensitivity] * costs.halves, count, spread)
    whole = keep_table(costs, (tuple(range(count)),) * costs.halves)
    assert costs.share(keep_table(costs, runs)) <= costs.share(whole)
    assert len(runs[-1]) >= count


def arena(key: Key, full_runs: float) -> Arena:
    """Return where a tiny search judges plans."""
    config = PruneConfig(samples=6, full_runs=full_runs)
    batch = calibrate(loop(*key), zoo.model("dit"), None, config.samples, 1.0, zoo.generator(2))
    return Arena(loop(*key), cost(*key), batch, config, zoo.generator(0))


@pytest.mark.parametrize(("asked", "count"), [(0.25, 5), (0.66, 13), (0.95, 19)])
def test_a_ladder_has_a_rung_for_what_was_asked(asked: float, count: int) -> None:
    """The steps that fit in the share that a search is for make a rung, which others need not have."""
    key = ("dit", "ddim", "block", None, 20, False)
    sizes = {len(rung.runs[-1]) for rung in climb(arena(key, 4), [[1.0] * 20], asked)}
    assert count in sizes
    assert count not in {int(share * 20 + 1e-9) for share in RUNGS}


def test_beyond_the_budget_rungs_run_whole_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the budget ends early, the share of unconditional runs of the last low rung is not passed on."""
    monkeypatch.setattr(ladder, "_spreads", lambda low: [Spread(0.45 if low else 1.0)])
    rungs = climb(arena(SPLIT, 4.6), [[1.0] * STEPS] * 2, 0.2)
    halves = [rung.runs for rung in rungs if rung.runs[0] != rung.runs[1]]
    whole = [rung.runs for rung in rungs if rung.runs[0] == rung.runs[1]]
    assert halves
    assert max(len(runs[1]) for runs in whole) == STEPS - 1
    assert all(len(runs[1]) <= 3 for runs in halves), "three conditional steps and one cost two whole ones"


@pytest.mark.parametrize("full_runs", [0.1, 24.0])
def test_a_loop_that_cannot_skip_steps_has_no_ladder(full_runs: float, tmp_path: Path) -> None:
    """The last layer of a U-Net is no stage: plans of stages hold no rungs, and can be read back."""
    config = PruneConfig(samples=2, full_runs=full_runs)
    unet, ddim = zoo.model("unet"), zoo.SCHEDULERS["ddim"]()
    options = {"num_inference_steps": 3, "granularity": "stage", "config": config, "progress": False}
    plan = dipgo_fx.prune(unet, ddim, 0.0, **options).plan  # type: ignore[arg-type]
    assert plan.rungs == ()
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json").rungs == ()


def test_fitted_rungs_beat_extrapolation() -> None:
    """On noise the search did not see, rungs are closer to the unpruned result than linear backups."""
    x, c = inputs("dit", 32)
    target = run(loop(*PLAIN), x, c)
    gains = []
    for rung in plan(PLAIN).rungs[2:6]:
        keep = torch.tensor(keep_table(cost(*PLAIN), rung.runs))
        linear = build(loop(*PLAIN), Plan.from_keep(loop(*PLAIN), keep, "linear"), cost(*PLAIN))
        fitted = highest([rung], cost(*PLAIN), cost(*PLAIN).share(keep.tolist()))
        assert fitted is not None
        learned = Plan.from_keep(loop(*PLAIN), fitted.keep, weights=fitted.weights)
        ours = psnr(run(build(loop(*PLAIN), learned, cost(*PLAIN)), x, c), target)
        gains.append(ours - psnr(run(linear, x, c), target))
    # The model is random and knows no image: single rungs may lose a little.
    assert min(gains) > -0.5
    assert sum(gains) / len(gains) > 0.5


@both
def test_placing_at_the_same_timesteps_changes_nothing(key: Key) -> None:
    """Placed by noise level among its own timesteps a rung is itself."""
    levels = plan(key).timesteps
    again = moved(plan(key).rungs, levels, levels, cost(*key))
    for before, after in zip(plan(key).rungs, again, strict=False):
        assert before.runs == after.runs
        for half, steps in enumerate(before.runs):
            skipped = [t for t in range(STEPS) if t not in steps]
            mine, theirs = (rung.weights.chunk(len(rung.runs), 1)[half][skipped] for rung in (before, after))
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@both
@pytest.mark.parametrize("steps", [3, 5, 13, 20])
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_another_step_count(steps: int, ratio: float, key: Key) -> None:
    """A plan serves other step counts, within the budget of that loop, and says where it came from."""
    pruned = dipgo_fx.apply(
        zoo.model("dit"), zoo.SCHEDULERS["ddim"](), plan(key), ratio=ratio, num_inference_steps=steps
    )
    other = (*key[:4], steps, key[5])
    assert len(pruned.plan.timesteps) == steps
    assert dipgo_fx.count_macs(pruned).total <= round((1 - ratio) * cost(*other).full.total)
    assert pruned.plan.origin["moved_from"] == plan(key).origin
    x, c = inputs("dit", 2, key[3])
    assert run(pruned, x, c).isfinite().all()


def test_plans_without_a_ladder_say_so() -> None:
    """A plan written by hand serves its own step count only."""
    by_hand = Plan.from_keep(loop(*PLAIN), torch.ones(plan(PLAIN).keep.shape, dtype=torch.bool))
    other = ("dit", "ddim", "block", None, 5)
    with pytest.raises(PlanError, match="holds no ladder to place at 5 steps"):
        at_steps(by_hand, loop(*other).facts, 0.5, cost(*other))


@both
def test_another_model_is_still_refused(key: Key) -> None:
    """Only the step count may differ."""
    other = ("unet", "ddim", "block", None, 5)
    with pytest.raises(PlanError, match="this plan is for model='DiTTransformer2DModel'"):
        at_steps(plan(key), loop(*other).facts, 0.5, cost(*other))


@both
def test_a_ladder_survives_its_file(tmp_path: Path, key: Key) -> None:
    """Law 10 for rungs."""
    plan(key).save(tmp_path / "plan.json")
    read = Plan.load(tmp_path / "plan.json")
    assert [rung.runs for rung in read.rungs] == [rung.runs for rung in plan(key).rungs]
    for before, after in zip(plan(key).rungs, read.rungs, strict=True):
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
    rung = replace(plan(PLAIN).rungs[0], runs=(steps,), weights=weights)
    damaged = replace(plan(PLAIN), rungs=(rung,))
    damaged.save(tmp_path / "plan.json")
    with pytest.raises(PlanError, match=said):
        Plan.load(tmp_path / "plan.json")
