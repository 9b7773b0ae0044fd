"""Step by step: the path of a loop, gradients that recompute, and weights that steer back to the path."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import toy
import zoo
from dipgo_fx import steps as steps_module
from dipgo_fx.api import build
from dipgo_fx.arena import Arena, Draft, frozen
from dipgo_fx.calibration import Batch, calibrate
from dipgo_fx.config import PruneConfig
from dipgo_fx.loop import denoise, prepared
from dipgo_fx.passes import BindGates, DropDeadBlocks, InsertGates, split_steps
from dipgo_fx.plan import Plan, backup_weights
from dipgo_fx.steps import RIDGE, run_checkpointed, sample_path, steer
from dipgo_fx.tracing import Loop, trace
from loops import cost, loop, scattered, skipping

STOCHASTIC = ("ddpm", "euler-a", "lcm")
# A Runge-Kutta warm-up calls the model at steps of its own.
STEPS = {"pndm": 4, "heun": 4}


@cache
def case(
    scheduler: str,
    guidance_scale: float | None = None,
    model: str = "dit",
    steps: int | None = None,
    split: bool = False,
) -> tuple[Loop, Batch]:
    """Return a loop and three samples with their unpruned path."""
    graph = loop(model, scheduler, "block", guidance_scale, steps or STEPS.get(scheduler, 7), split)
    return graph, calibrate(graph, zoo.model(model), None, 3, 1.0, zoo.generator(1))


def arena(scheduler: str, guidance_scale: float | None = None, split: bool = False) -> Arena:
    """Return the arena of a case."""
    graph, batch = case(scheduler, guidance_scale, split=split)
    costs = cost("dit", scheduler, "block", guidance_scale, graph.facts.num_inference_steps, split)
    return Arena(graph, costs, batch, PruneConfig(), zoo.generator())


def draft(graph: Loop, kept: tuple[int, ...], order: int = 3) -> Draft:
    """Return the plan that runs some steps whole and extrapolates at the others.

    Where guidance is split, the last of them runs conditionally only.
    """
    keep = torch.zeros(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[list(kept)] = True
    if graph.facts.split_guidance and len(kept) > 1:
        keep[kept[-1], : len(graph.blocks) // 2] = False
    return Draft(keep, backup_weights(keep, "linear").float().double(), order=order)


@torch.no_grad()
def eager_path(model: nn.Module, noise: Any, graph: Loop, batch: Batch, plan: Plan) -> torch.Tensor:
    """Return the samples after each step of the plain loop under a plan."""
    samples: list[torch.Tensor] = []
    with skipping(model, plan) as skipped:

        def on_step(step: int, sample: torch.Tensor) -> None:
            skipped.start_step(step, sample)
            samples.append(sample.clone())

        result = denoise(
            model,
            prepared(noise, graph.facts.num_inference_steps),
            batch.sample,
            batch.conditioning,
            guidance_scale=graph.facts.guidance_scale,
            split_guidance=graph.facts.split_guidance,
            generator=zoo.generator(batch.seed),
            on_step=on_step,
        )
    return torch.stack([*samples[1:], result])


def whole(graph: Loop) -> Plan:
    """Return the plan that keeps everything."""
    return Plan.from_keep(graph, torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool))


# -- the path


@pytest.mark.parametrize("guidance_scale", [None, 3.0], ids=["plain", "guided"])
@pytest.mark.parametrize("scheduler", zoo.SCHEDULERS)
def test_the_path_is_that_of_the_eager_loop(scheduler: str, guidance_scale: float | None) -> None:
    """Every entry is the eager loop's sample after that step, the last its result, bit for bit."""
    graph, batch = case(scheduler, guidance_scale)
    path = sample_path(split_steps(graph), batch)
    noise = zoo.SCHEDULERS[scheduler]()
    assert path.shape == (graph.num_steps, *batch.sample.shape)
    assert torch.equal(path, eager_path(zoo.model("dit"), noise, graph, batch, whole(graph)))
    with torch.no_grad():
        assert torch.equal(path[-1], batch.run(graph))


@pytest.mark.parametrize("model", ["unet", "unet-text", "pixart", "dit-variance"])
def test_the_path_of_other_models(model: str) -> None:
    """So it is for every family, where the scheduler draws noise too."""
    graph, batch = case("ddpm", None, model, 3)
    path = sample_path(split_steps(graph), batch)
    assert torch.equal(
        path, eager_path(zoo.model(model), zoo.SCHEDULERS["ddpm"](), graph, batch, whole(graph))
    )
    assert torch.equal(path, batch.path)


