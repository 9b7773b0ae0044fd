"""Steered loops: the eager loop with told timesteps and mixed predictions is what they compute."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from dipgo_fx import Plan
from dipgo_fx.applying import build
from dipgo_fx.cost import LoopCost
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.guidance import Guidance
from dipgo_fx.macs import count_macs
from dipgo_fx.passes import GateTable, InvariantError, SteerCalls, Steering
from dipgo_fx.passes.share_calls import share_calls
from dipgo_fx.passes.steer_calls import can_steer, carries_sample
from dipgo_fx.passes.tags import tag
from loops import STEPS, inputs, loop, run
from steerings import Steered, steering_of

KEYS: tuple[tuple[Any, ...], ...] = (
    ("dit", "ddim", "block", None),
    ("dit", "pndm", "block", None),
    ("dit", "unipc", "block", 2.0, STEPS, True),
    ("dit-variance", "heun", "branch", None),
    ("dit-variance", "ddpm", "branch", 4.0, STEPS, True),
    ("unet", "pndm", "block", 2.0),
    ("unet-text", "euler", "block", None),
    ("pixart", "flow-match", "branch", None),
)
keys = st.sampled_from(KEYS)
NOISE = {"ddpm"}


@torch.no_grad()
def eager(key: tuple[Any, ...], steering: Steering, batch: int) -> tuple[torch.Tensor, int]:
    """Return the result of the eager loop with steered calls, and how many of them ran."""
    name, scheduler, guidance = key[0], zoo.SCHEDULERS[key[1]](), Guidance(key[3], len(key) > 5 and key[5])
    x, c = inputs(name, batch, key[3])
    plain: Any = zoo.model(name)
    model: Any = Steered(plain, steering, len(guidance.calls), plain.config.out_channels)
    made = denoise(model, prepared(scheduler, STEPS), x, c, guidance, generator=zoo.generator(3))
    return made, model.calls


@settings(max_examples=12)
@given(key=keys, batch=st.integers(1, 2), seed=st.integers(0, 99), first=st.integers(0, 2))
def test_a_steered_loop_equals_the_eager_loop(
    key: tuple[Any, ...], batch: int, seed: int, first: int
) -> None:
    """Bit for bit, with fixed tables and with tables that are inputs."""
    graph = loop(*key)
    steering = steering_of(graph.facts, seed, first)
    expected, _ = eager(key, steering, batch)
    x, c = inputs(key[0], batch, key[3])
    assert torch.equal(run(SteerCalls(steering)(graph).graph_module, x, c), expected)
    free = SteerCalls(steering, free=True)(graph).graph_module
    given_tables = {"told": steering.told, "mix": steering.mix}
    assert torch.allclose(
        run(free, x, c, **{k: t.float() for k, t in given_tables.items()}), expected, atol=1e-3
    )


@settings(max_examples=10)
@given(key=keys, batch=st.integers(1, 2))
def test_a_neutral_steering_changes_nothing(key: tuple[Any, ...], batch: int) -> None:
    """Bit for bit, with tables that are inputs too."""
    graph = loop(*key)
    x, c = inputs(key[0], batch, key[3])
    neutral = Steering.neutral(graph.num_steps, len(graph.facts.guidance.calls))
    expected = run(graph, x, c)
    assert torch.equal(run(SteerCalls(neutral)(graph).graph_module, x, c), expected)
    free = SteerCalls(neutral, free=True)(graph).graph_module
    assert torch.equal(run(free, x, c, told=neutral.told.float(), mix=neutral.mix.float()), expected)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key[0]}-{key[1]}")
@pytest.mark.parametrize("first", [1, 2])
def test_a_late_start_costs_nothing_before_it(key: tuple[Any, ...], first: int) -> None:
    """Laws 4 and 6: the MACs of a plan are those of its graph and of what runs, and no call is left over."""
    graph = loop(*key)
    steering = steering_of(graph.facts, 1, first)
    keep = LoopCost.of(graph).all_kept
    keep[:first] = False
    keep[first + 1 :, ::2] = False
    table = GateTable.of(keep, "linear")
    cost = LoopCost.of(graph)
    plan = Plan(graph.facts, table, 1 - cost.kept(table), cost=cost, steering=steering)
    pruned = build(graph, plan)
    assert count_macs(pruned).total == cost.of_table(table).total
    early = [node for node in pruned.graph.nodes if tag(node, "in_model") and tag(node, "step") < first]
    assert not [node for node in early if node.op == "call_module"]
    assert plan.states()[:first].eq(1).all()  # dead


def test_what_cannot_be_steered_is_refused() -> None:
    """Another number of steps or calls, and a loop that is none any more."""
    graph = loop("dit")
    with pytest.raises(
        InvariantError, match=r"expected a steering of \(5, 1\) steps and calls, got \(4, 1\)"
    ):
        SteerCalls(Steering.neutral(4, 1))(graph)
    done = SteerCalls(Steering.neutral(5, 1))(graph).graph_module
    assert can_steer(done)
    assert carries_sample(done.graph)
    pruned = build(graph, Plan.from_keep(graph, LoopCost.of(graph).all_kept))
    with pytest.raises(InvariantError, match="expected a traced loop"):
        SteerCalls(Steering.neutral(5, 1))(pruned)


@pytest.mark.parametrize("key", [KEYS[0], KEYS[6]], ids=lambda key: f"{key[0]}-{key[1]}")
@pytest.mark.parametrize("first", [0, 2])
def test_a_steered_loop_is_a_loop(key: tuple[Any, ...], first: int) -> None:
    """Folded, copied, and with its calls shared it computes the same, bit for bit."""
    graph = loop(*key)
    keep = LoopCost.of(graph).all_kept
    keep[:first], keep[first + 2 :] = False, False
    steering = steering_of(graph.facts, 3, first)
    plan = Plan(graph.facts, GateTable.of(keep, "linear"), 0.0, steering=steering)
    pruned = build(graph, plan)
    x, c = inputs(key[0], 1, key[3])
    expected = run(pruned, x, c)
    for other in (build(graph, plan, fold=True), copy.deepcopy(pruned), share_calls(pruned)):
        assert torch.equal(run(other, x, c), expected)
