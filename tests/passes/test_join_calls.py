"""join-calls: the two calls of guidance as one, where both run the same blocks."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dipgo_fx
import zoo
from dipgo_fx import Loop, Plan
from dipgo_fx.applying import build
from dipgo_fx.passes import GateTable, JoinCalls
from dipgo_fx.passes.share_calls import share_calls
from dipgo_fx.passes.tags import tag
from loops import inputs, loop, run
from steerings import steering_of

STEPS = 5
SCHEDULERS = ("ddim", "dpm++", "euler-a", "heun", "pndm")


@cache
def doubled(name: str, scheduler: str) -> Loop:
    """Return a loop in float64, its two conditions apart."""
    model = copy.deepcopy(zoo.model(name)).double()
    return dipgo_fx.trace(model, zoo.SCHEDULERS[scheduler](), STEPS, guidance_scale=2.0, split_guidance=True)


def plan_of(graph: Loop, keep: torch.Tensor) -> Plan:
    """Return a plan that makes the first step whole and forecasts what it does not keep."""
    keep = keep.clone()
    keep[0] = True
    return Plan.from_keep(graph, keep, backup="linear")


def calls(graph: Any) -> list[tuple[int, str | None]]:
    """Return the step and the name of each call of the first block."""
    first = graph.facts.blocks[-1]
    return [
        (tag(node, "step"), tag(node, "call"))
        for node in graph.graph.nodes
        if node.op == "call_module" and str(node.target).endswith(first)
    ]


@given(
    name=st.sampled_from(["dit", "unet"]),
    scheduler=st.sampled_from(SCHEDULERS),
    seed=st.integers(0, 99),
    share=st.floats(0.3, 1.0),
    partial=st.booleans(),
    fold=st.booleans(),
)
def test_any_plan_computes_what_it_did(
    name: str, scheduler: str, seed: int, share: float, partial: bool, fold: bool
) -> None:
    """In float64 nothing but the last digits differs; it costs the same, and equal calls stay shared."""
    graph = doubled(name, scheduler)
    shape = (graph.num_steps, len(graph.blocks))
    half, generator = shape[1] // 2, torch.Generator().manual_seed(seed)
    # By step and condition: calls that run the same blocks are not rare then.
    keep = (torch.rand(shape[0], 2, generator=generator) < share).repeat_interleave(half, 1)
    if partial:  # the same blocks of both, which read what earlier steps made
        keep = keep | (torch.rand(shape[0], half, generator=generator) < share).repeat(1, 2)
    plan = Plan.from_keep(
        graph, keep.index_fill(0, torch.tensor([0]), True), backup="reuse" if partial else "linear"
    )
    plain, joined = (build(graph, plan, fold=fold, join=join) for join in (False, True))
    x, c = inputs(name, 3, 2.0)
    results = [each(x.double(), **c, generator=torch.Generator().manual_seed(1)) for each in (plain, joined)]
    scale = float(results[0].abs().max())
    torch.testing.assert_close(results[1], results[0], rtol=1e-7, atol=1e-7 * scale)
    assert dipgo_fx.count_macs(joined).total == dipgo_fx.count_macs(plain).total
    assert len(calls(joined)) < len(calls(plain))
    torch.testing.assert_close(
        share_calls(joined)(x.double(), **c, generator=torch.Generator().manual_seed(1)),
        results[1],
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_steps_at_which_both_run_are_called_once(scheduler: str) -> None:
    """The first step, and others that keep as much; elsewhere one condition runs alone."""
    graph = loop("dit", scheduler, "block", 2.0, STEPS, True)
    keep = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[1, : len(graph.blocks) // 2] = False  # no unconditional call
    keep[2, -1] = False  # the conditional call is skipped
    joined = build(graph, plan_of(graph, keep), join=True)
    found = calls(joined)
    assert [step for step, _ in found] == [*range(graph.num_steps)]
    assert found[2] == (2, "unconditional")


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("key", [("pixart", "dpm++"), ("dit", "unipc")], ids=lambda key: "-".join(key))
def test_steered_calls_are_joined(key: tuple[str, str], first: int) -> None:
    """Each half is mixed by itself; constants of the loop that steps before read stay where they are."""
    graph = loop(*key, "block", 2.0, STEPS, True)
    keep = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    keep[:first], keep[first + 2 :] = False, False
    steering = steering_of(graph.facts, 1, first)
    plan = Plan(graph.facts, GateTable.of(keep, "linear"), 0.0, steering=steering)
    plain, joined = (build(graph, plan, join=join) for join in (False, True))
    x, c = inputs(key[0], 3, 2.0)
    torch.testing.assert_close(run(joined, x, c), run(plain, x, c), rtol=1e-3, atol=1e-3)
    assert len(calls(joined)) == 2 < len(calls(plain))


def test_without_guidance_there_is_nothing_to_join() -> None:
    """The very graph comes back."""
    graph = loop("dit", "ddim", "block", None, STEPS)
    pruned = build(graph, plan_of(graph, torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)))
    assert JoinCalls()(pruned).graph_module is pruned


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [*((name, "ddim") for name in zoo.MODELS), *(("dit", key) for key in SCHEDULERS[1:])],
)
def test_a_plan_that_keeps_everything_is_the_stock_loop(name: str, scheduler: str) -> None:
    """Bit for bit: the model is called as a stock pipeline calls it."""
    graph = loop(name, scheduler, "block", 2.0, STEPS, True)
    everything = torch.ones(graph.num_steps, len(graph.blocks), dtype=torch.bool)
    joined = build(graph, plan_of(graph, everything), join=True)
    assert len(calls(joined)) == graph.num_steps
    x, c = inputs(name, 2, 2.0)
    assert torch.equal(run(joined, x, c), run(loop(name, scheduler, "block", 2.0), x, c))


def test_prune_and_apply_join() -> None:
    """What is pruned is what `apply` makes of its plan, unless it is told to call the conditions apart."""
    model, noise = zoo.model("dit"), zoo.SCHEDULERS["ddim"]()
    quick = dipgo_fx.PruneConfig(samples=2, full_runs=3)
    pruned = dipgo_fx.prune(
        model, noise, 0.3, num_inference_steps=STEPS, guidance_scale=2.0, config=quick, progress=False
    )
    assert [record.name for record in pruned.report.passes][-1] == "join-calls"
    x, c = inputs("dit", 2, 2.0)
    assert torch.equal(run(pruned, x, c), run(dipgo_fx.apply(model, noise, pruned.plan), x, c))
    apart = dipgo_fx.apply(model, noise, pruned.plan, join=False)
    assert len(calls(pruned)) < len(calls(apart))
    assert "join-calls" not in [record.name for record in apart.report.passes]