def test_a_path_of_one_step() -> None:
    """A loop of a single step has a path of one entry."""
    graph, batch = case("ddim", None, "dit", 1)
    with torch.no_grad():
        assert torch.equal(sample_path(split_steps(graph), batch), batch.run(graph)[None])


def test_a_batch_is_its_parts() -> None:
    """Parts of a batch have their own samples' conditioning, path and target."""
    _, batch = case("ddim", 3.0)
    part = batch.part(torch.tensor([2, 0]))
    assert torch.equal(part.path, batch.path[:, [2, 0]])
    assert torch.equal(part.target, batch.path[-1, [2, 0]])
    labels = batch.conditioning["class_labels"]
    assert torch.equal(part.conditioning["class_labels"], labels[[2, 0, 5, 3]])


# -- recomputation


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("scheduler", ["ddim", "pndm", *STOCHASTIC])
def test_checkpointing_gives_the_same_gradient(scheduler: str, order: int) -> None:
    """Recomputing step by step changes neither result nor gradient, noise included."""
    graph, batch = case(scheduler, None, "dit", 4)
    net = InsertGates(order)(graph).graph_module
    shape = graph.num_steps, len(graph.blocks)
    found = []
    with frozen(zoo.model("dit")):
        for plain in (True, False):
            tables = {"gates": torch.full(shape, 0.7, requires_grad=True)}
            if order > 1:
                tables["weights"] = scattered(shape, order, 3).float().requires_grad_()
            state = torch.get_rng_state()
            result = batch.run(net, **tables) if plain else run_checkpointed(split_steps(net), batch, tables)
            result.square().sum().backward()
            assert torch.equal(torch.get_rng_state(), state)
            found.append((result.detach(), [table.grad for table in tables.values()]))
    (plain_result, plain_slopes), (result, slopes) = found
    assert torch.equal(plain_result, result)
    for slope, expected in zip(slopes, plain_slopes, strict=True):
        assert slope.abs().sum() > 0
        torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-7 * expected.abs().max().item())


# -- steering


class Turning(toy.Stack):
    """Its prediction turns with the time: any `dimensions` of them span all the others."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(nn.Linear(3, 3, bias=False))
        self.dimensions = dimensions
        with torch.no_grad():
            nn.init.orthogonal_(self.layers[0].weight, generator=zoo.generator(4))

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the prediction for `(rows, 3)`, the same for all rows."""
        angle = 0.9 * timestep[:, None].to(sample.dtype)
        waves = [angle.cos(), angle.sin(), (2.1 * angle).cos()]
        padding = [0 * angle] * (3 - self.dimensions)
        return self.layers[0](torch.cat([*waves[: self.dimensions], *padding], 1)) + 0 * sample


def turning(dimensions: int, steps: int = 9, rule: Any = None) -> tuple[Turning, Any, Loop, Batch]:
    """Return a loop over predictions that turn, and two samples with their path."""
    model, noise = Turning(dimensions), toy.Step(rule or (lambda p, x: 0.9 * x - 0.3 * p))
    graph = trace(model, noise, steps, sample=toy.sample(), conditioning={}, granularity="stage")
    return model, noise, graph, calibrate(graph, model, None, 2, 1.0, zoo.generator(1))


