"""Values that a model's Python asks for while it is recorded, worked out from the inputs at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from .errors import TraceError

READERS = frozenset({"item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__"})
"""Tensor methods that hand values to Python."""


class KnownValues:
    """Works out recorded tensors that depend on few inputs: masks, lengths, positions.

    Args:
        inputs: the placeholders whose values may be read, with these values. Whatever is read makes the graph
            one for these values only, see `read`.
        attribute: returns a constant or a parameter by the target of its node.
    """

    def __init__(
        self, inputs: Mapping[fx.Node, torch.Tensor], attribute: Callable[[str], torch.Tensor]
    ) -> None:
        self.inputs, self.attribute = inputs, attribute
        self.read: list[fx.Node] = []
        self._values: dict[fx.Node, Any] = {}

    def of(self, node: fx.Node) -> Any:
        """Return the value of a node. Raises `TraceError` if it follows from inputs that always change."""
        if node in self._values:
            return self._values[node]
        if node.op == "placeholder":
            if node not in self.inputs:
                raise TraceError(
                    "its Python depends on the values of a tensor that changes at every step, which a "
                    "recorded call cannot"
                )
            self.read.append(node)
            value: Any = self.inputs[node]
        elif node.op == "get_attr":
            value = self.attribute(str(node.target))
        elif node.op == "call_module":
            raise TraceError(f"its Python depends on the values of a tensor that {node.target} returns")
        else:
            args, kwargs = fx.map_arg((node.args, node.kwargs), self.of)
            target: Any = node.target
            value = (
                getattr(args[0], target)(*args[1:], **kwargs)
                if node.op == "call_method"
                else target(*args, **kwargs)
            )
        self._values[node] = value
        return value


def indexed(index: Any) -> tuple[Any, ...]:
    """Return an index with its masks as the places where they are true: shapes then follow from it."""
    parts = index if isinstance(index, tuple) else (index,)
    found: list[Any] = []
    for part in parts:
        is_mask = isinstance(part, torch.Tensor) and part.dtype == torch.bool and part.dim() > 0
        found += part.nonzero(as_tuple=True) if is_mask else [part]
    return tuple(found)


def written(tensor: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    """Return a copy of `tensor` with `tensor[index] = value`: what a graph has for an assignment."""
    result = tensor.clone()
    result[index] = value
    return result


def is_discrete(value: Any) -> bool:
    """Tell whether a value is a tensor of integers or truths."""
    return isinstance(value, torch.Tensor) and not value.is_floating_point() and not value.is_complex()


def leaves(values: Any) -> list[Any]:
    """Return all that nested values hold, ends of slices too."""
    found = pytree.tree_leaves(values)
    ends = [end for leaf in found if isinstance(leaf, slice) for end in (leaf.start, leaf.stop, leaf.step)]
    return found + ends


def map_tensors(function: Callable[[torch.Tensor], Any], values: Any) -> Any:
    """Return nested values with `function` of each tensor; ends of slices become numbers."""

    def end(value: Any) -> Any:
        return int(function(value)) if isinstance(value, torch.Tensor) else value

    def mapped(leaf: Any) -> Any:
        if isinstance(leaf, slice):
            return slice(end(leaf.start), end(leaf.stop), end(leaf.step))
        return function(leaf) if isinstance(leaf, torch.Tensor) else leaf

    return pytree.tree_map(mapped, values)
