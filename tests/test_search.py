"""Searches: exact budgets, never worse than a uniform plan, reproducible, and the model left as found."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dipgo_fx
import zoo
from dipgo_fx import PruneConfig
from dipgo_fx.api import build
from dipgo_fx.arena import Arena, Draft
from dipgo_fx.calibration import calibrate
from dipgo_fx.losses import consistency_loss, ssim
from dipgo_fx.macs import LoopCost
from dipgo_fx.plan import Plan, backup_weights
from dipgo_fx.pruner import Pruner, straight_through
from dipgo_fx.schedules import filled, keep_table, most_steps, step_sets, whole
from dipgo_fx.threshold import TOLERANCE

QUICK = PruneConfig(samples=4, batch_size=2, full_runs=6)


def quick(name: str = "dit", ratio: float = 0.5, **options: object) -> dipgo_fx.Loop:
    """Prune a tiny model with a tiny search."""
    settings_: dict[str, object] = {
        "num_inference_steps": 6,
        "config": QUICK,
        "progress": False,
        "generator": zoo.generator(5),
        **options,
    }
    return dipgo_fx.prune(zoo.model(name), zoo.SCHEDULERS["ddim"](), ratio, **settings_)  # type: ignore[arg-type]


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ratio=st.sampled_from([0.0, 0.3, 0.5, 0.75]), name=st.sampled_from(["dit", "unet"]))
def test_budget_is_exact(caplog: pytest.LogCaptureFixture, ratio: float, name: str) -> None:
    """Law 5: a search never exceeds its budget; it misses it by less than the tolerance or says why."""
    caplog.clear()
    loop = quick(name, ratio)
    assert ratio <= loop.plan.ratio + 1e-12
    missed = loop.plan.ratio - ratio >= TOLERANCE
    assert missed == ("would cost more than what is left" in caplog.text)
    assert not missed or name == "dit"  # three blocks and six steps are coarse; the U-Net is not
    assert loop.report.after.total == dipgo_fx.count_macs(loop).total


def test_ratio_zero_is_the_traced_loop() -> None:
    """Law 3: nothing removed, nothing changed."""
    x, inputs = zoo.sample("dit"), zoo.conditioning("dit")
    expected = zoo.eager("dit", zoo.SCHEDULERS["ddim"](), 6, x, inputs)
    with torch.no_grad():
        assert torch.equal(quick(ratio=0.0)(x, **inputs), expected)


def test_same_seed_same_plan() -> None:
    """Law 8: the same seed gives the same plan, and no global random state is touched."""
    state = torch.get_rng_state()
    first, second = quick().plan, quick().plan
    assert torch.equal(first.keep, second.keep)
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["dit", "unet"])
def test_no_uniform_plan_is_better(name: str) -> None:
    """The default recipe returns nothing that a uniform plan of equal MACs beats on the calibration."""
    model, scheduler = zoo.model(name), zoo.SCHEDULERS["ddim"]()
    loop = dipgo_fx.trace(model, scheduler, 6)
    cost = LoopCost.of(loop)
    plan = quick(name).plan
    batch = calibrate(loop, model, None, QUICK.samples, 1.0, zoo.generator(5))
    arena = Arena(loop, cost, batch, QUICK, zoo.generator(0))
    found = arena.judged(Draft(plan.keep, plan.weights))
    assert found.loss == pytest.approx(plan.origin["loss"], rel=1e-6)
    for backup, order, by_step in [("reuse", 1, False), ("linear", 2, False), ("linear", 3, True)]:
        for steps in step_sets(6, most_steps(cost, (), 0.5, order)[-1]):
            keep = torch.tensor(filled(keep_table(cost, whole(steps, cost)), 0.5, cost, order, by_step))
            uniform = arena.judged(Draft(keep, backup_weights(keep, backup)))
            assert found.loss <= uniform.loss * (1 + 1e-6)


def test_search_cost_is_kept() -> None:
    """The default recipe spends about what it may, at most 24 full runs by default."""
    assert quick().plan.origin["full_runs"] <= QUICK.full_runs * 1.2
    assert PruneConfig().full_runs <= 24


def test_candidates_rank_by_loss_and_looks() -> None:
    """Loss times 1 - SSIM for images, the loss alone for other samples."""
    graph = dipgo_fx.trace(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), 3)
    batch = calibrate(graph, zoo.model("dit"), None, 2, 1.0, zoo.generator(5))
    keep = torch.tensor([[True] * len(graph.blocks), *[[False] * len(graph.blocks)] * 2])
    draft = Draft(keep, backup_weights(keep, "reuse"))
    for decode, unlikeness in ((None, None), (lambda samples: samples.flatten(2), 1.0)):
        config = PruneConfig(samples=2, decode=decode)
        judged = Arena(graph, LoopCost.of(graph), batch, config, zoo.generator()).judged(draft)
        if unlikeness is None:
            result = build(graph, Plan.from_keep(graph, keep))
            unlikeness = 1 - ssim(batch.run(result), batch.target).item()
        assert judged.unlikeness == pytest.approx(unlikeness)
        assert judged.rank == judged.loss * judged.unlikeness


def test_paper_recipe_trains_and_serves_every_ratio() -> None:
    """One training of the paper's pruner gives scores, and plans within budget at other ratios."""
    config = PruneConfig.paper(iterations=4, width=32, samples=2)
    loop = quick(config=config, backup="reuse")
    assert loop.plan.scores is not None
    assert loop.plan.order == 1
    for ratio in (1 / 3, 2 / 3):  # what whole steps of six can reach
        other = dipgo_fx.apply(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), loop.plan, ratio=ratio)
        assert -1e-9 <= other.plan.ratio - ratio < TOLERANCE
        assert other.report.after.total == dipgo_fx.count_macs(other).total


