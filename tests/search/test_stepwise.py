"""Step by step: the path of a loop, gradients that recompute, and runs that begin in the middle."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch

import zoo
from dipgo_fx.frozen import frozen
from dipgo_fx.passes import split_steps
from dipgo_fx.passes.insert_gates import GATES, WEIGHTS
from dipgo_fx.search.least_squares import stepwise_entries
from dipgo_fx.search.stepwise import Resumable, run_checkpointed, sample_path
from loops import scattered, supernet
from searches import STOCHASTIC, candidate, case, eager_path, evaluator, thinned, whole

# -- the path


@pytest.mark.parametrize(
    ("scheduler", "guidance_scale"),
    thinned(
        product(zoo.SCHEDULERS, (None, 3.0)),
        [*zip(zoo.SCHEDULERS, (None, 3.0) * 6, strict=True), ("ddim", 3.0), ("pndm", 3.0)],
    ),
)
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


# -- recomputation


@pytest.mark.parametrize(
    ("scheduler", "history"),
    thinned(
        product(("ddim", "pndm", *STOCHASTIC), (1, 2, 3)),
        [("ddim", 1), ("ddim", 3), ("pndm", 2), ("ddpm", 3), ("euler-a", 1), ("lcm", 2)],
    ),
)
def test_checkpointing_gives_the_same_gradient(scheduler: str, history: int) -> None:
    """Recomputing step by step changes neither result nor gradient, noise included."""
    graph, batch = case(scheduler, None, "dit", 4)
    net = supernet(history, "dit", scheduler, "block", None, 4, False)
    shape = graph.num_steps, len(graph.blocks)
    found = []
    with frozen(zoo.model("dit")):
        for plain in (True, False):
            tables = {GATES: torch.full(shape, 0.7, requires_grad=True)}
            if history > 1:
                tables[WEIGHTS] = scattered(shape, history, 3).float().requires_grad_()
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


# -- resuming


@pytest.mark.parametrize("steered", [False, True], ids=["plain", "steered"])
@pytest.mark.parametrize(
    ("scheduler", "guidance_scale", "split"),
    [
        ("ddim", None, False),
        ("euler-a", 3.0, False),
        ("euler-a", 3.0, True),
        ("unipc", None, False),
        ("heun", None, False),
    ],
)
def test_a_resumed_run_is_the_whole_run(
    scheduler: str, guidance_scale: float | None, split: bool, steered: bool
) -> None:
    """From any step on, with other tables there, bit for bit; noise included."""
    graph, batch = case(scheduler, guidance_scale, split=split)
    judge, found = evaluator(scheduler, guidance_scale, split=split), candidate(graph, (0, 1, 4))
    if steered:
        found = replace(found, steering=judge.steering(((0, 1, 4),) * judge.cost.num_calls))
        assert found.steering is not None
    net, start = judge.learnable(found), found.tables(batch.sample.device)
    first = Resumable(net, batch)
    with torch.no_grad():
        first.run_with(start)
        first.remember()
        steps = sorted(stepwise_entries(judge, found))
        assert steps
        for step in steps:
            changed = {name: table.clone() for name, table in start.items()}
            changed["weights"][step:, :, 0] += 0.25
            if steered:
                changed["told"][step:] *= 0.9
                changed["mix"][step:, :, 0] += 0.1
            again = Resumable(net, batch).run_with(changed)
            assert torch.equal(first.again(step, changed), again)
            assert not torch.equal(again, first.again(step, start))
