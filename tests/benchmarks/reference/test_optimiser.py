"""Muon: steps of equal singular values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.reference.optimiser import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(8, 8), (16, 4), (4, 16)])
def test_singular_values_are_near_one(shape: tuple[int, int]) -> None:
    """Whatever they were, tall or wide; directions stay."""
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalised(matrices)
    assert found.shape == matrices.shape
    values = torch.linalg.svdvals(found)
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.3
    assert bool(((found * matrices).sum((1, 2)) > 0).all())


def test_weights_of_one_shape_move_as_if_alone() -> None:
    """Sharing products changes no step; a convolution is a matrix of a row a channel."""
    source = torch.Generator().manual_seed(0)
    gradients = [torch.randn(shape, generator=source) for shape in ((4, 2, 3, 3), (4, 18), (4, 18))]

    def moved(chosen: list[torch.Tensor]) -> list[torch.Tensor]:
        weights = [nn.Parameter(torch.zeros_like(gradient)) for gradient in chosen]
        optimiser = Muon(weights, lr=0.1)
        for _ in range(2):
            for weight, gradient in zip(weights, chosen, strict=True):
                weight.grad = gradient.clone()
            optimiser.step()
        return [weight.detach() for weight in weights]

    together = moved(gradients)
    for gradient, weight in zip(gradients, together, strict=True):
        torch.testing.assert_close(moved([gradient])[0], weight)
        assert float((weight * gradient).sum()) < 0


def test_a_quadratic_is_descended() -> None:
    """The loss falls; weights without a gradient stay."""
    weight, other = nn.Parameter(torch.eye(6)), nn.Parameter(torch.eye(6))
    optimiser = Muon([weight, other], lr=0.05)
    losses = []
    for _ in range(10):
        loss = weight.square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert torch.equal(other, torch.eye(6))
    with pytest.raises(ValueError, match="no closure"):
        optimiser.step(lambda: 0.0)
