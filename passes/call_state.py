"""What lies on a model, beside its weights, that changes what a recorded call computes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from .errors import TraceError

Scales = Mapping[nn.Module, Mapping[str, float]]
"""The scales of adapters' layers, by adapter."""


def plain_state(model: nn.Module, paths: Collection[str]) -> dict[str, Any]:
    """Return what the Python of some modules may look at: numbers, flags and texts on them, and their hooks.

    FreeU, for one, is four numbers on a stage. A model's own hooks run around a recorded call.
    """
    found: dict[str, Any] = {}
    for path in paths:
        module = model.get_submodule(path)
        values = {k: v for k, v in vars(module).items() if isinstance(v, (int, float, str, type(None)))}
        found[path] = values, hooks_of(module) if path else ()
    return found


def refuse_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Raise `TraceError` if a call changed a number, flag or text: a recording is of that one call.

    Args:
        before, after: what `plain_state` returned around the call.
    """
    for path, (values, _) in before.items():
        for name, value in values.items():
            now = after[path][0].get(name)
            if value is not now and None not in (value, now) and value != now:
                raise TraceError(
                    f"{'.'.join(filter(None, (path, name)))} was {value!r} before this call and is {now!r} "
                    "after it, and a recording would repeat this call at every step: keep what changes from "
                    "call to call out of the model or inside of a block; what only the first call sets up is "
                    "there once the model has been called for real"
                )


def hooks_of(module: nn.Module) -> tuple[Any, ...]:
    """Return the hooks that run around a module's `forward`."""
    return (*module._forward_pre_hooks.values(), *module._forward_hooks.values())


def refuse_hooks(module: nn.Module) -> None:
    """Raise `TraceError` for a module with hooks whose parts are called, but never itself."""
    if hooks_of(module):
        raise TraceError(
            "it has forward hooks, and a loop calls its parts, never it: remove them, put them on its "
            "blocks, or run without a plan"
        )


def scales_of(model: nn.Module) -> Scales:
    """Return the scales of adapters' layers that a model holds; none without adapters."""
    layers = [module for module in model.modules() if isinstance(getattr(module, "scaling", None), dict)]
    return {layer: dict(layer.scaling) for layer in layers}  # type: ignore[arg-type]  # a dict, see above


@contextmanager
def scaled(scales: Scales) -> Iterator[None]:
    """Let layers have these scales; afterwards they have those that they had before."""
    before = {layer: dict(layer.scaling) for layer in scales}  # type: ignore[arg-type]
    try:
        for layer, own in scales.items():
            layer.scaling.update(own)  # type: ignore[union-attr, operator]
        yield
    finally:
        for layer, own in before.items():
            layer.scaling.update(own)  # type: ignore[union-attr, operator]
