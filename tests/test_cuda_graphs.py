"""Results that stay: what can be told without a GPU. tests/test_cuda.py has the rest."""

from __future__ import annotations

import pytest
import torch

from dipgo_fx.cuda_graphs import outliving

CUDA_GRAPHS = [
    {"mode": "reduce-overhead"},
    {"mode": "max-autotune"},
    {"options": {"triton.cudagraphs": True}},
    {"backend": "cudagraphs"},
]


def call(x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return what came."""
    return x, 3


@pytest.mark.parametrize("options", CUDA_GRAPHS)
def test_results_of_graphs_are_copied(options: dict[str, object]) -> None:
    """In memory of their own; what is no tensor is handed on."""
    x = torch.ones(2)
    found, number = outliving(call, options)(x)
    assert torch.equal(found, x)
    assert number == 3
    assert found.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("options", [{}, {"mode": "default"}, {"options": {}}, {"options": None}])
def test_other_calls_are_left_alone(options: dict[str, object]) -> None:
    """They allocate their results anew."""
    assert outliving(call, options) is call
