"""The two calls that guidance makes at a step as one, where both run the same blocks."""

from __future__ import annotations

import operator
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import torch
from torch import fx
from torch.utils import _pytree as pytree

from .base import GraphPass
from .drop_dead_blocks import erase_dead_nodes
from .model_calls import ModelCall, model_calls
from .tags import TensorSpec, beside_the_model, tag


@final
@dataclass(frozen=True)
class JoinCalls(GraphPass):
    """Call the model once on twice the rows where a step calls it twice for the same blocks.

    Before: `u = block(x, t, nothing); c = block(x, t, prompt)`
    After:  `u, c = block(cat(x, x), cat(t, t), cat(nothing, prompt)).chunk(2)`

    A device that small batches leave idle takes hardly longer for twice the rows. Kernels may round the last
    bit otherwise for them. Calls stay apart whose blocks differ, or that read or hand on what is not known
    to have one row per sample.
    """

    name: ClassVar[str] = "join-calls"

    def rewrite(self, gm: fx.GraphModule) -> bool:
        """Join the calls of each step, if there are two of a kind."""
        by_step: dict[int, list[ModelCall]] = defaultdict(list)
        for call in model_calls(gm.graph):
            by_step[tag(call.body[0], "step")].append(call)
        is_joined = False
        for calls in by_step.values():
            # Not before its turn: a step may read halves of what an earlier one makes.
            if len(calls) == 2 and (pair := _Pair(*calls)).is_alike:
                pair.join()
                is_joined = True
        erase_dead_nodes(gm.graph)  # halves that nobody reads
        return is_joined


class _Pair:
    """Two calls of one step."""

    def __init__(self, first: ModelCall, second: ModelCall) -> None:
        self.first, self.second = first, second
        self.start = first.body[0]
        self.graph = self.start.graph
        self.inputs = list(zip(first.inputs, second.inputs, strict=False))
        self.read = sorted(first.read | second.read)

    @property
    def is_alike(self) -> bool:
        """Whether one call can stand for both: the same of inputs that are all there before the first."""
        bodies = zip(self.first.body, self.second.body, strict=False)
        return (
            self.first.key == self.second.key
            and all(one.op == "get_attr" or max(one, other) < self.start for one, other in self.inputs)
            and all(_can_join(*pair) for pair in self.inputs)
            and all(_has_rows(one) for place, (one, _) in enumerate(bodies) if place in self.read)
        )

    def join(self) -> None:
        """Write the joined call before the first; readers of both read the halves of what it makes."""
        copies: dict[fx.Node, fx.Node] = {}
        with self.graph.inserting_before(self.start):
            for one, other in self.inputs:
                copies[one] = self._joined(one, other)
            for node, twin in zip(self.first.body, self.second.body, strict=True):
                copies[node] = self.graph.node_copy(node, copies.__getitem__)
                copies[node].meta = {**twin.meta, "spec": _doubled(twin.meta.get("spec"))}
            for place in self.read:
                self._hand_on(copies[self.first.body[place]], place)
        for node in reversed([*self.first.body, *self.second.body]):
            self.graph.erase_node(node)

    def _joined(self, one: fx.Node, other: fx.Node) -> fx.Node:
        """Return what the joined call reads for an input of both."""
        if one.op == "get_attr":
            if self.start < one:  # a constant of the loop may stand before all steps
                self.start.prepend(one)
            return one
        if _has_rows(one):
            return self._outside(self.graph.call_function(torch.cat, ([one, other],)), one)
        if _is_size(one):
            return self._outside(self.graph.call_function(operator.mul, (one, 2)), one)
        return one

    def _hand_on(self, copy: fx.Node, place: int) -> None:
        """Let readers of a value of both calls read its halves."""
        halves = self._outside(self.graph.call_method("chunk", (copy, 2)), copy)
        for half, call in enumerate((self.first, self.second)):
            node = call.body[place]
            item = self.graph.call_function(operator.getitem, (halves, half))
            item.meta = {**node.meta, "custom": {**node.meta["custom"], "in_model": False}}
            node.replace_all_uses_with(item)

    def _outside(self, node: fx.Node, like: fx.Node) -> fx.Node:
        """Tag a node beside the model, of the step of the calls."""
        step = tag(self.start, "step")
        node.meta = {
            "custom": beside_the_model(step),
            "spec": _doubled(like.meta["spec"]),
        }
        return node


def _can_join(one: fx.Node, other: fx.Node) -> bool:
    """Tell whether it is known what two calls as one read for an input of both."""
    if "get_attr" in (one.op, other.op):
        return one.op == other.op and one.target == other.target
    if one is not other:
        return _has_rows(one) and _has_rows(other)
    spec = one.meta.get("spec")
    if isinstance(spec, TensorSpec):
        return not spec.has_rows or _has_rows(one)
    return type(spec) is not int or _is_size(one)


def _has_rows(node: fx.Node) -> bool:
    """Tell whether a value is a tensor with one row per sample."""
    spec = node.meta.get("spec")
    return isinstance(spec, TensorSpec) and spec.has_rows and spec.shape[0] == 1


def _is_size(node: fx.Node) -> bool:
    """Tell whether a value is the number of samples."""
    return node.op == "call_method" and node.target == "size" and node.meta.get("spec") == 1


def _doubled(spec: Any) -> Any:
    """Return what a value looks like, for one sample, where there are two rows of it."""

    def twice(leaf: Any) -> Any:
        if isinstance(leaf, TensorSpec) and leaf.has_rows:
            return replace(leaf, shape=(2 * leaf.shape[0], *leaf.shape[1:]))
        return leaf

    return pytree.tree_map(twice, spec)
