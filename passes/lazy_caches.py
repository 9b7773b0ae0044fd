"""What a model keeps of its first call, such as tables of positions: a recording must not leave it there."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FunctionType
from typing import Any

from diffusers.configuration_utils import FrozenDict
from torch import nn


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """Let a model run on fake tensors; afterwards modules hold what they held, and no function caches any.

    A length that stands beside a table is put back with it, and so is a count of calls.
    """
    before = {
        module: {name: (value, _copied(value)) for name, value in vars(module).items()}
        for module in model.modules()
    }
    try:
        yield
    finally:
        for module, attributes in before.items():
            _restore(vars(module), attributes)
        for cache in _function_caches({type(module) for module in before}):
            cache.cache_clear()


def _copied(value: Any) -> Any:
    """Return a value with copies of the lists and mappings in it, which may come to hold more.

    A configuration of diffusers is a mapping that cannot, and is its own copy.
    """
    if isinstance(value, dict) and not isinstance(value, FrozenDict):
        return {name: _copied(held) for name, held in value.items()}
    return [*map(_copied, value)] if isinstance(value, list) else value


def _restore(state: dict[str, Any], before: Mapping[str, tuple[Any, Any]]) -> None:
    """Put the attributes of a module back, lists and mappings with what they held."""
    for name in [name for name in state if name not in before]:
        del state[name]
    for name, (value, held) in before.items():
        state[name] = value
        if value is held:
            continue
        value.clear()
        if isinstance(value, dict):
            value.update(held)
        else:
            value.extend(held)


def _function_caches(kinds: Iterable[type]) -> Iterator[Any]:
    """Yield the cached functions among the methods of classes, and beside these in their files."""
    owners = {owner for kind in kinds for owner in kind.__mro__}
    files = {sys.modules[owner.__module__] for owner in owners if owner.__module__ in sys.modules}
    for place in (*owners, *files):
        for value in [*vars(place).values()]:
            # diffusers has such a function inside another, which goes past it when a model is compiled.
            inner = _enclosed(value) if isinstance(value, FunctionType) else ()
            yield from (found for found in (value, *inner) if isinstance(found, functools._lru_cache_wrapper))


def _enclosed(function: FunctionType) -> Iterator[Any]:
    """Yield what a function holds of the one that it was written in."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # nothing is in it yet
            yield cell.cell_contents