@torch.no_grad()
def steered(
    graph: Loop, found: Draft, batch: Batch, skipped: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Steer a plan whose prediction is one block's value."""
    bound = BindGates(tuple(map(tuple, found.keep.tolist())))(InsertGates(found.order)(graph).graph_module)
    net = split_steps(DropDeadBlocks()(bound.graph_module).graph_module)
    return steer(net, found.weights, {step: [0] for step in skipped}, found.keep, batch)


@pytest.mark.parametrize("start", ["reuse", "linear"])
@pytest.mark.parametrize(
    ("dimensions", "kept"), [(2, (0, 1)), (2, (0, 1, 5)), (3, (0, 1, 2)), (3, (0, 2, 3))]
)
def test_a_path_within_reach_is_met(
    dimensions: int, kept: tuple[int, ...], start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where kept values span the skipped ones, the pruned path is the unpruned one.

    But for the ridge, which is small, it is so to float rounding.
    """
    model, noise, graph, batch = turning(dimensions)
    found = draft(graph, kept)
    found = replace(found, weights=backup_weights(found.keep, start))
    # Not before enough values are known.
    skipped = tuple(t for t in range(9) if t not in kept and sum(k < t for k in kept) >= dimensions)
    found.keep[1 : skipped[0]] = True
    for ridge, tolerance in ((RIDGE, 30 * RIDGE), (1e-12, 2e-6)):
        monkeypatch.setattr(steps_module, "RIDGE", ridge)
        weights, result = steered(graph, found, batch, skipped)
        plan = Plan(graph.facts, found.keep, weights, 0.0)
        path = eager_path(model, noise, graph, batch, plan)
        torch.testing.assert_close(path, batch.path, rtol=0, atol=tolerance)
        torch.testing.assert_close(result, batch.target, rtol=0, atol=tolerance)
    plain = eager_path(model, noise, graph, batch, Plan(graph.facts, found.keep, found.weights, 0.0))
    assert (plain - batch.path).abs().max() > 0.1


def test_errors_so_far_are_corrected() -> None:
    """From a sample that went astray the next skipped steps lead back as far as they can."""
    model, noise, graph, batch = turning(3)
    one = batch.part(torch.tensor([0]))  # three weights move one sample of width three anywhere
    found = draft(graph, (0, 1, 2))
    found.weights[3, 0] = torch.tensor([5.0, 0.0, -3.0])
    weights, result = steered(graph, found, one, (4, 5, 6, 7, 8))
    assert torch.equal(weights[3], found.weights[3])
    path = eager_path(model, noise, graph, one, Plan(graph.facts, found.keep, weights, 0.0))
    assert (path[3] - one.path[3]).abs().max() > 0.1
    torch.testing.assert_close(path[4:], one.path[4:], rtol=0, atol=1e-3)
    torch.testing.assert_close(path[5:], one.path[5:], rtol=0, atol=30 * RIDGE)
    assert torch.equal(result, path[-1])


def test_a_prediction_that_nobody_reads_keeps_its_weights() -> None:
    """A scheduler that ignores the model leaves nothing to fit."""
    _, _, graph, batch = turning(2, 4, lambda p, x: 0.5 * x)
    found = draft(graph, (0, 1))
    weights, result = steered(graph, found, batch, (2, 3))
    assert torch.equal(weights, found.weights)
    assert torch.equal(result, batch.target)


SCHEDULES = [(0, 1, 2), (0, 3), (0, 2, 4), (0,)]


@pytest.mark.parametrize("kept", SCHEDULES, ids=str)
@pytest.mark.parametrize(
    ("scheduler", "guidance_scale", "split"),
    [
        *((name, None, False) for name in zoo.SCHEDULERS),
        *((name, 3.0, split) for name in ("ddim", "euler-a", "dpm++") for split in (False, True)),
    ],
)
def test_no_step_gets_farther_from_the_path(
    scheduler: str, guidance_scale: float | None, split: bool, kept: tuple[int, ...]
) -> None:
    """Each skipped step ends at least as close to the path as with the weights that the fit started from.

    Both continue from where the steered run is by then. Schedulers that clip are no exception.
    """
    graph, batch = case(scheduler, guidance_scale, split=split)
    court, found = arena(scheduler, guidance_scale, split), draft(graph, kept)
    weights = court.steered(found).weights
    path = _path_with(weights, found, scheduler, graph, batch)
    for step in court.free(found):
        table = torch.cat([weights[:step], found.weights[step:]])
        other = _path_with(table, found, scheduler, graph, batch)
        assert torch.equal(path[:step], other[:step])
        assert _distance(path, batch, step) <= _distance(other, batch, step)


def _path_with(
    weights: torch.Tensor, found: Draft, scheduler: str, graph: Loop, batch: Batch
) -> torch.Tensor:
    plan = Plan(graph.facts, found.keep, weights, 0.0)
    return eager_path(zoo.model("dit"), zoo.SCHEDULERS[scheduler](), graph, batch, plan)


def _distance(path: torch.Tensor, batch: Batch, step: int) -> float:
    return (path[step].double() - batch.path[step].double()).norm().item()


@pytest.mark.parametrize("scheduler", ["dpm++", "euler-a", "unipc", "flow-match"])
def test_weights_are_the_least_squares(scheduler: str) -> None:
    """Where the scheduler does not clip, no other weights do better than the ridge explains."""
    graph, batch = case(scheduler)
    court, found = arena(scheduler), draft(graph, (0, 1, 2))
    weights = court.steered(found).weights
    (block,) = court.cost.reads.read_by_output
    for step in court.free(found):

        def after(entry: torch.Tensor, step: int = step) -> torch.Tensor:
            table = torch.cat([weights[:step], found.weights[step:]])
            table[step, block] = entry
            return _path_with(table, found, scheduler, graph, batch)[step].flatten().double()

        base = after(torch.zeros(3))
        columns = torch.stack([after(unit) - base for unit in torch.eye(3)], 1)
        wanted = batch.path[step].flatten().double() - base
        pull = RIDGE * columns.square().sum(0).mean()
        start = found.weights[step, block]

        def objective(
            entry: torch.Tensor,
            columns: torch.Tensor = columns,
            wanted: torch.Tensor = wanted,
            pull: torch.Tensor = pull,
            start: torch.Tensor = start,
        ) -> float:
            return ((columns @ entry - wanted).square().sum() + pull * (entry - start).square().sum()).item()

        reached = objective(weights[step, block])
        best = torch.linalg.lstsq(columns, wanted[:, None]).solution[:, 0]
        for share in (0.0, 0.5, 0.9, 1.0, 1.1):
            assert reached <= objective(start + share * (best - start)) * (1 + 1e-4)


@pytest.mark.parametrize(
    ("scheduler", "guidance_scale", "split"),
    [
        *((name, None, False) for name in ("ddim", "ddpm", "lcm", "pndm")),
        *((name, 3.0, split) for name in ("euler-a", "heun") for split in (False, True)),
        ("ddpm", 3.0, True),
    ],
)
def test_a_steered_run_is_the_run_of_its_subnet(
    scheduler: str, guidance_scale: float | None, split: bool
) -> None:
    """The samples that the fit returns are those of the SubNet with the weights that it returns.

    Bit for bit, noise included: a forecast does what a SubNet's nodes do, with weights of one precision.
    """
    graph, batch = case(scheduler, guidance_scale, split=split)
    court = arena(scheduler, guidance_scale, split)
    for kept in SCHEDULES:
        found = draft(graph, kept)
        with torch.no_grad():
            net = split_steps(court.learnable(found))
            weights, result = steer(net, found.weights, court.free(found), found.keep, batch)
        subnet = build(graph, Plan(graph.facts, found.keep, weights, 0.0), court.cost)
        with torch.no_grad():
            assert torch.equal(batch.run(subnet), result)
        judged = court.steered(found)
        assert torch.equal(judged.weights, weights)
        assert judged.loss == court.judged(judged).loss


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("scheduler", ["ddim", "euler-a"])
def test_only_skipped_steps_are_fitted(scheduler: str, order: int) -> None:
    """Weights elsewhere stay, and so do those beyond the order and those of values not yet computed."""
    graph, batch = case(scheduler)
    court, found = arena(scheduler), draft(graph, (0, 2), order)
    found.keep[5, 1:] = True  # step 5 runs in part
    found.keep[5, -1] = True
    blocks = found.keep.shape[1]
    learned = scattered((graph.num_steps, blocks), order, 5).float().double()
    found = replace(
        found, weights=torch.where(found.keep[..., None], backup_weights(found.keep, "reuse"), learned)
    )
    given = found.weights.clone()
    weights = court.steered(found, batch).weights
    assert torch.equal(found.weights, given)
    skipped = court.free(found)
    assert sorted(skipped) == [1, 3, 4, 6]
    (read,) = court.cost.reads.read_by_output
    changed = (weights != given).nonzero().tolist()
    known = {step: min(int(found.keep[:step, read].sum()), order) for step in skipped}
    assert changed
    assert all(step in skipped and n == read and k < known[step] for step, n, k in changed)
    assert weights.dtype == torch.float64


@pytest.mark.parametrize("scheduler", ["ddim", *STOCHASTIC])
def test_steering_is_deterministic(scheduler: str) -> None:
    """The same inputs give the same bits, and torch's own generator does not move."""
    court, found = arena(scheduler), draft(case(scheduler)[0], (0, 3))
    state = torch.get_rng_state()
    first = court.steered(found)
    torch.manual_seed(99)
    second = court.steered(found)
    torch.set_rng_state(state)
    third = court.steered(found)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(first.weights, third.weights)
    assert first.loss == second.loss == third.loss


def test_a_sample_that_nobody_reads_is_not_fitted() -> None:
    """Inside of a Runge-Kutta step only the model reads the sample: skipped, there is nothing to match."""
    graph, batch = case("pndm", None, "dit", 7)
    keep = torch.zeros(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[:3] = True
    found = Draft(keep, backup_weights(keep, "linear").float().double(), order=3)
    court = Arena(graph, cost("dit", "pndm", "block", None, 7), batch, PruneConfig(), zoo.generator())
    before, after = court.judged(found), court.steered(found)
    (read,) = court.cost.reads.read_by_output
    fitted = (after.weights != found.weights)[:, read].any(1)
    # Twelve calls of the model make the three steps of the warm-up.
    assert fitted[:12].tolist() == [t in (3, 7, 11) for t in range(12)]
    assert after.loss < before.loss
