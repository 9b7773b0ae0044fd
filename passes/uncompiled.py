"""The plain Python behind a compiled model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers.utils.torch_utils import is_compiled_module
from torch import nn

from .errors import TraceError


def without_wrapper(model: nn.Module) -> nn.Module:
    """Return the model that `torch.compile(model)` wraps, or the model itself."""
    while is_compiled_module(model):
        model = model.get_submodule("_orig_mod")
    return model


def refuse_wrapped_parts(model: nn.Module) -> None:
    """Raise `TraceError` for a part that `torch.compile` wrapped: it hides the blocks inside from view."""
    for path, module in model.named_modules():
        if is_compiled_module(module):
            raise TraceError(
                f"{type(model).__name__}.{path} is wrapped by torch.compile(module), which hides its blocks: "
                f"compile it in place, as model.{path}.compile() does, or after tracing"
            )


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Let modules that were compiled in place run as they were written; afterwards they are as found.

    Recording cannot look into compiled code: it would end the interpreter.
    """
    calls = {m: m._compiled_call_impl for m in model.modules() if m._compiled_call_impl is not None}
    forwards = {m: m.forward for m in model.modules() if "forward" in vars(m)}
    plain = {m: getattr(forward, "_torchdynamo_orig_callable", None) for m, forward in forwards.items()}
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
