"""Muon in float32, for the hidden weights of small models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import final

import torch
from torch import nn


@final
class Muon(torch.optim.Optimizer):
    """Momentum whose steps have equal singular values (K. Jordan et al., Muon, 2024).

    Differs from `torch.optim.Muon` in three points: it computes in float32, which is much faster
    where bfloat16 is not native; weights of one shape share their matrix products; convolutions
    are taken as matrices of one row per output channel. Steps are scaled to the size of
    AdamW's, 0.2 times the root of the longer side (arXiv 2502.16982, section 2.2), and so may use
    AdamW's learning rate.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        """Collect `params`, all of two or more dimensions."""
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step; `closure` must be None."""
        if closure is not None:
            raise ValueError("expected no closure: Muon evaluates the loss once per step")
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.flatten(1).shape].append(parameter)
            for shape, parameters in by_shape.items():
                steps = orthogonalised(self._momenta(parameters, group["momentum"]))
                size = 0.2 * max(shape) ** 0.5 * group["lr"]
                for parameter, step in zip(parameters, steps, strict=True):
                    parameter.sub_(step.view(parameter.shape), alpha=size)

    def _momenta(self, parameters: list[nn.Parameter], momentum: float) -> torch.Tensor:
        """Return the Nesterov momenta of weights of one shape, `(count, rows, columns)`."""
        looked_ahead = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(parameter.grad, 1 - momentum)
            looked_ahead.append(parameter.grad.lerp(state["momentum"], momentum).flatten(1))  # type: ignore[union-attr]
        return torch.stack(looked_ahead)


def orthogonalised(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Bring the singular values of `matrices` `(n, rows, columns)` near 1, by Newton-Schulz steps."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(steps):
        square = x @ x.mT
        odd = torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, odd, x, beta=3.4445)
    return x.mT.contiguous() if tall else x
