"""When two modules compute alike: same classes, options and weight shapes, whatever the weights."""

from __future__ import annotations

import functools
import types
from collections.abc import Hashable
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from .tags import TensorSpec

_OPTION_TYPES = (int, float, str, bool, type(None), torch.dtype)
_VALUES = (
    *_OPTION_TYPES,
    Enum,
    np.generic,
    torch.device,
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
)
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}
_HOOKS = frozenset({"_hf_hook", "_old_forward", "_diffusers_hook"})  # move weights about, compute nothing
_DEEPEST = 4
"""How far options are looked into; what lies deeper is equal only to itself."""


def module_signature(module: nn.Module) -> Hashable:
    """Return a key that is equal for modules of equal structure (a DiT's 28 blocks, say)."""
    return tuple((name, _own(child)) for name, child in module.named_modules())


def call_signature(module: nn.Module, args: Any, kwargs: Any) -> Hashable:
    """Return a key that is equal for calls that do the same work on tensors of the same shapes."""
    leaves, spec = pytree.tree_flatten((args, kwargs))
    return module_signature(module), str(spec), tuple(_value(leaf) for leaf in leaves)


def _own(module: nn.Module) -> Hashable:
    options = tuple(
        (name, _option(value))
        for name, value in sorted(vars(module).items())
        if name not in _OF_EVERY_MODULE | _HOOKS and not name.startswith("__")
    )
    weights = tuple(
        (name, tuple(tensor.shape), tensor.dtype)
        for named in (module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        for name, tensor in named
    )
    return type(module), options, weights


def _option(value: Any, depth: int = 0) -> Any:
    """Return what an attribute says of how its module computes; what it does not tell equals only itself."""
    if isinstance(value, _VALUES):
        return type(value), value
    if isinstance(value, nn.Module):  # a part is a child, and told there
        return type(value)
    if isinstance(value, torch.Tensor):
        return tuple(map(str, value.shape)), value.dtype
    if depth == _DEEPEST:
        return id(value)
    if isinstance(value, (list, tuple)):
        return type(value), tuple(_option(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return type(value), tuple((str(key), _option(item, depth + 1)) for key, item in value.items())
    if isinstance(value, (set, frozenset)):
        return type(value), tuple(sorted(map(str, value)))
    if isinstance(value, types.MethodType):
        return value.__func__, _option(value.__self__, depth + 1)
    if isinstance(value, functools.partial):
        return _option((value.func, value.args, value.keywords), depth + 1)
    held = getattr(value, "__dict__", None)
    return id(value) if held is None else (type(value), _option(held, depth + 1))


def _is_option(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_option(item) for item in value)
    return isinstance(value, _OPTION_TYPES)


def _value(leaf: Any) -> Hashable:
    if isinstance(leaf, TensorSpec):
        return leaf
    if isinstance(leaf, torch.Tensor):
        return tuple(map(str, (*leaf.shape, *leaf.stride()))), leaf.dtype, leaf.device
    return leaf if _is_option(leaf) else id(leaf)
