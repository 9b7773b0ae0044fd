"""The gate: a node that passes a block's fresh output or its backup."""

from __future__ import annotations

from typing import Any

import torch


def gate(backup: torch.Tensor, fresh: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return `backup + weight * (fresh - backup)`, differentiable in all three.

    At weight 0 and 1 the value is one of the inputs, bit for bit and stride for stride: arithmetic or a
    copy may give a single sample other strides, and with them the next convolution another kernel.

    Args:
        backup: value of a closed gate, of the shape of `fresh`.
        fresh: value of an open gate.
        weight: 0-dim, in the dtype of the values.
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
        return gradient * (1 - weight), gradient * weight, (gradient * (fresh - backup)).sum()
