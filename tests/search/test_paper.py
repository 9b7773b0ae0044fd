"""The paper's recipe: the pruner network, its gates, and plans thresholded from its scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import dipgo_fx
import zoo
from dipgo_fx import PaperConfig
from dipgo_fx.budget import TOLERANCE, reopen_by_score, threshold
from dipgo_fx.cost import LoopCost
from dipgo_fx.deriving import at_ratio
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.paper import mac_weights, thresholded, train_pruner
from dipgo_fx.search.pruner import Encoder, Pruner, straight_through
from loops import cost
from searches import case, quick, searched

TINY = PaperConfig(iterations=4, width=32, samples=2)

# -- the recipe


def test_the_recipe_trains_and_serves_every_ratio() -> None:
    """One training of the paper's pruner gives scores, and plans within budget at other ratios."""
    plan = searched(config=TINY).plan
    assert plan.scores is not None
    assert plan.history == 1
    assert plan.frontier == ()
    assert plan.origin["recipe"] == "PaperConfig"
    for ratio in (1 / 3, 2 / 3):  # what whole steps of six can reach
        other = dipgo_fx.apply(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), plan, ratio=ratio)
        assert -1e-9 <= other.plan.ratio - ratio < TOLERANCE
        assert other.report.after.total == dipgo_fx.count_macs(other).total


def test_closed_gates_may_forecast() -> None:
    """With linear backups two values are read, and the weights are those of a straight line."""
    plan = searched(config=PaperConfig(iterations=1, width=32, samples=2, backup="linear")).plan
    assert plan.history == 2
    assert plan.table == type(plan.table).of(plan.keep, "linear")


def test_training_is_reproducible() -> None:
    """The same seed gives the same scores; the global random state is left alone."""
    state = torch.get_rng_state()
    one, other = (quick(num_inference_steps=3, config=TINY).plan for _ in range(2))
    assert one.scores is not None
    assert other.scores is not None
    assert torch.equal(one.scores, other.scores)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("checkpoint", "runs"), [(True, 4), (False, 3)])
def test_a_gradient_step_is_paid_for(checkpoint: bool, runs: int) -> None:
    """Three runs of its samples, four where steps are recomputed; one entry of the curve each."""
    graph, batch = case("ddim", None, "dit", 3)
    config = PaperConfig(iterations=2, width=32, batch_size=2, checkpoint=checkpoint)
    judge = Evaluator(graph, LoopCost.of(graph), batch, config)
    trained = train_pruner(judge, config, zoo.generator(), progress=False)
    assert judge.budget.spent == pytest.approx(1 + 2 * runs * 2 / 3)
    assert len(judge.curve) == 2
    assert trained.scores.shape == (graph.num_steps, len(graph.blocks))
    assert bool(((trained.scores > 0) & (trained.scores < 1)).all())


def test_recomputation_changes_nothing() -> None:
    """Scores are the same with and without it, but for the rounding of gradients."""
    plans = [
        quick(num_inference_steps=3, config=PaperConfig(iterations=3, width=32, samples=2, checkpoint=flag))
        for flag in (True, False)
    ]
    torch.testing.assert_close(*(loop.plan.scores for loop in plans), rtol=0, atol=1e-5)


def test_sparsity_closes_gates_in_the_order_of_their_macs() -> None:
    """Gamma is what dies with a block; the head's gate kills the whole step, nothing kills more."""
    costs = cost("dit", "ddim", "block", None, 5)
    gamma = mac_weights(costs)
    (head,) = costs.reads.heads
    assert gamma.argmax() == head
    assert bool((gamma > 0).all())
    # What the blocks cost is all that a step costs, but for what is outside of them.
    assert 0.9 < gamma[head] <= 1


def test_thresholding_keeps_the_highest_scores() -> None:
    """Plain gates of `threshold`, evaluated."""
    graph, batch = case("ddim", None, "dit", 5)
    judge = Evaluator(graph, LoopCost.of(graph), batch, TINY)
    scores = torch.rand(graph.num_steps, len(graph.blocks), dtype=torch.float64, generator=zoo.generator())
    found = thresholded(judge, scores, 0.6, "reuse")
    assert torch.equal(found.table.keep, threshold(scores, 0.6, judge.cost, 1))
    assert found.table.history == 1
    assert judge.curve[-1][1] == found.loss < float("inf")


