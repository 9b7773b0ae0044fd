"""Count the multiply-accumulates that really run, whoever decides at run time what to skip."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from dipgo_fx.macs import Cost


class MacMeter(TorchFunctionMode):
    """Counts matrix products, convolutions and attention inside a `with` block, as `count_macs` does.

    Seen are the calls that modules make, so work in a module that was not called is not counted. What
    torch calls inside of such a call is not seen, so attention counts once, whatever kernel runs it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products = self.attention = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a call and count it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self.attention += _attention(*args, **kwargs)
        elif func in _PRODUCTS:
            self.products += _PRODUCTS[func](result, *args, **kwargs)
        return result

    def cost(self, samples: int) -> Cost:
        """Return the count for one of `samples` samples.

        Raises `ValueError` if it does not divide, as no call whose rows are those of the batch does.
        """
        total, attention = self.products + self.attention, self.attention
        if total % samples or attention % samples:
            raise ValueError(f"{total} MACs are no multiple of {samples} samples")
        return Cost(total // samples, attention // samples)


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **more: Any) -> int:
    return query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _matmul(result: torch.Tensor, left: torch.Tensor, *rest: Any, **more: Any) -> int:
    return result.numel() * left.shape[-1]


def _added_matmul(result: torch.Tensor, added: Any, left: torch.Tensor, *rest: Any, **more: Any) -> int:
    return result.numel() * left.shape[-1]


def _convolution(result: torch.Tensor, data: Any, weight: torch.Tensor, *rest: Any, **more: Any) -> int:
    return result.numel() * weight.shape[1:].numel()


def _transposed(result: Any, data: torch.Tensor, weight: torch.Tensor, *rest: Any, **more: Any) -> int:
    return data.numel() * weight.shape[1:].numel()


def _einsum(result: torch.Tensor, equation: str, *operands: Any) -> int:
    """Each of the result's values sums over the names that are missing in it."""
    if len(operands) == 1:
        return 0
    inputs, _, output = equation.replace(" ", "").partition("->")
    if len(operands) > 2 or not output:
        raise NotImplementedError(f"no count for einsum {equation!r} of {len(operands)} operands")
    sizes: dict[str, int] = {}
    for names, operand in zip(inputs.split(","), operands, strict=True):
        front, _, back = names.partition("...")
        sizes |= dict(zip(front, operand.shape, strict=False))
        sizes |= dict(zip(reversed(back), reversed(operand.shape), strict=False))
    return result.numel() * prod(size for name, size in sizes.items() if name not in output)


_PRODUCTS: dict[Any, Callable[..., int]] = {
    **dict.fromkeys((F.linear, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__), _matmul),
    **dict.fromkeys((torch.mm, torch.Tensor.mm, torch.bmm, torch.Tensor.bmm), _matmul),
    **dict.fromkeys((torch.addmm, torch.Tensor.addmm, torch.baddbmm, torch.Tensor.baddbmm), _added_matmul),
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), _convolution),
    **dict.fromkeys((torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d), _transposed),
    torch.einsum: _einsum,
}
