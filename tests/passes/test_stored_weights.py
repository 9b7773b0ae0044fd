"""Models whose weights hooks move or cast are searched, counted and run as if they had them at hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import accelerate
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import dipgo_fx
import zoo
from dipgo_fx import TraceError
from dipgo_fx.passes.stored_weights import as_computed, awake, compute_device, compute_dtype

CPU, STORED = torch.device("cpu"), torch.float8_e4m3fn


def sequential(model: Any) -> None:
    """Keep the weights on the meta device between calls, as `enable_sequential_cpu_offload` does."""
    accelerate.cpu_offload(model, execution_device=CPU)


def whole(model: Any) -> None:
    """Load all weights when the model is called, as `enable_model_cpu_offload` does."""
    accelerate.cpu_offload_with_hook(model, CPU)


def grouped(model: Any) -> None:
    """Load layers one by one."""
    model.enable_group_offload(CPU, CPU, offload_type="leaf_level")


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


@pytest.mark.parametrize(("name", "keep"), [("dit", sequential), ("dit", cast), ("pixart", cast)])
def test_a_loop_is_recorded_from_weights_elsewhere(name: str, keep: Callable[[Any], None]) -> None:
    """As it would be with the weights at hand; they stay where they were."""
    plain = zoo.model(name)
    model = copy.deepcopy(plain)
    keep(model)
    before = [(p.device, p.dtype) for p in model.parameters()]
    loops = [dipgo_fx.trace(each, zoo.SCHEDULERS["ddim"](), 3) for each in (plain, model)]
    targets = [[(node.op, node.target) for node in loop.graph.nodes] for loop in loops]
    assert targets[0] == targets[1]
    assert [(p.device, p.dtype) for p in model.parameters()] == before


def test_a_device_without_a_number_is_any_of_its_kind() -> None:
    """Weights that lie where a hook says are what is recorded from."""
    model = copy.deepcopy(zoo.model("dit"))
    accelerate.cpu_offload_with_hook(model, torch.device("cpu:0"))
    before = [*model.parameters()]
    with as_computed(model, FakeTensorMode()):
        assert all(one is other for one, other in zip(model.parameters(), before, strict=True))


def test_a_weight_that_the_model_reads_itself_must_be_at_hand() -> None:
    """No layer's hook would load it: `trace` refuses, a search runs the hooks around the model first."""
    model = copy.deepcopy(zoo.model("pixart"))
    sequential(model)
    with pytest.raises(TraceError, match=r"reads a weight itself.*load the weights before"):
        dipgo_fx.trace(model, zoo.SCHEDULERS["ddim"](), 2)
    found, expected = searched(model), searched(zoo.model("pixart"))
    x, inputs = zoo.sample("pixart", 2), zoo.conditioning("pixart", 2)
    assert torch.equal(found(x, **inputs), expected(x, **inputs))


def test_groups_whose_hook_never_runs_are_refused() -> None:
    """A U-Net's loop calls the parts of a block, and what loads them stands before the block itself."""
    model = copy.deepcopy(zoo.model("unet"))
    model.enable_group_offload(CPU, CPU, offload_type="block_level", num_blocks_per_group=1)
    with pytest.raises(dipgo_fx.passes.TraceError, match=r"down_blocks\.0, .*leaf_level"):
        dipgo_fx.trace(model, zoo.SCHEDULERS["ddim"](), 3)
