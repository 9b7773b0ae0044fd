"""What a model keeps of its first call, such as tables of positions: a recording must not leave it there."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from torch import nn
from torch._subclasses import FakeTensor


@contextmanager
def without_fakes(model: nn.Module) -> Iterator[None]:
    """Let a model run on fake tensors; afterwards no module keeps one of them, nor does a function cache.

    What modules keep otherwise stays: it is what a real call would have left.
    """
    before = {
        module: {name: _kept(value) for name, value in vars(module).items()} for module in model.modules()
    }
    try:
        yield
    finally:
        for module, attributes in before.items():
            _restore(vars(module), attributes)
        for cache in _function_caches({type(module) for module in before}):
            cache.cache_clear()


def _kept(value: Any) -> tuple[Any, Any]:
    """Return a value, and a copy of what it holds if it may come to hold more."""
    return value, copy.copy(value) if isinstance(value, (dict, list)) else None


def _restore(state: dict[str, Any], before: Mapping[str, tuple[Any, Any]]) -> None:
    """Put the attributes of a module back of which fake tensors are a part."""
    for name in [name for name, value in state.items() if _is_fake(value)]:
        if name not in before:
            del state[name]
            continue
        state[name], held = before[name]
        if isinstance(held, dict):
            state[name].clear()
            state[name].update(held)
        elif isinstance(held, list):
            state[name][:] = held


def _is_fake(value: Any) -> bool:
    """Tell whether a value is a fake tensor or holds one."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return isinstance(value, FakeTensor)
    return any(map(_is_fake, value))


def _function_caches(kinds: Iterable[type]) -> Iterator[Any]:
    """Yield the cached functions among the methods of classes, and beside these in their files."""
    owners = {owner for kind in kinds for owner in kind.__mro__}
    files = {sys.modules[owner.__module__] for owner in owners if owner.__module__ in sys.modules}
    for place in (*owners, *files):
        for value in [*vars(place).values()]:
            # diffusers has such a function inside another, which goes past it when a model is compiled.
            inner = (
                inspect.getclosurevars(value).nonlocals.values() if isinstance(value, FunctionType) else ()
            )
            yield from (found for found in (value, *inner) if isinstance(found, functools._lru_cache_wrapper))
