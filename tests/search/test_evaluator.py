"""Where candidates are judged: what a loss is, what it costs, and what runs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import fx, nn

import toy
import zoo
from dipgo_fx import PaperConfig, Plan, PruneConfig
from dipgo_fx.applying import build
from dipgo_fx.cost import LoopCost
from dipgo_fx.passes import GateTable, Steering
from dipgo_fx.passes.tags import tag
from dipgo_fx.search.calibration import calibrate
from dipgo_fx.search.candidate import Candidate
from dipgo_fx.search.config import Config
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.losses import Consistency, consistency_loss, ssim
from dipgo_fx.search.sensitivity import whole_steps_candidate
from graphs import Embedded
from loops import calls
from searches import Recording, candidate, case, evaluator, plan_of, quick


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


def test_samples_that_decode_to_nothing_end_the_search() -> None:
    """At once, with the reason, and not as something that calls cannot be told."""
    config = PruneConfig(samples=4, full_runs=6, decode=lambda samples: samples * math.nan)
    with pytest.raises(FloatingPointError, match="NaN after decode"):
        quick(config=config)


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
    judge = _evaluator()
    judged = judge.evaluate(wild)
    assert (judged.loss, judged.unlikeness) == (float("inf"), 1.0)
    assert judge.curve == [], "it is written down, and no file holds infinities"


def test_samples_of_a_finite_loss_have_a_rank() -> None:
    """Also where the products within SSIM overflow: nothing compares with NaN."""
    judged = _evaluator(PruneConfig(decode=lambda samples: 1e12 * samples)).evaluate(_found())
    assert judged.unlikeness == 1.0
    assert judged.rank == judged.loss < float("inf")


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


# -- steered calls


def _parts(judge: Evaluator, found: Candidate) -> list[fx.GraphModule]:
    """Return the steps of a candidate's learnable net."""
    return [part for part in judge.learnable(found).children() if isinstance(part, fx.GraphModule)]


@pytest.mark.parametrize(
    ("scheduler", "guidance_scale", "model", "split"),
    [
        ("ddim", None, "dit", False),
        ("euler-a", 3.0, "dit", True),
        ("dpm++", 3.0, "dit", False),
        ("pndm", None, "dit", False),
        ("heun", None, "unet", False),
        ("ddpm", None, "dit-variance", False),
    ],
)
def test_a_neutral_steering_changes_nothing(
    scheduler: str, guidance_scale: float | None, model: str, split: bool
) -> None:
    """Samples and scores are those of the candidate that is not steered, bit for bit."""
    judge = evaluator(scheduler, guidance_scale, model, 4, split)
    found = candidate(judge.loop, (0, 2, 3))
    plain, samples = judge.evaluate(found), judge.result
    neutral = judge.steering(((0, 2, 3),) * judge.cost.num_calls)
    assert neutral is not None
    assert neutral.is_neutral
    steered = judge.evaluate(replace(found, steering=neutral))
    assert torch.equal(judge.result, samples)
    assert steered == replace(plain, steering=neutral)


@pytest.mark.parametrize(
    ("scheduler", "guidance_scale", "model", "split"),
    [("ddim", None, "dit", False), ("euler-a", 3.0, "dit", True), ("ddpm", None, "dit-variance", False)],
)
@pytest.mark.parametrize("first", [0, 2])
def test_a_steered_candidate_is_judged_by_its_plan(
    scheduler: str, guidance_scale: float | None, model: str, split: bool, first: int
) -> None:
    """What the net whose tables are inputs gives is what the plan with these tables gives."""
    judge = evaluator(scheduler, guidance_scale, model, 6, split)
    found = whole_steps_candidate(judge, ((first, 4),) * judge.cost.num_calls)
    assert found.steering is not None
    told, mix = found.steering.told.float(), found.steering.mix.float()
    told[first:] = 0.875
    mix[:, :, 0] += 0.125
    mix[first] = found.steering.mix[first].float()
    mix[4, :, 1:] = torch.tensor([0.75, 0.5, -0.25])
    found = replace(found, steering=Steering(told, mix))
    judge.evaluate(found)
    table = GateTable(found.table.keep, found.table.weights.float())
    plan = Plan(judge.loop.facts, table, 0.0, steering=found.steering)
    with torch.no_grad():
        assert torch.equal(judge.result, judge.batch.run(build(judge.loop, plan)))


@pytest.mark.parametrize("split", [False, True], ids=["plain", "split"])
def test_before_its_first_run_no_model_is_called(split: bool) -> None:
    """The sample stands for what it would predict: the steps before hold the scheduler's part alone."""
    judge = evaluator("ddim", 3.0 if split else None, "dit", 6, split)
    late = whole_steps_candidate(judge, ((2, 4),) * judge.cost.num_calls)
    parts = _parts(judge, late)
    assert {step for part in parts for _, step in calls(part)} == {2, 4}
    nodes = [node for part in parts for node in part.graph.nodes if node.op not in ("placeholder", "output")]
    assert any(tag(node, "step") == 0 for node in nodes)
    assert not any(tag(node, "in_model") for node in nodes if tag(node, "step") in (0, 1))
    before = judge.budget.spent
    assert judge.evaluate(late).loss < float("inf")
    assert judge.budget.spent - before == pytest.approx(2 / 6, rel=1e-2)


def test_nets_are_made_once() -> None:
    """A SuperNet serves every steering that begins where its own does, a learnable net every table."""
    judge = evaluator("ddim", None, "dit", 6)
    early, late = (whole_steps_candidate(judge, (runs,)) for runs in ((0, 4), (2, 4)))
    assert early.steering is not None
    told = Steering(2 * early.steering.told, early.steering.mix)
    assert judge.supernet(3, early.steering) is judge.supernet(3, told)
    assert judge.supernet(3, early.steering) is not judge.supernet(3, late.steering)
    assert judge.supernet(3, early.steering) is not judge.supernet(3)
    assert judge.learnable(early) is judge.learnable(replace(early, steering=told))
    assert judge.learnable(early) is not judge.learnable(replace(early, steering=None))


class Listed(toy.Stack):
    """It looks its timestep up in a list, which no fraction of one is in."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(toy.WIDTH, toy.WIDTH))
        self.embed = nn.Embedding(9, toy.WIDTH)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction for `(rows, WIDTH)`."""
        return super().forward(sample + self.embed(timestep), timestep)


@pytest.mark.parametrize("can_steer", [True, False])
def test_some_loops_cannot_be_steered(can_steer: bool) -> None:
    """Where a model refuses a timestep that is no whole number there is no steering to start from."""
    model = Embedded() if can_steer else Listed()
    graph = toy.traced(model, 3)
    judge = Recording(
        graph, LoopCost.of(graph), calibrate(graph, model, None, 2, 1.0, zoo.generator(1)), PruneConfig()
    )
    assert judge.can_steer == can_steer
    assert (judge.steering(((0, 1),)) is not None) == can_steer
    assert judge.evaluate(whole_steps_candidate(judge, ((0, 1),))).loss < float("inf")
