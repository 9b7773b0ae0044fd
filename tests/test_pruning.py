"""`prune` from end to end: exact budgets, reproducible, and the model left as found."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torch import nn

import dipgo_fx
import zoo
from dipgo_fx import PaperConfig
from dipgo_fx.budget import TOLERANCE
from dipgo_fx.frozen import frozen
from loops import run
from searches import QUICK, STEPS, quick, searched, thinned


@pytest.mark.parametrize(
    ("name", "ratio"),
    thinned(
        [(name, ratio) for name in ("dit", "unet") for ratio in (0.0, 0.3, 0.5, 0.75)],
        [("dit", 0.0), ("dit", 0.3), ("dit", 0.75), ("unet", 0.75)],
    ),
)
def test_budget_is_exact(caplog: pytest.LogCaptureFixture, name: str, ratio: float) -> None:
    """Law 5: a search never exceeds its budget; it misses it by less than the tolerance or says why.

    What is left is then less than a step: blocks that bring samples no nearer are not worth it.
    """
    with caplog.at_level(logging.WARNING, logger="dipgo_fx"):
        loop = quick(name, ratio)
    assert ratio <= loop.plan.ratio + 1e-12
    missed = loop.plan.ratio - ratio >= TOLERANCE
    assert missed == ("no better plan is at hand that fits the budget more closely" in caplog.text)
    assert loop.plan.ratio - ratio < 1 / STEPS
    assert loop.report.after.total == dipgo_fx.count_macs(loop).total


def test_ratio_zero_is_the_traced_loop() -> None:
    """Law 3: nothing removed, nothing changed."""
    x, inputs = zoo.sample("dit"), zoo.conditioning("dit")
    expected = zoo.eager("dit", zoo.SCHEDULERS["ddim"](), STEPS, x, inputs)
    assert torch.equal(run(searched(ratio=0.0), x, inputs), expected)


def test_ratio_zero_is_the_traced_loop_also_where_all_plans_look_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SSIM in single precision is 1 for samples that are close."""
    monkeypatch.setattr("dipgo_fx.search.evaluator.ssim", lambda *_: torch.ones(()))
    assert quick(ratio=0.0).plan.ratio == 0


def test_same_seed_same_plan() -> None:
    """Law 8: the same seed gives the same plan, and no global random state is touched."""
    state = torch.get_rng_state()
    first, second = searched().plan, quick().plan
    assert first.table == second.table
    assert first.frontier == second.frontier
    assert first.facts == second.facts
    assert {**first.origin, "seconds": 0} == {**second.origin, "seconds": 0}
    assert torch.equal(torch.get_rng_state(), state)


def test_what_a_scheduler_did_before_does_not_matter() -> None:
    """Euler's scales noise by its largest sigma, which depends on how many steps it has."""
    used = EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1)
    fresh = copy.deepcopy(used)
    used.set_timesteps(50)
    plans = [
        dipgo_fx.prune(
            zoo.model("dit"), scheduler, 0.5, num_inference_steps=3, config=QUICK, progress=False
        ).plan
        for scheduler in (fresh, used)
    ]
    assert plans[0].table == plans[1].table
    assert plans[0].origin["loss"] == plans[1].origin["loss"]


def test_a_seed_left_out_is_a_seed() -> None:
    """Without a generator two searches find the same plan; it is not the generator's mood that decides."""
    plans = [quick(ratio=0.3, num_inference_steps=3, generator=None).plan for _ in range(2)]
    assert plans[0].table == plans[1].table
    assert plans[0].origin["seed"] == plans[1].origin["seed"] == 0


@pytest.mark.parametrize("grad", [True, False])
def test_the_callers_gradient_mode_is_left_alone(grad: bool) -> None:
    """A search needs gradients or does without; who calls it under `no_grad` finds that unchanged."""
    config = PaperConfig(iterations=1, width=32, samples=2)
    with torch.set_grad_enabled(grad):
        quick(num_inference_steps=3, config=config)
        assert torch.is_grad_enabled() == grad


def test_model_is_left_as_found() -> None:
    """Weights, gradients, modes and hooks survive a search; a training model stays in training mode."""
    model = copy.deepcopy(zoo.model("dit")).train()
    model.transformer_blocks[0].eval()
    model.proj_out_1.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    scheduler = zoo.SCHEDULERS["ddim"]()
    config = copy.deepcopy(vars(scheduler))
    dipgo_fx.prune(model, scheduler, 0.5, num_inference_steps=3, config=QUICK, progress=False)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert str(vars(scheduler)) == str(config)


def test_a_model_is_thawed_after_an_error() -> None:
    """However a search ends, modes and gradients are as before."""
    model = copy.deepcopy(zoo.model("dit")).train()

    def fail() -> None:
        with frozen(model):
            assert not any(parameter.requires_grad for parameter in model.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("ratio", "match"),
    [(1.0, r"\[0, 1\)"), (-0.1, r"\[0, 1\)"), (float("nan"), r"\[0, 1\)"), (0.95, "at most 0.8")],
)
def test_bad_ratios_are_refused(ratio: float, match: str) -> None:
    """A ratio out of range, or out of reach with its largest reachable one, is named."""
    with pytest.raises(ValueError, match=match):
        quick(ratio=ratio)


def test_how_a_gate_closes_is_an_option_of_the_papers_recipe() -> None:
    """The default recipe fits what closed gates read; there is nothing to choose."""
    with pytest.raises(TypeError, match="backup"):
        quick(backup="reuse")


def test_guidance_keeps_both_conditions() -> None:
    """With guidance a pruned loop takes two rows a sample and any batch size."""
    loop = quick(guidance_scale=2.0)
    assert loop.facts.guidance.split
    for batch in (1, 3):
        result = run(loop, zoo.sample("dit", batch), zoo.conditioning("dit", 2 * batch))
        assert result.shape[0] == batch
        assert result.isfinite().all()


@pytest.mark.parametrize(
    ("ratio", "options"),
    [
        (0.0, {}),
        (0.5, {"granularity": "stage"}),
        (0.5, {"split_guidance": False}),
        (0.5, {"config": PaperConfig(iterations=1, width=32, samples=2)}),
    ],
    ids=["nothing to remove", "stage", "asked for", "paper"],
)
def test_guidance_is_split_only_where_that_helps(ratio: float, options: dict[str, Any]) -> None:
    """A loop that stays whole, the paper's recipe and stages call the model as pipelines do."""
    given = {"guidance_scale": 2.0, "num_inference_steps": 3, **options}
    assert not quick("unet", ratio, **given).facts.guidance.split


def test_a_plan_says_what_its_search_did() -> None:
    """Its origin has all that is needed to do it again, and what came of it."""
    plan = searched().plan
    assert plan.origin["seed"] == zoo.generator(5).initial_seed()
    assert plan.origin["loss_kind"] == QUICK.loss
    assert {*plan.origin["versions"]} == {"dipgo-fx", "torch", "diffusers"}
    assert plan.origin["curve"][-1][0] <= plan.origin["full_runs"] + 0.01
    assert plan.cost is not None
    assert plan.ratio == 1 - plan.cost.kept(plan.table)


def test_a_model_that_would_drop_values_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Its plan was searched without that."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    for mode, times in ((False, 0), (True, 1)):
        caplog.clear()
        with frozen(model.train(mode)):
            assert not any(module.training for module in model.modules())
        assert caplog.text.count("drops values at random") == times
        assert model[1].training == mode
