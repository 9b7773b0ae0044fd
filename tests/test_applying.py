"""`apply`: a plan becomes a loop, at its own ratio and step count or at others."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import dipgo_fx
import zoo
from dipgo_fx import Loop, Plan, PlanError, PrunedLoop
from dipgo_fx.applying import build
from dipgo_fx.deriving import at_ratio, at_steps
from dipgo_fx.passes.gate_table import GateTable
from dipgo_fx.placement import Placement
from loops import calls, cost, inputs, loop, run
from searches import PLAIN, STEPS, Key, plain_and_split, searched, with_frontier


def applied(plan: Plan, model: str = "dit", scheduler: str = "ddim", **options: Any) -> PrunedLoop:
    """Apply a plan to a model of the zoo."""
    return dipgo_fx.apply(zoo.model(model), zoo.SCHEDULERS[scheduler](), plan, **options)


# -- a plan as it is


def test_a_plan_gives_the_loop_it_came_with() -> None:
    """No search, no calibration: the same calls and the same bits as what the search handed back."""
    plan = searched().plan
    again = applied(plan)
    assert isinstance(again, PrunedLoop)
    assert again.plan == plan
    assert calls(again) == calls(searched())
    assert again.report.after == searched().report.after
    x, c = inputs("dit", 2)
    assert torch.equal(run(again, x, c), run(searched(), x, c))


def test_a_plan_of_chosen_blocks_is_read_back(tmp_path: Path) -> None:
    """What a function chose stands in the plan by name, and the head beside it."""
    model, scheduler = zoo.model("dit"), zoo.SCHEDULERS["ddim"]()
    made = dipgo_fx.trace(model, scheduler, 4, granularity=lambda path, module: path.endswith("attn1"))
    assert {block.rpartition(".")[2] for block in made.blocks} == {"attn1", "proj_out_2"}
    keep = torch.ones(4, len(made.blocks), dtype=torch.bool)
    keep[1::2, 0] = False
    Plan.from_keep(made, keep).save(tmp_path / "plan.json")
    plan = Plan.load(tmp_path / "plan.json")
    assert plan.facts.granularity == "own"
    x, c = inputs("dit", 2)
    assert torch.equal(run(applied(plan), x, c), run(build(made, plan), x, c))


def test_only_a_pruned_loop_has_a_plan() -> None:
    """A traced loop has neither plan nor report, and says so as Python does."""
    graph = loop(*PLAIN)
    assert isinstance(graph, Loop)
    for name in ("plan", "report"):
        assert not hasattr(graph, name)
        assert hasattr(searched(), name)


def test_plans_of_another_loop_are_refused() -> None:
    """A plan for another model or scheduler is refused with both names."""
    plan = searched().plan
    with pytest.raises(PlanError, match=r"DiTTransformer2DModel.*UNet2DModel"):
        applied(plan, "unet")
    with pytest.raises(PlanError, match=r"DDIMScheduler.*HeunDiscreteScheduler"):
        applied(plan, "dit", "heun")
    other = loop("dit", "ddim", "block", None, 5)
    with pytest.raises(PlanError, match=rf"num_inference_steps={STEPS}.*num_inference_steps=5"):
        build(other, plan)


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_no_step_count(steps: int) -> None:
    """Zero is a wrong number of steps, and not the plan's own."""
    with pytest.raises(ValueError, match=f"num_inference_steps must be at least 1, got {steps}"):
        applied(searched().plan, num_inference_steps=steps)


@pytest.mark.parametrize("ratio", [1.0, -0.25, float("nan")])
def test_a_ratio_out_of_range_is_refused(ratio: float) -> None:
    """Zero is a ratio; these are none."""
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        applied(searched().plan, ratio=ratio)


def test_ratio_zero_is_asked_for() -> None:
    """It is not "not given": nothing is removed."""
    whole = applied(with_frontier(PLAIN), ratio=0)
    assert whole.plan.ratio == 0
    assert bool(whole.plan.keep.all())


def test_what_a_plan_costs_counts_and_not_what_it_says() -> None:
    """Its ratio may be of another image size: a table that says it removes nothing is cut down to nothing."""
    graph = loop(*PLAIN)
    keep = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[3:] = False
    says_nothing = Plan(graph.facts, GateTable.of(keep), 0.0)
    assert at_ratio(says_nothing, 0.0, cost(*PLAIN)).keep.all()
    assert at_ratio(says_nothing, 1 - 3 / 8, cost(*PLAIN)).table == says_nothing.table


def test_ratio_zero_is_the_traced_loop() -> None:
    """Bit for bit, also of a plan that has the conditions of guidance apart: the stock loop has not."""
    key = ("dit", "ddim", "block", 2.0)
    x, c = inputs("dit", 2, 2.0)
    for split in (False, True):
        graph = loop(*key, STEPS, split)
        keep = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
        keep[1:, ::2] = False
        plan = Plan.from_keep(graph, keep)
        off = dipgo_fx.apply(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), plan, ratio=0)
        assert torch.equal(run(off, x, c), run(loop(*key, STEPS), x, c))
        assert (off.plan.ratio, off.plan.origin["name"]) == (0, "unpruned")


def test_a_plan_of_another_depth_is_refused_before_it_is_moved() -> None:
    """By what differs, whatever else is asked for."""
    other = with_frontier(PLAIN)
    facts = replace(other.facts, timesteps=tuple(t + 1 for t in other.timesteps))
    with pytest.raises(PlanError, match="this plan is for timesteps="):
        applied(replace(other, facts=facts), ratio=0.3)