def test_scores_give_the_plan_back() -> None:
    """Thresholding the default recipe's scores at its own ratio gives its own keep table."""
    plan = quick().plan
    again = dipgo_fx.apply(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), plan, ratio=plan.ratio)
    assert torch.equal(
        again.report.live, dipgo_fx.apply(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), plan).report.live
    )


def test_model_is_left_as_found() -> None:
    """Weights, gradients, modes and hooks survive a search; a training model stays in training mode."""
    model = copy.deepcopy(zoo.model("dit")).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    dipgo_fx.prune(model, zoo.SCHEDULERS["ddim"](), 0.5, num_inference_steps=4, config=QUICK, progress=False)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(("ratio", "match"), [(1.0, r"\[0, 1\)"), (-0.1, r"\[0, 1\)"), (0.95, "at most 0.8")])
def test_bad_ratios_are_refused(ratio: float, match: str) -> None:
    """A ratio out of range, or out of reach with its largest reachable one, is named."""
    with pytest.raises(ValueError, match=match):
        quick(ratio=ratio)


def test_bad_calibration_is_refused() -> None:
    """Wrong names, shapes and row counts are named."""
    with pytest.raises(ValueError, match="labels"):
        quick(calibration={"labels": torch.zeros(4)})
    with pytest.raises(ValueError, match="class_labels"):
        quick(calibration={"class_labels": torch.zeros(4, 2)}, conditioning=zoo.conditioning("dit", 1))
    with pytest.raises(ValueError, match="3 rows"):
        quick(calibration={"class_labels": torch.zeros(3, dtype=torch.int64)}, guidance_scale=2.0)
    with pytest.raises(ValueError, match="empty"):
        quick(calibration=[])


def test_calibration_may_be_an_iterable() -> None:
    """A generator of mappings is joined row by row."""
    rows = ({"class_labels": torch.tensor([label])} for label in range(4))
    assert quick(calibration=rows).plan.ratio >= 0.5


def test_text_models_without_calibration_warn(caplog: pytest.LogCaptureFixture) -> None:
    """A text-conditional model without calibration gets a warning that says what to pass."""
    with caplog.at_level(logging.WARNING, logger="dipgo_fx"):
        quick("unet-text", 0.0)
    assert "calibration={'encoder_hidden_states'" in caplog.text


def test_guidance_keeps_both_halves() -> None:
    """With guidance a pruned loop takes two rows a sample and any batch size."""
    loop = quick(guidance_scale=2.0)
    assert loop.facts.split_guidance
    with torch.no_grad():
        for batch in (1, 3):
            result = loop(zoo.sample("dit", batch), **zoo.conditioning("dit", 2 * batch))
            assert result.shape[0] == batch


@pytest.mark.parametrize(
    ("ratio", "options"),
    [
        (0.0, {}),
        (0.5, {"granularity": "stage"}),
        (0.5, {"split_guidance": False}),
        (0.5, {"config": PruneConfig.paper(iterations=1, width=32, samples=2)}),
    ],
    ids=["nothing to remove", "stage", "asked for", "paper"],
)
def test_guidance_is_split_only_where_that_helps(ratio: float, options: dict[str, Any]) -> None:
    """A loop that stays whole, the paper's recipe and stages call the model as pipelines do."""
    assert not quick("unet", ratio, guidance_scale=2.0, **options).facts.split_guidance


