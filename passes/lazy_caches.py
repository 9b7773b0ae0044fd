"""What a model keeps of its first call, such as tables of positions: a recording must not leave it there."""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from torch import nn


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """Let a model run on fake tensors; afterwards modules hold what they held, and no function caches any.

    A length that stands beside a table is put back with it, and so is a count of calls.
    """
    kinds, before = {*map(type, model.modules())}, [_Held.of(vars(module)) for module in model.modules()]
    try:
        yield
    finally:
        for held in before:
            held.put_back()
        for cache in _function_caches(kinds):
            cache.cache_clear()


@dataclass(frozen=True)
class _Held:
    """A value and, of a list or mapping, what is in it."""

    value: Any
    parts: tuple[tuple[Any, _Held], ...] = ()

    @classmethod
    def of(cls, value: Any) -> _Held:
        """Note what is in a value now."""
        if isinstance(value, dict):
            items: Iterable[tuple[Any, Any]] = value.items()
        else:
            items = enumerate(value) if isinstance(value, list) else ()
        return cls(value, tuple((key, cls.of(part)) for key, part in items))

    def put_back(self) -> Any:
        """Return the value with what was in it. Nothing is edited that did not change: some cannot be."""
        value, parts = self.value, {key: part.put_back() for key, part in self.parts}
        if isinstance(value, dict):
            if [*value] != [*parts] or not _are(value.values(), parts.values()):
                value.clear()
                value.update(parts)
        elif isinstance(value, list) and not _are(value, parts.values()):
            value[:] = parts.values()
        return value


def _are(ours: Collection[Any], theirs: Collection[Any]) -> bool:
    """Tell whether two collections hold the very same."""
    return [*map(id, ours)] == [*map(id, theirs)]


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