def test_folding_is_exact_for_one_sample_and_close_for_more() -> None:
    """Folded time embeddings equal the computed ones at batch 1, to rounding elsewhere."""
    graph = loop("unet-text", "ddim", "block", None, 4)
    keep = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[1, 2:] = keep[3, :4] = False
    plan = Plan.from_keep(graph, keep, "linear")
    plain, folded = build(graph, plan), build(graph, plan, fold=True)
    assert not any("time_embedding" in str(n.target) for n in folded.graph.nodes)
    assert any("time_embedding" in str(n.target) for n in plain.graph.nodes)
    for batch in (1, 3):
        x, c = inputs("unet-text", batch)
        a, b = run(plain, x, c), run(folded, x, c)
        assert torch.equal(a, b) if batch == 1 else torch.allclose(a, b, atol=1e-4)


def test_apply_can_fold() -> None:
    """The option is that of `build`, and the passes that ran are in the report."""
    plan = with_frontier(PLAIN)
    names = [[record.name for record in applied(plan, fold=fold).report.passes] for fold in (False, True)]
    assert names[0] == ["steer-calls", "insert-gates", "bind-gates", "drop-dead-blocks"]
    assert names[1] == [*names[0], "fold-constants"]


# -- where a derived plan came from

OWN_FACTS = ("loss", "seconds", "seed", "full_runs", "curve", "start", "start_loss", "recipe", "samples")


@plain_and_split
def test_another_ratio_has_an_origin_of_its_own(key: Key) -> None:
    """Its name says what runs; what the search measured is that of the plan it is derived from."""
    plan = with_frontier(key)
    derived = at_ratio(plan, 0.7, cost(*key))
    assert derived.origin.keys() == {"name", "derived_from"}
    assert derived.origin["derived_from"] == plan.origin
    assert all(fact in plan.origin and fact not in derived.origin for fact in OWN_FACTS)
    # The name counts the calls of the point: what the budget leaves over may run at further steps.
    runs = next(point.runs for point in plan.frontier if derived.origin["name"].startswith(_name(point.runs)))
    assert all(derived.keep[step, -1] for step in runs[-1])
    assert derived.origin["name"] != plan.origin["name"]


def _name(runs: tuple[tuple[int, ...], ...]) -> str:
    return str(Placement(runs))


@plain_and_split
def test_another_step_count_has_an_origin_of_its_own(key: Key) -> None:
    """So it is for another number of steps, and for a ratio of that."""
    plan, other = with_frontier(key), (*key[:4], 5, key[5])
    moved = at_steps(plan, loop(*other).facts, 0.5, cost(*other))
    assert moved.origin == {"name": moved.origin["name"], "derived_from": plan.origin}
    assert "whole steps" in moved.origin["name"]
    again = at_ratio(moved, 0.7, cost(*other))
    assert again.origin["derived_from"] == plan.origin, "not of a plan in between, which measured nothing"


def test_another_step_count_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody should take a plan that was moved for one that was searched; a loop as it is loses nothing."""
    with caplog.at_level(logging.WARNING, logger="dipgo_fx"):
        applied(searched().plan)
        applied(searched().plan, num_inference_steps=STEPS + 2, ratio=0.0)
        assert "by noise level" not in caplog.text
        applied(searched().plan, num_inference_steps=STEPS + 2)
    assert f"searched at {STEPS} steps is placed at {STEPS + 2}" in caplog.text
    assert f"a search at {STEPS + 2} steps" in caplog.text


def test_thresholded_scores_have_an_origin_of_their_own() -> None:
    """A plan of the paper's recipe at another ratio says how it was made, and by what."""
    plan = searched(config=dipgo_fx.PaperConfig(iterations=4, width=32, samples=2)).plan
    derived = applied(plan, ratio=1 / 3).plan
    assert derived.origin == {
        "name": "scores thresholded at 0.333333, reuse",
        "derived_from": plan.origin,
    }
    assert derived.scores is not None
    assert plan.scores is not None
    assert torch.equal(derived.scores, plan.scores)


def test_a_derived_plan_says_so_in_its_report_and_file(tmp_path: Path) -> None:
    """The loss of another plan is nowhere to be taken for its own."""
    derived = applied(with_frontier(PLAIN), ratio=0.7)
    assert derived.report.origin == derived.plan.origin
    assert "loss" not in str(derived.report)
    derived.plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json").origin.keys() == {"name", "derived_from"}


def test_a_plan_by_hand_has_no_other_ratio() -> None:
    """It has neither a frontier nor scores, and says so."""
    graph = loop(*PLAIN)
    keep = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[1] = False
    by_hand = Plan.from_keep(graph, keep)
    with pytest.raises(PlanError, match="written by hand and has no scores"):
        applied(by_hand, ratio=0.5)
    with pytest.raises(PlanError, match="written by hand"):
        applied(by_hand, num_inference_steps=5)


def test_a_plan_at_its_own_ratio_is_that_plan() -> None:
    """One that was written by hand too, which has nothing for others."""
    graph = loop("dit")
    keep = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[2] = False
    written = Plan.from_keep(graph, keep)
    again = dipgo_fx.apply(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), written, ratio=written.ratio)
    assert again.plan.table == written.table
