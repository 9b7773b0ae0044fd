"""Calmer weights after the last running step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dipgo_fx.passes import Steering
from dipgo_fx.search.damp_tail import SLACK, damp_tail
from searches import candidate, evaluator_of, turning

KEY = ("dit", "ddim", "block", None, 7)


def test_a_calm_end_looks_better_or_stays() -> None:
    """Weights change after the last running step only, towards repeating; SSIM rises, the loss stays near."""
    judge = evaluator_of(KEY, 4)
    (head,) = judge.cost.reads.heads
    found = candidate(judge.loop, (0, 2, 4))
    weights = found.table.weights.clone()
    weights[5:, head] = torch.tensor([3.0, -1.5, -0.5], dtype=torch.float64)
    wild = judge.evaluate(found.with_weights(weights))
    for most in (1e9, wild.loss, 0.0):
        before = judge.budget.spent
        calm = damp_tail(judge, wild, most=most)
        assert judge.budget.spent - before == pytest.approx(judge.cost.kept(wild.table)), "one run for all"
        again = judge.evaluate(calm)
        torch.testing.assert_close(again.loss, calm.loss)
        torch.testing.assert_close(again.unlikeness, calm.unlikeness)
        assert calm.loss <= min(most, SLACK * wild.loss) or calm.table == wild.table
        assert torch.equal(calm.table.weights[:5], wild.table.weights[:5])
        assert calm.unlikeness <= wild.unlikeness
    assert damp_tail(judge, wild).table != wild.table


def test_a_steered_end_calms_as_a_whole() -> None:
    """What a skipped call takes of the sample goes with its weights; what came before the end stays."""
    judge = evaluator_of(KEY, 4)
    steering = judge.steering(((0, 2, 4),))
    assert steering is not None
    mix, (head,) = steering.mix.clone(), judge.cost.reads.heads
    mix[[1, 3, 5, 6], 0, 0] = torch.tensor([0.02, 0.02, -0.05, 0.05], dtype=torch.float64)
    found = replace(candidate(judge.loop, (0, 2, 4)), steering=Steering(steering.told, mix))
    weights = found.table.weights.clone()
    weights[5:, head] = torch.tensor([3.0, -1.5, -0.5], dtype=torch.float64)
    wild = judge.evaluate(found.with_weights(weights))
    calm = damp_tail(judge, wild)
    assert calm.steering is not None
    assert calm.unlikeness < wild.unlikeness
    torch.testing.assert_close(calm.steering.mix[:5], mix[:5], rtol=1e-6, atol=0)
    assert (calm.steering.mix[5:, 0, 0].abs() < mix[5:, 0, 0].abs()).all()
    assert judge.evaluate(calm).loss == pytest.approx(calm.loss)


def test_an_end_that_runs_stays() -> None:
    """Where the last step runs there is nothing to calm, and nothing is charged."""
    judge = evaluator_of(KEY, 4)
    runs_last = judge.evaluate(candidate(judge.loop, (0, 2, 6)))
    before = judge.budget.spent
    assert damp_tail(judge, runs_last) is runs_last
    assert judge.budget.spent == before


def test_samples_that_are_no_images_stay() -> None:
    """SSIM says nothing of them."""
    _, _, judge = turning(3)
    found = judge.evaluate(candidate(judge.loop, (0, 2, 3)))
    assert damp_tail(judge, found) is found
