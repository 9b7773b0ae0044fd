"""How alike steps are: the cosines of what hooks see in the eager loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import toy
import zoo
from dipgo_fx import Loop, measure_similarity, similarity
from dipgo_fx.applying import build
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.guidance import Guidance
from loops import inputs, loop
from plans import plan

STEPS = 4


@torch.no_grad()
def seen(name: str, scheduler: str, guidance: Guidance, graph: Loop) -> dict[str, list[torch.Tensor]]:
    """Return what each block returns at each call in the eager loop, its tensors one after the other."""
    model, (x, conditioning) = zoo.model(name), inputs(name, 2, guidance.scale)
    outputs: dict[str, list[torch.Tensor]] = {block.partition("@")[0]: [] for block in graph.blocks}

    def keeper(block: str) -> Any:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            tensors = torch.utils._pytree.tree_leaves(output)
            outputs[block].append(torch.cat([t.flatten().clone() for t in tensors]))

        return keep

    hooks = [model.get_submodule(block).register_forward_hook(keeper(block)) for block in outputs]
    try:
        noise = prepared(zoo.SCHEDULERS[scheduler](), STEPS)
        denoise(model, noise, x, conditioning, guidance, generator=zoo.generator(3))
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


CASES = [
    ("dit", "ddim", "block", None),
    ("dit", "euler-a", "branch", None),
    ("unet-text", "ddim", "stage", 2.0),
    ("pixart", "dpm++", "block", None),
]


@pytest.mark.parametrize(("name", "scheduler", "granularity", "scale"), CASES)
def test_maps_are_cosines_of_what_hooks_see(
    name: str, scheduler: str, granularity: Any, scale: float | None
) -> None:
    """For every block and every two steps, noise of the scheduler and guidance included."""
    graph = loop(name, scheduler, granularity, scale, STEPS)
    x, conditioning = inputs(name, 2, scale)
    maps = measure_similarity(graph, x, conditioning, generator=zoo.generator(3))
    outputs = seen(name, scheduler, Guidance(scale), graph)
    assert tuple(maps) == graph.blocks
    for block, values in maps.items():
        assert (values.shape, values.dtype) == ((STEPS, STEPS), torch.float64)
        for s, one in enumerate(outputs[block]):
            for t, other in enumerate(outputs[block]):
                cosine = torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=0)
                assert float(values[s, t]) == pytest.approx(float(cosine), abs=1e-6)


def test_the_two_calls_of_guidance_have_maps_of_their_own() -> None:
    """As they are blocks of their own; both are seen in the eager loop, the unconditional call first."""
    graph = loop("unet-text", "ddim", "block", 2.0, STEPS, True)
    x, conditioning = inputs("unet-text", 2, 2.0)
    maps = measure_similarity(graph, x, conditioning)
    outputs = seen("unet-text", "ddim", Guidance(2.0, split=True), graph)
    for block, values in maps.items():
        path, _, call = block.partition("@")
        own = torch.stack(outputs[path][0 if call else 1 :: 2]).double()
        unit = torch.nn.functional.normalize(own, dim=1)
        torch.testing.assert_close(values, unit @ unit.T, atol=1e-6, rtol=0)


def test_maps_are_symmetric_with_ones_on_the_diagonal() -> None:
    """Exactly; nothing is alike beyond that."""
    for values in measure_similarity(loop("dit"), *inputs("dit", 3)).values():
        torch.testing.assert_close(values, values.T, atol=1e-12, rtol=0)
        assert bool((values.diagonal() == 1).all())
        assert float(values.abs().max()) == 1


def test_large_outputs_are_compared_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """At places that are the same at every step and in every run: near to the whole, equal if done again."""
    graph, given = loop("dit"), inputs("dit", 3)
    whole = measure_similarity(graph, *given)
    monkeypatch.setattr(similarity, "ENTRIES", 100)
    some, again = (measure_similarity(graph, *given) for _ in range(2))
    for block, values in some.items():
        assert torch.equal(values, again[block])
        assert not torch.equal(values, whole[block])
        torch.testing.assert_close(values, whole[block], atol=0.3, rtol=0)


def test_nothing_is_left_behind() -> None:
    """The loop makes what it made, no gradient is kept, and no global random state is used."""
    graph, (x, conditioning) = loop("dit"), inputs("dit", 2)
    before, state = graph(x, **conditioning), torch.random.get_rng_state()
    maps = measure_similarity(graph, x.requires_grad_(), conditioning)
    assert torch.equal(graph(x.detach(), **conditioning), before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(values.requires_grad for values in maps.values())


def filled(weight: float) -> Loop:
    """Return a loop of three steps whose only block has all its weights alike."""
    linear = nn.Linear(toy.WIDTH, toy.WIDTH, bias=False)
    with torch.no_grad():
        linear.weight.fill_(weight)
    return toy.traced(toy.Stack(linear), 3)


def test_outputs_of_zeros_are_like_each_other() -> None:
    """They have no direction, yet there is nothing new in them."""
    (values,) = measure_similarity(filled(0.0), toy.sample()).values()
    assert torch.equal(values, torch.ones(3, 3, dtype=torch.float64))


def test_a_pruned_loop_is_refused() -> None:
    """Its blocks return nothing at some steps."""
    with pytest.raises(ValueError, match="loop must be unpruned"):
        measure_similarity(build(loop("dit"), plan()), *inputs("dit", 1))


def test_values_that_are_not_finite_are_refused() -> None:
    """By the block that returns them."""
    with pytest.raises(ValueError, match=r"block layers\.0 returns values that are not finite"):
        measure_similarity(filled(float("nan")), toy.sample())