def test_a_budget_is_filled_if_asked_for() -> None:
    """The same scores give a plan nearer to the budget; the plan without is what it was."""
    options = {"iterations": 4, "width": 32, "samples": 2, "learning_rate": 10.0}
    short, exact = (
        quick(ratio=0.5, config=PaperConfig(**options, exact_fill=flag)).plan for flag in (False, True)
    )
    assert short.scores is not None
    assert exact.scores is not None
    assert exact.cost is not None
    assert torch.equal(short.scores, exact.scores)
    assert torch.equal(short.keep, threshold(short.scores, 0.5, exact.cost, 1))
    assert torch.equal(exact.keep, reopen_by_score(short.keep, short.scores, 0.5, exact.cost, 1))
    assert 0.5 - 1e-9 <= exact.ratio < short.ratio - 0.1
    scores, left = exact.scores, threshold(exact.scores, 0.3, exact.cost, 1)
    assert torch.equal(at_ratio(short, 0.7, exact.cost).keep, left)
    assert torch.equal(
        at_ratio(exact, 0.7, exact.cost).keep, reopen_by_score(left, scores, 0.3, exact.cost, 1)
    )


def test_gates_collapse_and_then_get_no_gradient() -> None:
    """At the rate for transformers a few steps close all: then only outputs of steps are still learnt.

    The notes tell of it: at first nothing is pruned, so that the loss is at its minimum.
    """
    config = PaperConfig(iterations=20, width=32, samples=2, learning_rate=10.0)
    plan = quick(num_inference_steps=6, granularity="stage", config=config).plan
    steps, opened, silent = zip(*plan.origin["gates"], strict=True)
    assert steps == tuple(range(20))
    assert (opened[0], silent[0]) == (1, 1)
    assert max(opened[1:]) < 0.5
    assert set(opened[5:]) == {0}
    # The gate of a step's last block decides whether the others are read.
    assert min(silent[5:]) >= 1 - 1 / len(plan.blocks) - 1e-4


@pytest.mark.parametrize(("iterations", "told"), [(3, [0, 1, 2]), (101, [*range(20), 50, 100])])
def test_notes_of_a_long_training_are_few(iterations: int, told: list[int]) -> None:
    """The first gradient steps, where gates close, and some of the others."""
    config = PaperConfig(iterations=iterations, width=16, samples=2, encoder="table", checkpoint=False)
    plan = quick(num_inference_steps=2, ratio=0.25, config=config).plan
    assert [row[0] for row in plan.origin["gates"]] == told
    assert all(0 <= share <= 1 for row in plan.origin["gates"] for share in row[1:])


def test_nonfinite_losses_stop_the_search() -> None:
    """A loss that becomes NaN ends the search with a reason, and so do samples that are it from the start."""
    config = PaperConfig(iterations=4, width=32, samples=2)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        quick(config=replace(config, learning_rate=1e38))
    with pytest.raises(FloatingPointError, match="NaN after decode"):
        quick(config=replace(config, decode=lambda x: x * float("nan")))


def test_one_step_has_nothing_to_learn(tmp_path: Path) -> None:
    """Its gates are open whatever the pruner says: no gradient step is made, and the plan can be saved."""
    plan = quick(ratio=0.0, num_inference_steps=1, config=TINY).plan
    assert plan.scores is not None
    assert bool((plan.scores == 1).all())
    assert (plan.ratio, plan.origin["gates"], plan.origin["kept_by_argmax"]) == (0, [], 1)
    plan.save(tmp_path / "plan.json")
    assert dipgo_fx.Plan.load(tmp_path / "plan.json") == plan


# -- the network


@pytest.mark.parametrize("encoder", ["attention", "linear", "table"])
def test_every_parameter_of_the_pruner_learns(encoder: Encoder) -> None:
    """The encoder really acts: after one step of descent all its parameters get gradients."""
    pruner = Pruner(3, 4, width=32, encoder=encoder, generator=zoo.generator())
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


def test_an_unknown_encoder_is_refused() -> None:
    """The error lists the encoders there are."""
    with pytest.raises(ValueError, match="'attention', 'linear' or 'table', got 'magic'"):
        Pruner(3, 4, encoder="magic")  # type: ignore[arg-type]


@pytest.mark.parametrize("encoder", ["attention", "linear", "table"])
def test_every_gate_starts_open(encoder: Encoder) -> None:
    """With the probability that the docstring says, whatever the seed."""
    probabilities = Pruner(3, 4, width=32, encoder=encoder, generator=zoo.generator())().softmax(-1)[..., 1]
    torch.testing.assert_close(probabilities, torch.full((3, 4), 0.731), rtol=0, atol=1e-3)


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
