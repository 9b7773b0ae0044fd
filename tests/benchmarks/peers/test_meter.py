"""The meter counts what runs, as the compiler's own count does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.peers.meter import MacMeter
from dipgo_fx.macs import Cost

pytestmark = pytest.mark.long


def metered(run: Callable[[], object], samples: int = 1) -> Cost:
    """Return what a run costs."""
    with MacMeter() as meter:
        run()
    return meter.cost(samples)


A, B = torch.ones(2, 3, 4), torch.ones(2, 4, 5)


@pytest.mark.parametrize(
    ("run", "macs"),
    [
        (lambda: F.linear(torch.ones(7, 4), torch.ones(5, 4)), 7 * 4 * 5),
        (lambda: A @ B, 2 * 3 * 4 * 5),
        (lambda: torch.bmm(A, B), 2 * 3 * 4 * 5),
        (lambda: torch.baddbmm(torch.ones(2, 3, 5), A, B), 2 * 3 * 4 * 5),
        (lambda: torch.einsum("bij,bjk->bik", A, B), 2 * 3 * 4 * 5),
        (lambda: torch.einsum("...ij,...jk->...ik", A, B), 2 * 3 * 4 * 5),
        (lambda: torch.einsum("bij->bji", A), 0),
        (lambda: nn.Conv2d(4, 6, 3, groups=2)(torch.ones(1, 4, 8, 8)), 6 * 6 * 6 * 2 * 9),
        (lambda: nn.ConvTranspose2d(4, 6, 2)(torch.ones(1, 4, 8, 8)), 4 * 8 * 8 * 6 * 4),
        (lambda: A + A, 0),
    ],
)
def test_products_and_convolutions_count(run: Callable[[], object], macs: int) -> None:
    """Each value of a result costs as many as it sums."""
    assert metered(run) == Cost(macs, 0)


def test_attention_counts_once_and_apart() -> None:
    """Both of its products, and nothing of what its kernel calls."""
    query, key = torch.ones(2, 3, 5, 8), torch.ones(2, 3, 7, 8)
    attention = 2 * 3 * 5 * 7 * (8 + 8)
    found = metered(lambda: F.scaled_dot_product_attention(query, key, key), samples=2)
    assert found == Cost(attention // 2, attention // 2)


def test_samples_share_the_count() -> None:
    """A count that is no multiple of the samples belongs to no one of them."""
    with pytest.raises(ValueError, match="42 MACs are no multiple of 4 samples"):
        metered(lambda: F.linear(torch.ones(7, 3), torch.ones(2, 3)), samples=4)


def test_an_unknown_einsum_is_refused() -> None:
    """Rather than counted wrongly."""
    with pytest.raises(NotImplementedError, match="no count for einsum"):
        metered(lambda: torch.einsum("ij,jk,kl->il", A[0], B[0], torch.ones(5, 2)))
