"""The plain Python behind a model that is compiled or has hooks."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.utils.torch_utils import is_compiled_module
from torch import nn

from .errors import TraceError
from .forward_slot import ForwardSlot, StandIn, is_hook


def is_wrapper(module: nn.Module) -> bool:
    """Tell whether a module is what `torch.compile(module)` returned."""
    return bool(is_compiled_module(module))


def without_wrapper(model: nn.Module) -> nn.Module:
    """Return the model that `torch.compile(model)` wraps, or the model itself."""
    while is_wrapper(model):
        model = model.get_submodule("_orig_mod")
    return model


def refuse_wrapped_parts(model: nn.Module) -> None:
    """Raise `TraceError` for a part that `torch.compile` wrapped: it hides the blocks inside from view."""
    for path, module in model.named_modules():
        if is_wrapper(module):
            raise TraceError(
                f"{type(model).__name__}.{path} is wrapped by torch.compile(module), which hides its blocks: "
                f"compile it in place, as model.{path}.compile() does, or after tracing"
            )


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Let modules that were compiled in place or got hooks run as they were written; afterwards as found.

    Recording cannot look into compiled code: it would end the interpreter. Hooks move weights about.
    """
    calls = {m: m._compiled_call_impl for m in model.modules() if m._compiled_call_impl is not None}
    forwards = {m: m.forward for m in model.modules() if "forward" in vars(m)}
    plain = {m: _plain(m, forward) for m, forward in forwards.items()}
    try:
        for module in calls:
            module._compiled_call_impl = None
        for module, forward in plain.items():
            if forward is not None:
                module.forward = forward
        yield
    finally:
        for module, call in calls.items():
            module._compiled_call_impl = call
        for module, forward in forwards.items():
            module.forward = forward


def _plain(module: nn.Module, forward: Any) -> Any:
    """Return the Python behind a `forward`, `None` if it is that already."""
    if is_hook(forward):
        innermost = ForwardSlot(module).current
        is_written = not is_hook(innermost) and not isinstance(innermost, StandIn)
        return innermost if is_written else types.MethodType(type(module).forward, module)
    return getattr(forward, "_torchdynamo_orig_callable", None)
