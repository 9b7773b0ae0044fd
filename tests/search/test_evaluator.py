"""Where candidates are judged: what a loss is, what it costs, and what runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dipgo_fx import PaperConfig, PruneConfig
from dipgo_fx.applying import build
from dipgo_fx.cost import LoopCost
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.config import Config
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.losses import Consistency, consistency_loss, ssim
from searches import candidate, case, plan_of


def _evaluator(config: Config | None = None) -> Evaluator:
    graph, batch = case("ddim", None, "dit", 3)
    return Evaluator(graph, LoopCost.of(graph), batch, config or PruneConfig())


def _found() -> Candidate:
    return candidate(case("ddim", None, "dit", 3)[0], (0, 2), 2)


@torch.no_grad()
def _samples(found: Candidate) -> torch.Tensor:
    """Return what the SubNet of a candidate makes of the calibration samples."""
    graph, batch = case("ddim", None, "dit", 3)
    return batch.run(build(graph, plan_of(graph, found.table.keep, found.table.weights)))


@pytest.mark.parametrize("kind", ["l2", "ssim", "l1+ssim"])
def test_a_loss_is_that_of_the_subnet(kind: Consistency) -> None:
    """A candidate is judged by what its SubNet makes of the calibration samples."""
    judge, found = _evaluator(PruneConfig(loss=kind)), _found()
    judged, target = judge.evaluate(found), judge.batch.target
    assert judged.loss == consistency_loss(kind)(_samples(found), target).item()
    assert judged.unlikeness == 1 - ssim(_samples(found), target).item()
    assert judged == replace(found, loss=judged.loss, unlikeness=judged.unlikeness)


def test_losses_see_decoded_samples() -> None:
    """What is no image after decoding has no likeness, and counts by its loss alone."""
    config = PruneConfig(decode=lambda samples: 2 * samples.flatten(2))
    judged = _evaluator(config).evaluate(_found())
    assert judged.loss == pytest.approx(4 * _evaluator().evaluate(_found()).loss)
    assert judged.unlikeness == 1.0
    assert judged.rank == judged.loss


def test_what_is_not_finite_is_infinitely_far() -> None:
    """A plan whose samples overflow is the worst of all, not an error."""
    wild = _found().with_weights(torch.full_like(_found().table.weights, 1e30))
    judged = _evaluator().evaluate(wild)
    assert (judged.loss, judged.unlikeness) == (float("inf"), 1.0)


def test_runs_are_charged_by_what_they_cost() -> None:
    """The targets are one run; a candidate is its share of MACs of one, on some samples a share of that."""
    judge, found = _evaluator(), _found()
    kept = judge.cost.kept(found.table)
    assert judge.budget.spent == 1.0
    judge.evaluate(found)
    judge.evaluate(found, judge.batch.first(1))
    assert judge.budget.spent == pytest.approx(1 + kept + kept / 3)
    spent = judge.budget.spent
    judge.with_loss(found, _samples(found), judge.batch)
    assert judge.budget.spent == spent


def test_the_curve_holds_evaluations_on_all_samples() -> None:
    """Losses on a few samples do not compare with them."""
    judge, found = _evaluator(), _found()
    judged = judge.evaluate(found)
    judge.evaluate(found, judge.batch.first(1))
    assert judge.curve == [(pytest.approx(1 + judge.cost.kept(found.table)), judged.loss)]


def test_learned_weights_are_the_subnets() -> None:
    """A net whose weights are an input gives what the SubNet with these weights gives."""
    judge, found = _evaluator(), _found()
    with torch.no_grad():
        result = judge.batch.run(judge.learnable(found), weights=found.table.weights.float())
        assert torch.equal(result, judge.batch.run(judge.subnet(found.table)))


@pytest.mark.parametrize(("config", "chunk"), [(PruneConfig(chunk=2), 2), (PaperConfig(batch_size=3), 3)])
def test_chunks_are_those_of_the_config(config: Config, chunk: int) -> None:
    """In the paper's recipe they are as large as the samples of a gradient step."""
    assert _evaluator(config).chunks.size == chunk
