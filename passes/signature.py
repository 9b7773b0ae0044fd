"""When two modules compute alike: same classes, options and weight shapes, whatever the weights."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from .tags import TensorSpec

_OPTION_TYPES = (int, float, str, bool, type(None), torch.dtype)
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}


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
        if name not in _OF_EVERY_MODULE and not name.startswith("__")
    )
    weights = tuple(
        (name, tuple(tensor.shape), tensor.dtype)
        for named in (module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        for name, tensor in named
    )
    return type(module), options, weights


def _option(value: Any) -> Any:
    """Return what an attribute says of how its module computes; of other objects only their type is known."""
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(_option, value))
    if isinstance(value, dict):
        return type(value), tuple((str(key), _option(item)) for key, item in value.items())
    if isinstance(value, (set, frozenset)):
        return type(value), tuple(sorted(map(str, value)))
    return value if isinstance(value, _OPTION_TYPES) else type(value)


def _is_option(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_option(item) for item in value)
    return isinstance(value, _OPTION_TYPES)


def _value(leaf: Any) -> Hashable:
    if isinstance(leaf, TensorSpec):
        return leaf
    if isinstance(leaf, torch.Tensor):
        return tuple(str(size) for size in leaf.shape), leaf.dtype, leaf.device
    return leaf if _is_option(leaf) else id(leaf)
