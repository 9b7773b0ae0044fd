"""Where a module keeps its own `forward`, below the hooks of others."""

from __future__ import annotations

import functools
import inspect
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

HOOKING = ("accelerate", "diffusers")
"""Packages whose hooks put a `forward` of theirs around a module's own."""


def parameters_of(module: nn.Module) -> list[str]:
    """Return the names of the arguments of a module's own `forward`."""
    return list(inspect.signature(type(module).forward).parameters)[1:]


def is_hook(forward: Any) -> bool:
    """Tell whether a `forward` is that of a hook: a partial of one of theirs, not of the user's own."""
    if not isinstance(forward, functools.partial):
        return False
    return str(getattr(forward.func, "__module__", "")).partition(".")[0] in HOOKING


class StandIn:
    """What stands in for the `forward` of a model on a plan's behalf."""


class ForwardSlot:
    """Where a module keeps its own `forward`: hooks (offloading, casting) put theirs around it."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @property
    def current(self) -> Callable[..., Any]:
        """What runs innermost: the class's `forward`, or what was put in its place."""
        owner, name = self._place()
        return getattr(owner, name)  # type: ignore[no-any-return]

    @property
    def is_own(self) -> bool:
        """Whether that is the class's `forward`."""
        return getattr(self.current, "__func__", None) is type(self.module).forward

    def put(self, forward: Callable[..., Any]) -> None:
        """Let `forward` run in place of the class's."""
        owner, name = self._place()
        setattr(owner, name, forward)

    def restore(self) -> None:
        """Let the class's `forward` run again; a module without hooks is left without a trace of it."""
        owner, name = self._place()
        if owner is self.module and name == "forward":
            del self.module.__dict__["forward"]
        else:
            setattr(owner, name, self._own())

    @contextmanager
    def replaced(self, forward: Callable[..., Any]) -> Iterator[None]:
        """Let `forward` run in place of what runs innermost; afterwards it is as found."""
        owner, name = self._place()
        had, before = name in vars(owner), getattr(owner, name)
        setattr(owner, name, forward)
        try:
            yield
        finally:
            if had:
                setattr(owner, name, before)
            else:
                delattr(owner, name)

    @contextmanager
    def unpruned(self) -> Iterator[None]:
        """Let calls of the module go past a plan that runs it; hooks of others stay."""
        current = self.current
        if not isinstance(current, StandIn):
            yield
            return
        self.restore()
        try:
            yield
        finally:
            self.put(current)

    @contextmanager
    def bare(self) -> Iterator[None]:
        """Let calls of the module go to its class's `forward`, past all hooks; afterwards it is as found."""
        state = vars(self.module)
        names = ("forward", "_forward_hooks", "_forward_pre_hooks")
        before = {name: state[name] for name in names if name in state}
        state.update(forward=self._own(), _forward_hooks=OrderedDict(), _forward_pre_hooks=OrderedDict())
        try:
            yield
        finally:
            del state["forward"]
            state.update(before)

    def _own(self) -> Callable[..., Any]:
        return types.MethodType(type(self.module).forward, self.module)

    def _place(self) -> tuple[Any, str]:
        """Return the object and attribute that hold the innermost `forward`."""
        # accelerate keeps the forward that it found as `_old_forward`, diffusers that of its first hook.
        places: list[tuple[Any, str]] = [(self.module, "forward")]
        if "_old_forward" in vars(self.module):
            places.append((self.module, "_old_forward"))
        registry = getattr(self.module, "_diffusers_hook", None)
        for reference in getattr(registry, "_fn_refs", [])[:1]:
            name = "forward" if reference.original_forward is None else "original_forward"
            places.append((reference, name))
        for owner, name in reversed(places):
            if not is_hook(getattr(owner, name)):
                return owner, name
        return places[0]
