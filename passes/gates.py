"""The two nodes of a SuperNet: a gate between fresh and backup, and the forecast that a backup is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from .gate_table import GateTable, is_repeat, terms
from .tags import tag


def gate(backup: torch.Tensor, fresh: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return `backup + weight * (fresh - backup)`, differentiable in all three.

    At weight 0 and 1 the value is one of the inputs, bit for bit and stride for stride: arithmetic or a
    copy may give a single sample other strides, and with them the next convolution another kernel.

    Args:
        backup: value of a closed gate, of the shape of `fresh`.
        fresh: value of an open gate.
        weight: 0-dim, in the dtype of the values.

    Example:
        >>> backup, fresh = torch.zeros(2), torch.ones(2)
        >>> dipgo_fx.passes.gate(backup, fresh, torch.tensor(0.25))
        tensor([0.2500, 0.2500])
    """
    result: torch.Tensor = _Gate.apply(backup, fresh, weight)  # type: ignore[no-untyped-call]
    return result


class _Gate(torch.autograd.Function):
    """`gate` with its gradient."""

    @staticmethod
    def forward(ctx: Any, backup: torch.Tensor, fresh: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(backup, fresh, weight)
        if weight == 1:
            return fresh.detach()
        if weight == 0:
            return backup.detach()
        return torch.lerp(backup, fresh, weight.item())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        (gradient,) = gradients
        backup, fresh, weight = ctx.saved_tensors
        slope = (gradient * (fresh - backup)).sum().to(weight)
        return gradient * (1 - weight), gradient * weight, slope


def forecast(weights: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
    """Return the sum of `weights[k] * values[k]`, differentiable in all of them.

    A single weight of 1 passes its value through, bit for bit and stride for stride.

    Args:
        weights: at least as many entries as there are values; further ones are not read.
        values: of equal shape, a block's computed outputs, newest first.

    Example:
        >>> last, before = torch.tensor([3.0]), torch.tensor([2.0])
        >>> dipgo_fx.passes.forecast(torch.tensor([2.0, -1.0, 0.0]), last, before)
        tensor([4.])
    """
    result: torch.Tensor = _Forecast.apply(weights, *values)  # type: ignore[no-untyped-call]
    return result


def write_forecast(graph: fx.Graph, pairs: Sequence[tuple[fx.Node, float | fx.Node]]) -> list[fx.Node]:
    """Write the weighted sum of values as plain arithmetic, which compilers know; the last node is the sum.

    Args:
        graph: nodes go to its point of insertion.
        pairs: values and their weights, at least one.
    """
    (value, weight), *rest = pairs
    written = [graph.call_function(torch.mul, (value, weight))]
    for value, weight in rest:
        written.append(graph.call_function(torch.add, (written[-1], value), {"alpha": weight}))
    return written


class _Forecast(torch.autograd.Function):
    """`forecast` with its gradient."""

    @staticmethod
    def forward(ctx: Any, weights: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum of the values, newest first."""
        ctx.save_for_backward(weights, *values)
        # The same operations in the same order as `write_forecast` writes: a SubNet gives the same bits.
        used = terms(weights.tolist(), len(values))
        (first, weight), *rest = used
        if is_repeat(used):
            return values[first].detach()
        result = torch.mul(values[first], weight)
        for k, weight in rest:
            result = torch.add(result, values[k], alpha=weight)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the gradients of the weights and of each value."""
        (gradient,) = gradients
        weights, *values = ctx.saved_tensors
        slopes = torch.zeros_like(weights)
        for k, value in enumerate(values):
            slopes[k] = (gradient * value).sum().to(weights)
        return slopes, *(gradient * weights[k] for k in range(len(values)))


def side_taken(node: fx.Node, table: GateTable) -> fx.Node | None:
    """Return the side of a gate that a table takes, `None` for a node that is no gate."""
    if tag(node, "role") not in ("gate", "history"):
        return None
    backup, fresh, entry = node.args
    _, step, block = tag(entry, "entry")  # type: ignore[arg-type]
    return fresh if table.keep_rows[step][block] else backup  # type: ignore[return-value]
