"""The paper's recipe on its blocks, and its scores put to other use."""

from __future__ import annotations

import pytest
import torch

from benchmarks.cases import CALIBRATION, Case
from benchmarks.plans import PAPER_EXACT, PAPER_OUR_WEIGHTS, PAPER_STEPS, Effort, PlanMethod, compiled
from benchmarks.plans.papers_blocks import (
    LEARNING_RATES,
    forecast_tables,
    learned_steps,
    on_our_blocks,
    output_block,
)
from benchmarks.quality.offers import spent_on
from dipgo_fx import Plan
from dipgo_fx.budget import TOLERANCE
from dipgo_fx.cost import LoopCost

STEPS, EFFORT = 12, Effort(2.0, paper_iterations=3)


@pytest.fixture(scope="module")
def case() -> Case:
    """A case whose trainings take seconds, and are shared."""
    return Case("digits-dit", STEPS, samples=4)


@pytest.mark.parametrize("method", [PAPER_EXACT, PAPER_STEPS, PAPER_OUR_WEIGHTS], ids=lambda m: m.name)
def test_budgets_are_filled_and_the_sweep_is_paid_for(case: Case, method: PlanMethod) -> None:
    """By every method as if it had made all trainings itself: three, each of four runs a gradient step."""
    for ratio in (0.5, 0.7):
        found = method.find(case, ratio, EFFORT)
        assert ratio - 1e-9 <= found.plan.ratio < ratio + TOLERANCE
        assert compiled(case, found.plan).report.after.total <= (1 - ratio) * case.full.total + 1
        trainings = len(LEARNING_RATES) * (16 + 4 * EFFORT.paper_iterations) / CALIBRATION
        assert found.full_runs > trainings + case.samples / CALIBRATION
        seconds = sum(plan.origin["seconds"] for plan in case.trained.values())
        spent = spent_on(case, found, 0.0)
        assert spent.full_runs == found.full_runs
        assert spent.seconds >= seconds
        assert found.samples == case.samples
    assert len(case.trained) == len(LEARNING_RATES)


def test_the_output_head_has_no_gate(case: Case) -> None:
    """The paper's blocks are those of the transformer; ours have the head beside them."""
    plan = PAPER_EXACT.find(case, 0.5, EFFORT).plan
    assert plan.history == 1
    assert plan.blocks == case.loop().blocks[:-1]
    assert output_block(LoopCost.of(case.loop_of(plan))) == len(plan.blocks) - 1


@pytest.mark.parametrize("name", ["digits-dit", pytest.param("digits-unet", marks=pytest.mark.long)])
def test_a_mask_is_the_same_on_our_blocks(name: str) -> None:
    """Parts of a block do as it does, the head as the block next to the output: no MAC more is spent."""
    case = Case(name, 5, samples=2)
    stages = case.loop("stage")
    random = torch.Generator().manual_seed(0)
    keep = torch.rand(stages.num_steps, len(stages.blocks), generator=random) < 0.7
    keep[0] = True
    plan = Plan.from_keep(stages, keep)
    evaluator = case.evaluator()
    ours = on_our_blocks(plan, LoopCost.of(stages), evaluator)
    (head,) = evaluator.cost.reads.heads
    assert torch.equal(ours[:, head], keep[:, output_block(LoopCost.of(stages))])
    for n, block in enumerate(plan.blocks):
        columns = [i for i, path in enumerate(evaluator.loop.blocks) if f"{path}.".startswith(f"{block}.")]
        assert columns
        assert all(torch.equal(ours[:, i], keep[:, n]) for i in columns)
    assert evaluator.cost.of_table(forecast_tables(ours, [head])["repeated"]).total <= (
        LoopCost.of(stages).of_table(plan.table).total
    )


def test_fitted_weights_are_closer_than_repeats(case: Case) -> None:
    """On the calibration samples, of the same mask."""
    batch = case.evaluator().batch

    def error(method: PlanMethod) -> float:
        with torch.no_grad():
            result = batch.run(compiled(case, method.find(case, 0.5, EFFORT).plan))
        return float((result - batch.target).square().mean())

    assert error(PAPER_OUR_WEIGHTS) < error(PAPER_EXACT)


def test_learned_steps_are_those_of_the_highest_scores(case: Case) -> None:
    """Of the block next to the output; the next best step runs in part, the others not at all."""
    costs = LoopCost.of(case.loop("stage"))
    last, shape = output_block(costs), (costs.num_steps, costs.num_blocks)
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores[1:, last] = torch.linspace(0, 1, STEPS - 1, dtype=torch.float64)
    keep = learned_steps(scores, 0.45, costs)
    running = costs.reads.liveness_at_most(keep, 1).running.sum(1).tolist()
    whole = [step for step, count in enumerate(running) if count == shape[1]]
    assert whole == [0, *range(STEPS - len(whole) + 1, STEPS)]
    assert [step for step, count in enumerate(running) if count] == [0, *range(STEPS - len(whole), STEPS)]
    fifty = costs.with_steps(50)
    assert int(learned_steps(torch.rand(50, shape[1]), 0.2, fifty).any(1).sum()) == 10, (
        "the paper's ten of fifty"
    )
    assert torch.equal(learned_steps(torch.zeros(shape), 0.45, costs)[:3].any(1), torch.tensor([True] * 3))
