"""Compiled models are traced as they were written."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook as AccelerateHook
from accelerate.hooks import add_hook_to_module
from diffusers.hooks import HookRegistry
from diffusers.hooks import ModelHook as DiffusersHook
from torch import nn

import toy
import zoo
from dipgo_fx.macs import count_macs
from dipgo_fx.passes.uncompiled import uncompiled, without_wrapper
from dipgo_fx.tracing import trace
from loops import inputs, run


def _blocks(model: Any) -> nn.Module:
    for block in model.transformer_blocks:
        block.compile(backend="eager")
    return model  # type: ignore[no-any-return]


def _repeated(model: Any) -> nn.Module:
    model._repeated_blocks = ["BasicTransformerBlock"]
    model.compile_repeated_blocks(backend="eager")
    return model  # type: ignore[no-any-return]


def _in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def _forward(model: Any) -> nn.Module:
    model.forward = torch.compile(model.forward, backend="eager")
    return model  # type: ignore[no-any-return]


def _wrapped(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


@pytest.mark.parametrize("compiled", [_blocks, _repeated, _in_place, _forward, _wrapped])
def test_a_compiled_model_gives_the_graph_of_the_plain_one(compiled: Callable[[Any], nn.Module]) -> None:
    """Same code, blocks, MACs and bits; the model stays compiled as it was."""
    plain = copy.deepcopy(zoo.model("dit"))
    model = compiled(copy.deepcopy(plain))
    calls = [module._compiled_call_impl for module in model.modules()]
    forwards = [vars(module).get("forward") for module in model.modules()]
    graph, expected = (trace(each, zoo.SCHEDULERS["ddim"](), 3) for each in (model, plain))
    assert graph.code == expected.code
    assert graph.facts == expected.facts
    assert count_macs(graph) == count_macs(expected)
    assert [module._compiled_call_impl for module in model.modules()] == calls
    assert [vars(module).get("forward") for module in model.modules()] == forwards
    x, c = inputs("dit", 2)
    assert torch.equal(run(graph, x, c), run(expected, x, c))


def test_what_was_compiled_comes_back_after_an_error() -> None:
    """Leaving by an exception restores the compiled calls."""
    model = _blocks(copy.deepcopy(zoo.model("dit")))
    calls = [module._compiled_call_impl for module in model.modules()]

    def fail() -> None:
        with uncompiled(model):
            assert all(module._compiled_call_impl is None for module in model.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [module._compiled_call_impl for module in model.modules()] == calls


def test_only_the_wrapper_is_taken_off() -> None:
    """A model that is not wrapped comes back itself."""
    model = zoo.model("dit")
    assert without_wrapper(model) is model
    assert without_wrapper(torch.compile(model, backend="eager")) is model  # type: ignore[arg-type]


def _by_accelerate(model: nn.Module) -> None:
    add_hook_to_module(model, AccelerateHook())


def _by_diffusers(model: nn.Module) -> None:
    HookRegistry.check_if_exists_or_initialize(model).register_hook(DiffusersHook(), "a hook")


@pytest.mark.parametrize(
    "hook", [None, _by_accelerate, _by_diffusers], ids=["none", "accelerate", "diffusers"]
)
@pytest.mark.parametrize("bind", [functools.partial, types.MethodType])
def test_a_forward_of_the_users_own_is_recorded(bind: Any, hook: Callable[[nn.Module], None] | None) -> None:
    """Whatever was put around it."""
    model = toy.model()

    def doubled(module: nn.Module, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return 2 * type(module).forward(module, sample, timestep)

    expected = toy.sample() - 2 * model(toy.sample(), torch.zeros(2))
    model.forward = bind(doubled, model)
    if hook is not None:
        hook(model)
    found = model.forward
    assert torch.equal(run(toy.traced(model, 1), toy.sample(), {}), expected.detach())
    assert model.forward is found