def test_nonfinite_models_are_refused() -> None:
    """Weights that give NaN are named before any search."""
    model = copy.deepcopy(zoo.model("dit"))
    with torch.no_grad():
        next(model.proj_out_2.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        dipgo_fx.prune(model, zoo.SCHEDULERS["ddim"](), 0.5, num_inference_steps=3, progress=False)


def test_nonfinite_losses_stop_the_search() -> None:
    """A loss that becomes NaN ends the search with a reason."""
    config = PruneConfig.paper(iterations=2, width=32, samples=2, decode=lambda x: x * float("nan"))
    with pytest.raises(FloatingPointError, match="learning_rate"):
        quick(config=config)


@pytest.mark.parametrize(
    "option", [{"recipe": "magic"}, {"samples": 1}, {"full_runs": 0.0}, {"tau": 1.0}, {"width": 30}]
)
def test_bad_options_are_refused(option: dict[str, object]) -> None:
    """Every option has a legal range."""
    with pytest.raises(ValueError, match=next(iter(option))):
        PruneConfig(**option)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoder", ["attention", "linear", "table"])
def test_every_parameter_of_the_pruner_learns(encoder: str) -> None:
    """The encoder really acts: after one step of descent all its parameters get gradients."""
    pruner = Pruner(3, 4, width=32, encoder=encoder, generator=zoo.generator())  # type: ignore[arg-type]
    target = torch.rand(3, 4, generator=zoo.generator())
    optimizer = torch.optim.SGD(pruner.parameters(), lr=0.5)
    for _ in range(2):  # the last layer starts at zero and lets gradients through after one step
        optimizer.zero_grad()
        (straight_through(pruner()) * target).sum().backward()
        optimizer.step()
    for name, parameter in pruner.named_parameters():
        silent = name.endswith("in_proj_bias")  # the key's bias cancels in the softmax
        assert parameter.grad is not None
        assert silent or parameter.grad.abs().sum() > 0, name


def test_straight_through_gates_are_hard() -> None:
    """Gates are 0 or 1, the first step is always kept, and gradients are the softmax's."""
    logits = torch.randn(3, 4, 2, generator=zoo.generator()).requires_grad_()
    gates = straight_through(logits)
    assert set(gates.detach().unique().tolist()) <= {0.0, 1.0}
    assert bool((gates[0] == 1).all())
    gates.sum().backward()
    soft = logits.detach().softmax(-1)[..., 1]
    torch.testing.assert_close(logits.grad[1:, :, 1], (soft * (1 - soft))[1:])


def test_attention_mixes_the_gates_of_a_step() -> None:
    """A gate's logits depend on the other queries of its step, and of its step only."""
    pruner = Pruner(2, 3, width=32, generator=zoo.generator())
    with torch.no_grad():
        pruner.outer.normal_(generator=zoo.generator(1))
    pruner()[0, 0].sum().backward()
    touched = pruner.queries.grad.abs().sum(-1) > 0
    assert touched.tolist() == [[True] * 3, [False] * 3]


def test_losses_are_zero_for_equal_images() -> None:
    """Every consistency loss is 0 for equal inputs and positive for others."""
    images = torch.rand(2, 1, 8, 8, generator=zoo.generator())
    for kind in ("ssim", "l1", "l2", "l1+ssim", "l2+ssim"):
        loss = consistency_loss(kind)  # type: ignore[arg-type]
        assert loss(images, images).item() == pytest.approx(0, abs=1e-6)
        assert loss(images, images.flip(0)).item() > 0.01
    with pytest.raises(ValueError, match="lpips"):
        consistency_loss("lpips")  # type: ignore[arg-type]


def test_ssim_agrees_with_the_definition() -> None:
    """Constant images of means a and b have SSIM (2ab + C1) / (a² + b² + C1)."""
    a, b = torch.full((1, 1, 16, 16), 0.3), torch.full((1, 1, 16, 16), 0.6)
    expected = (2 * 0.18 + 1e-4) / (0.09 + 0.36 + 1e-4)
    assert ssim(a, b).item() == pytest.approx(expected, rel=1e-4)


def test_plans_of_another_loop_are_refused() -> None:
    """A plan for another model or scheduler is refused with both names."""
    plan = quick().plan
    with pytest.raises(dipgo_fx.PlanError, match=r"DiTTransformer2DModel.*UNet2DModel"):
        dipgo_fx.apply(zoo.model("unet"), zoo.SCHEDULERS["ddim"](), plan)
    with pytest.raises(dipgo_fx.PlanError, match=r"DDIMScheduler.*HeunDiscreteScheduler"):
        dipgo_fx.apply(zoo.model("dit"), zoo.SCHEDULERS["heun"](), plan)
    other = dipgo_fx.trace(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), 5)
    with pytest.raises(dipgo_fx.PlanError, match=r"num_inference_steps=6.*num_inference_steps=5"):
        build(other, plan)


def test_folding_is_exact_for_one_sample_and_close_for_more() -> None:
    """Folded time embeddings equal the computed ones at batch 1, to rounding elsewhere."""
    model, scheduler = zoo.model("unet-text"), zoo.SCHEDULERS["ddim"]()
    plan = quick("unet-text", 0.5).plan
    plain = dipgo_fx.apply(model, scheduler, plan)
    folded = dipgo_fx.apply(model, scheduler, plan, fold=True)
    assert not any("time_embedding" in str(n.target) for n in folded.graph.nodes)
    assert any("time_embedding" in str(n.target) for n in plain.graph.nodes)
    with torch.no_grad():
        for batch in (1, 3):
            x, inputs = zoo.sample("unet-text", batch), zoo.conditioning("unet-text", batch)
            a, b = plain(x, **inputs), folded(x, **inputs)
            assert torch.equal(a, b) if batch == 1 else torch.allclose(a, b, atol=1e-4)
