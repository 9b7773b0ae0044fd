"""Weights that hooks keep on another device, or in another dtype, than their model computes in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from .errors import TraceError


def compute_device(model: nn.Module) -> torch.device:
    """Return the device on which a model computes: under offloading its weights lie elsewhere in between."""
    for module in model.modules():
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    found = getattr(model, "device", None)  # of a diffusers model, which knows its groups' device
    return found if isinstance(found, torch.device) else _first(model).device


def compute_dtype(model: nn.Module) -> torch.dtype:
    """Return the dtype in which a model computes: its layers may be stored in a smaller one."""
    found = getattr(model, "dtype", None)
    return found if isinstance(found, torch.dtype) else _first(model).dtype


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype that autocast gives to operators on a device now, `None` where it is off."""
    if not torch.amp.is_autocast_available(device.type) or not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which operators take the dtypes that they are given."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


@contextmanager
def as_computed(model: nn.Module, fakes: FakeTensorMode) -> Iterator[None]:
    """Let fake weights stand for those that hooks would move or cast before a module runs."""
    device = compute_device(model)
    with ExitStack() as stack:
        for module in model.modules():
            cast = getattr(_hook(module, "layerwise_casting"), "compute_dtype", None)
            tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for held in tables:
                for name, tensor in held.items():
                    if tensor is None or (_is_on(device, tensor) and cast in (None, tensor.dtype)):
                        continue
                    stack.callback(held.__setitem__, name, tensor)
                    with fakes:
                        held[name] = torch.empty(tensor.shape, dtype=cast or tensor.dtype, device=device)
        yield


@contextmanager
def awake(model: nn.Module) -> Iterator[None]:
    """Run the hooks around a model's own `forward`, which load what is no layer's, for what calls its parts.

    Afterwards its weights are where they were. Not to be entered twice, nor while the model itself runs.
    """
    hooks = [getattr(model, "_hf_hook", None), _hook(model, "group_offloading")]
    present = [hook for hook in hooks if hook is not None]
    stored = _first(model).device
    for hook in present:
        hook.pre_forward(model)
    try:
        yield
    finally:
        for hook in reversed(present):
            hook.post_forward(model, None)
        if present and stored.type != "meta" and _first(model).device != stored:
            model.to(stored)  # offloading of whole models leaves that to the pipeline


def refuse_hidden_weights(module: nn.Module) -> None:
    """Raise `TraceError` for a module whose hook loads its parts: a graph calls these, never the module."""
    if _hook(module, "group_offloading") is not None:
        raise TraceError(
            "its weights are loaded as one group by a hook of its own, and a loop calls its parts, never it: "
            'offload by layer, enable_group_offload(..., offload_type="leaf_level"), or the whole model'
        )


def _is_on(device: torch.device, tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is on a device; one without a number is any of its kind."""
    numbers = {device.index, tensor.device.index} - {None}
    return tensor.device.type == device.type and len(numbers) < 2


def _hook(module: nn.Module, name: str) -> Any:
    """Return a hook of diffusers, `None` without it."""
    registry = getattr(module, "_diffusers_hook", None)
    return None if registry is None else registry.get_hook(name)


def _first(model: nn.Module) -> torch.Tensor:
    return next(model.parameters(), torch.empty(0))
