"""Models whose weights hooks move or cast are searched, counted and run as if they had them at hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import accelerate
import pytest
import torch
from torch import nn

import dipgo_fx
import zoo
from dipgo_fx.passes.stored_weights import awake, compute_device, compute_dtype

CPU, STORED = torch.device("cpu"), torch.float8_e4m3fn


def sequential(model: Any) -> None:
    """Keep the weights on the meta device between calls, as `enable_sequential_cpu_offload` does."""
    accelerate.cpu_offload(model, execution_device=CPU)


def whole(model: Any) -> None:
    """Load all weights when the model is called, as `enable_model_cpu_offload` does."""
    accelerate.cpu_offload_with_hook(model, CPU)


def grouped(model: Any) -> None:
    """Load blocks one by one."""
    model.enable_group_offload(CPU, CPU, offload_type="block_level", num_blocks_per_group=1)


def cast(model: Any) -> None:
    """Store the layers in eight bits."""
    model.enable_layerwise_casting(storage_dtype=STORED, compute_dtype=torch.float32)


def rounded(model: nn.Module) -> None:
    """Round the weights of layers as `cast` does."""
    twin = copy.deepcopy(model)
    cast(twin)
    for path, module in twin.named_modules():
        if getattr(module, "_diffusers_hook", None) and module._diffusers_hook.get_hook("layerwise_casting"):
            model.get_submodule(path).to(STORED).to(torch.float32)


def searched(model: nn.Module) -> dipgo_fx.PrunedLoop:
    """Return what a small search finds."""
    config = dipgo_fx.PruneConfig(samples=4, full_runs=3)
    scheduler = zoo.SCHEDULERS["ddim"]()
    return dipgo_fx.prune(model, scheduler, 0.5, num_inference_steps=4, config=config, progress=False)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "keep"),
    [
        ("dit", sequential),
        ("unet", sequential),
        ("dit", whole),
        ("unet", grouped),
        ("dit", cast),
        ("unet", cast),
    ],
)
def test_a_search_goes_by_the_weights_that_the_model_computes_with(
    name: str, keep: Callable[[Any], None]
) -> None:
    """The same plan, the same MACs and, bit for bit, the same samples; the weights are left as found."""
    plain = zoo.model(name)
    model = copy.deepcopy(plain)
    if keep is cast:
        plain = copy.deepcopy(plain)
        rounded(plain)
    keep(model)
    before = [(p.device, p.dtype) for p in model.parameters()]
    assert (compute_device(model), compute_dtype(model)) == (CPU, torch.float32)
    expected, found = searched(plain), searched(model)
    assert found.plan.keep.equal(expected.plan.keep)
    assert found.report.after == expected.report.after
    x, inputs = zoo.sample(name, 2), zoo.conditioning(name, 2)
    with awake(model):
        assert torch.equal(found(x, **inputs), expected(x, **inputs))
    assert [(p.device, p.dtype) for p in model.parameters()] == before


@pytest.mark.parametrize("keep", [sequential, cast])
def test_a_loop_is_recorded_from_weights_elsewhere(keep: Callable[[Any], None]) -> None:
    """As it would be with the weights at hand; afterwards they are where they were."""
    plain = zoo.model("dit")
    model = copy.deepcopy(plain)
    keep(model)
    before = [(p.device, p.dtype) for p in model.parameters()]
    loops = [dipgo_fx.trace(each, zoo.SCHEDULERS["ddim"](), 3) for each in (plain, model)]
    assert [str(loop.graph) for loop in loops[:1]] == [str(loop.graph) for loop in loops[1:]]
    assert [(p.device, p.dtype) for p in model.parameters()] == before
