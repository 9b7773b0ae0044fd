"""The pruner network: one learned query per (step, block) becomes the probability to keep it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

Encoder = Literal["attention", "linear", "table"]
KEEP = 1


class Pruner(nn.Module):
    """Logits of all gates (paper, section 3.3); thrown away after the search.

    `queries` -> one encoder layer -> one head per gate -> two logits (reuse, keep).

    Args:
        steps: T.
        blocks: N.
        width: size D of a query.
        encoder: `attention` lets the N gates of a step look at each other, `linear` is the paper's
            stack of fully connected layers, `table` is no network at all: a free logit pair per gate
            (the ablation that tells what the network is worth).
        generator: draws the initial weights; the global random state is left alone.

    The last layer starts at weight 0 and bias (0, 1): every gate starts open with p(keep) = 0.73.
    """

    def __init__(
        self,
        steps: int,
        blocks: int,
        width: int = 512,
        encoder: Encoder = "attention",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if encoder not in ("attention", "linear", "table"):
            raise ValueError(f"encoder must be 'attention', 'linear' or 'table', got {encoder!r}")
        self.shape = (steps, blocks)
        hidden = width // 4
        gates = steps * blocks
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device)) if generator else 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if encoder == "table":
                self.bias = nn.Parameter(_open_bias(gates))
                self.encoder: nn.Module | None = None
                return
            self.queries = nn.Parameter(torch.randn(steps, blocks, width))
            self.encoder = _Layer(width) if encoder == "attention" else _linear(width, hidden)
            self.inner = nn.Parameter(torch.randn(gates, width, hidden) / width**0.5)
        self.outer = nn.Parameter(torch.zeros(gates, hidden, 2))
        self.bias = nn.Parameter(_open_bias(gates))

    def forward(self) -> torch.Tensor:
        """Return logits `(T, N, 2)`."""
        if self.encoder is None:
            return self.bias.view(*self.shape, 2)
        encoded = self.encoder(self.queries).flatten(0, 1)
        hidden = F.relu(torch.einsum("gd,gdh->gh", encoded, self.inner))
        logits = torch.einsum("gh,gho->go", hidden, self.outer) + self.bias
        return logits.view(*self.shape, 2)


def straight_through(logits: torch.Tensor) -> torch.Tensor:
    """Return hard 0/1 gates `(T, N)` by argmax, with the gradient of the softmax (Jang et al. 2017).

    The first step is always kept.
    """
    soft = logits.softmax(-1)[..., KEEP]
    hard = (logits.argmax(-1) == KEEP).to(soft.dtype)
    gates = hard - soft.detach() + soft
    return torch.cat([torch.ones_like(gates[:1]), gates[1:]])


class _Layer(nn.Module):
    """Self-attention over the gates of a step, then a fully connected layer, both residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, num_heads=4, batch_first=True)
        self.fc = _linear(width, width // 4)

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        normed = self.norm(queries)
        mixed = queries + self.attention(normed, normed, normed, need_weights=False)[0]
        result: torch.Tensor = mixed + self.fc(mixed)
        return result


def _linear(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))


def _open_bias(gates: int) -> torch.Tensor:
    return torch.tensor([0.0, 1.0]).repeat(gates, 1)
