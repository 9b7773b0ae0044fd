"""Two recordings of one loop with different numbers of rows become one graph for any number."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx

from .errors import TraceError
from .recorder import Recorder
from .tags import TensorSpec

ROWS = (17, 19)
"""Batch sizes to record with: unlike each other and most other sizes; what differs between both is rows."""

SHOWN = 60
"""Characters of a value that an error shows."""


def unify_rows(first: Recorder, second: Recorder) -> dict[str, torch.Tensor]:
    """Make the graph of `first` run with any number of rows; return its constants.

    Python that was recorded may use the batch size as a number, as stock pipelines do (`len(prompt)`): what
    comes out as k times the batch size in both recordings becomes that. Constants with rows are stored once.

    Raises `TraceError` where the recordings differ in anything else: Python that branches on the batch size.
    """
    return _Unified(first, second).constants()


@dataclass
class _Unified:
    first: Recorder
    second: Recorder
    _twin: dict[fx.Node, fx.Node] = field(default_factory=dict)
    _sizes: dict[int, fx.Node] = field(default_factory=dict)

    def constants(self) -> dict[str, torch.Tensor]:
        """Go through both graphs node by node."""
        ours, theirs = list(self.first.graph.nodes), list(self.second.graph.nodes)
        if len(ours) != len(theirs):
            raise TraceError(
                f"{len(ours)} calls were recorded with {self.first.batch} samples and {len(theirs)} with "
                f"{self.second.batch}: the pipeline's Python branches on the batch size"
            )
        kept: dict[str, torch.Tensor] = {}
        guard = next(node for node in ours if node.op == "call_module")
        with self.first.graph.inserting_after(guard):
            self._sizes[1] = self.first.graph.call_method("size", (guard, 0))
        self._sizes[1].meta = {"custom": dict(guard.meta["custom"]), "spec": 1}
        for node, twin in zip(ours, theirs, strict=True):
            if (node.op, node.target) != (twin.op, twin.target):
                raise self._differs(node, node.target, twin.target)
            node.args = self._merged(node, node.args, twin.args)
            node.kwargs = self._merged(node, node.kwargs, twin.kwargs)
            if "spec" in node.meta:
                node.meta["spec"] = self._spec(node.meta["spec"], twin.meta["spec"])
            is_constant = node.op == "get_attr" and str(node.target) in self.first.constants
            self._twin[twin] = self._constant(node, kept) if is_constant else node
        if not self._sizes[1].users:
            self.first.graph.erase_node(self._sizes[1])
        return kept

    def _merged(self, node: fx.Node, ours: Any, theirs: Any) -> Any:
        """Return arguments of both recordings as one."""
        if isinstance(ours, fx.Node) and isinstance(theirs, fx.Node) and self._twin.get(theirs) is ours:
            return ours
        if type(ours) is not type(theirs):
            raise self._differs(node, ours, theirs)
        if isinstance(ours, slice):
            return slice(*self._merged(node, _ends(ours), _ends(theirs)))
        if isinstance(ours, (tuple, list)) and len(ours) == len(theirs):
            merged = [self._merged(node, *pair) for pair in zip(ours, theirs, strict=True)]
            return merged if isinstance(ours, list) else tuple(merged)
        if isinstance(ours, list) and _repeats(ours) and _repeats(theirs) and ours[0] == theirs[0]:
            return self._list(node, ours[:1], len(ours), len(theirs))
        if isinstance(ours, Mapping) and ours.keys() == theirs.keys():
            return {key: self._merged(node, value, theirs[key]) for key, value in ours.items()}
        if isinstance(ours, int) and ours != theirs:
            return self._size(node, ours, theirs)
        if ours != theirs:
            raise self._differs(node, ours, theirs)
        return ours

    def _list(self, node: fx.Node, entry: list[Any], ours: int, theirs: int) -> fx.Node:
        """Return the node of a list that has the same entry for every row."""
        size, graph = self._size(node, ours, theirs), self.first.graph
        with graph.inserting_after(max(self._sizes.values())):
            made = graph.call_function(operator.mul, (entry, size))
        made.meta = {"custom": dict(size.meta["custom"]), "spec": entry}
        return made

    def _size(self, node: fx.Node, ours: int, theirs: int) -> fx.Node:
        """Return the node of a number that is a multiple of the batch size in both recordings."""
        factor, rest = divmod(ours, self.first.batch)
        if rest or theirs != factor * self.second.batch:
            raise self._differs(node, ours, theirs)
        if factor not in self._sizes:
            size = self._sizes[1]
            with self.first.graph.inserting_after(size):
                self._sizes[factor] = self.first.graph.call_function(operator.mul, (size, factor))
            self._sizes[factor].meta = {"custom": dict(size.meta["custom"]), "spec": factor}
        return self._sizes[factor]

    def _constant(self, node: fx.Node, kept: dict[str, torch.Tensor]) -> fx.Node:
        """Store a constant, rows that are all equal once, and return the node that stands for it."""
        target = str(node.target)
        ours, theirs = self.first.constants[target], self.second.constants[target]
        kept[target] = ours
        if ours.shape == theirs.shape:
            if not torch.equal(ours, theirs):
                raise self._differs(node, "a constant", "one with other values")
            return node
        groups, rest = divmod(ours.shape[0], self.first.batch)
        shape = ours.shape[1:]
        if rest or theirs.shape != (groups * self.second.batch, *shape):
            raise self._differs(node, tuple(ours.shape), tuple(theirs.shape))
        stored = ours.view(groups, self.first.batch, *shape)[:, :1]
        for tensor, rows in ((ours, self.first.batch), (theirs, self.second.batch)):
            if not torch.equal(tensor.view(groups, rows, *shape), stored.expand(groups, rows, *shape)):
                raise self._differs(node, "a constant with rows", "rows that differ from each other")
        kept[target] = stored.clone()
        return self._expanded(node, groups, shape)

    def _expanded(self, node: fx.Node, groups: int, shape: torch.Size) -> fx.Node:
        """Add what makes rows of a stored constant; constants stand behind the sizes."""
        graph, users = self.first.graph, list(node.users)
        total = self._size(node, groups * self.first.batch, groups * self.second.batch)
        with graph.inserting_after(node):
            expanded = graph.call_method("expand", (node, groups, self._sizes[1], *shape))
        with graph.inserting_after(expanded):
            rows = graph.call_method("reshape", (expanded, (total, *shape)))
        spec = node.meta["spec"]
        rows.meta = {"custom": dict(node.meta["custom"]), "spec": replace(spec, shape=(groups, *shape))}
        for new in (node, expanded):
            new.meta = {**rows.meta, "spec": replace(spec, shape=(groups, 1, *shape))}
        for user in users:
            user.replace_input_with(node, rows)
        return rows

    def _spec(self, ours: Any, theirs: Any) -> Any:
        """Return what a value looks like for one sample."""
        if isinstance(ours, TensorSpec):
            shape = (self._for_one(*sizes) for sizes in zip(ours.shape, theirs.shape, strict=True))
            return TensorSpec(tuple(shape), ours.dtype, ours.device, ours.shape[:1] != theirs.shape[:1])
        if isinstance(ours, (tuple, list)):
            return type(ours)(self._spec(*pair) for pair in zip(ours, theirs, strict=True))
        if isinstance(ours, Mapping):
            return {key: self._spec(value, theirs[key]) for key, value in ours.items()}
        return self._for_one(ours, theirs) if type(ours) is int else ours

    def _for_one(self, ours: int, theirs: int) -> int:
        slope = (theirs - ours) // (self.second.batch - self.first.batch)
        return ours - slope * (self.first.batch - 1)

    def _differs(self, node: fx.Node, ours: Any, theirs: Any) -> TraceError:
        return TraceError(
            f"step {node.meta['custom']['step']}, {node.name}: {_short(ours)} with {self.first.batch} "
            f"samples and {_short(theirs)} with {self.second.batch}: what is computed may not depend on "
            "the batch size"
        )


def _repeats(values: Any) -> bool:
    """Tell whether a list holds the same value over and over."""
    return bool(values) and all(value == values[0] for value in values)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _ends(part: slice) -> tuple[Any, Any, Any]:
    return part.start, part.stop, part.step
