"""Compute once, when compiling, what depends on the timestep alone (time embeddings)."""

from __future__ import annotations

import operator
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import fx

from .base import GraphPass
from .drop_dead_blocks import erase_dead_nodes
from .stored_weights import compute_device, without_autocast
from .tags import tag

PREFIX = "_folded"


@final
@dataclass(frozen=True)
class FoldConstants(GraphPass):
    """Replace what is equal for every row of the batch and every run by a stored row.

    Before: `t = full((batch,), 981); e = time_embedding(time_proj(t)); block(x, e)`
    After:  `e = _folded_0.expand(batch, -1); block(x, e)`

    Only calls whose every input is such a timestep, a size or a number are folded; a time embedding
    that also reads class labels is not. The row is computed with a batch of one: a matrix product may
    round the last bit differently for other batches, so a folded graph equals the unfolded one bit for
    bit at batch 1 and to float rounding elsewhere. The folded row no longer follows later edits of the
    weights.
    """

    name: ClassVar[str] = "fold-constants"

    @torch.inference_mode(False)  # what is stored may be edited, cast and copied like any buffer
    @torch.no_grad()
    def rewrite(self, gm: fx.GraphModule) -> bool:
        """Evaluate constant nodes at batch 1 and store the ones that other nodes read."""
        with without_autocast(compute_device(gm)):
            rows, of_two = (_constant_rows(gm, batch) for batch in (1, 2))
        ends = [
            node
            for node, value in rows.items()
            if node.op == "call_module"
            and isinstance(value, torch.Tensor)
            and _is_one_row(node, value)
            and _is_one_row(node, of_two[node])  # or it depends on the number of the row
            and any(user not in rows for user in node.users)
        ]
        names: dict[Hashable, str] = {}  # equal rows are stored once
        for node in ends:
            value = rows[node][:1] if _has_rows(node) else rows[node]
            key = (value.dtype, value.shape, tuple(value.flatten().tolist()))
            name = names.setdefault(key, f"{PREFIX}_{len(names)}")
            gm.register_buffer(name, value.detach().clone(), persistent=False)
            _read(gm, node, name, len(rows[node]) if _has_rows(node) else 0)
        erase_dead_nodes(gm.graph)
        return bool(ends)


def _constant_rows(gm: fx.GraphModule, batch: int) -> dict[fx.Node, Any]:
    """Evaluate, for a batch, the nodes that depend on nothing but timesteps and sizes."""
    device = compute_device(gm)
    rows: dict[fx.Node, Any] = {}
    for node in gm.graph.nodes:
        if _is_batch_size(node):
            rows[node] = batch
        elif node.target is getattr and node.args[1] == "device":
            rows[node] = device
        elif node.target is getattr and node.args[1] == "dtype":
            rows[node] = node.meta["spec"]
        elif _is_pure(node) and all(read in rows for read in node.all_input_nodes):
            args, kwargs = fx.map_arg((node.args, node.kwargs), rows.__getitem__)
            rows[node] = _call(gm, node, args, kwargs)
    return rows


def _is_batch_size(node: fx.Node) -> bool:
    return node.op == "call_method" and node.target == "size" and tag(node, "step") == 0


def _is_pure(node: fx.Node) -> bool:
    """Tell whether a node may be evaluated now: a call in a step that has inputs of its own."""
    calls = node.op in ("call_module", "call_function", "call_method")
    return calls and bool(node.all_input_nodes) and tag(node, "role") is None


def _call(gm: fx.GraphModule, node: fx.Node, args: Any, kwargs: Any) -> Any:
    if node.op == "call_module":
        return gm.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _has_rows(node: fx.Node) -> bool:
    """Tell whether a tensor has rows for each sample."""
    return bool(node.meta["spec"].has_rows)


def _is_one_row(node: fx.Node, value: torch.Tensor) -> bool:
    """Tell whether a tensor is one row, several times: under guidance there are two per sample."""
    return not _has_rows(node) or torch.equal(value, value[:1].expand_as(value))


def _read(gm: fx.GraphModule, node: fx.Node, name: str, rows: int) -> None:
    """Let what reads a node read a stored value instead: a row so many times a sample, all of it if 0."""
    with gm.graph.inserting_before(node):
        stored = read = gm.graph.get_attr(name)
        if rows:
            size = count = next(n for n in gm.graph.nodes if _is_batch_size(n))
            if rows > 1:
                count = gm.graph.call_function(operator.mul, (size, rows))
                count.meta = {"custom": dict(node.meta["custom"])}
            kept = [-1] * (len(node.meta["spec"].shape) - 1)
            read = gm.graph.call_method("expand", (stored, count, *kept))
    for new in (stored, read):
        new.meta = dict(node.meta)
    node.replace_all_uses_with(read)
