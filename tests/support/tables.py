"""Keep tables and gate tables of any small loop, for properties to draw."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from dipgo_fx.passes import HISTORY, GateTable

# Weights of any sign, with those among them that mean something of their own.
WEIGHTS = st.sampled_from((0.0, 1.0)) | st.floats(-4, 4, allow_subnormal=False)


def evenly(least: int, most: int) -> st.SearchStrategy[int]:
    """Draw numbers that are as often large as small, which hypothesis' own integers are not."""
    return st.sampled_from(range(least, most + 1))


@st.composite
def keeps(draw: st.DrawFn, steps: int | None = None, blocks: int | None = None) -> torch.Tensor:
    """Draw a `(T, N)` keep table, its first row true, of a given shape or of any small one."""
    steps = steps or draw(evenly(1, 7))
    blocks = blocks or draw(evenly(1, 4))
    row = st.lists(st.booleans(), min_size=blocks, max_size=blocks)
    rest = draw(st.lists(row, min_size=steps - 1, max_size=steps - 1))
    return torch.tensor([[True] * blocks, *rest])


@st.composite
def gate_tables(draw: st.DrawFn, keep: torch.Tensor, history: int = HISTORY) -> GateTable:
    """Draw a gate table whose closed gates read weighted sums of up to `history` values."""
    closed = [tuple(place) for place in (~keep).nonzero().tolist()]
    weights = GateTable.of(keep).weights.clone()
    for place in closed:
        entry = draw(st.lists(WEIGHTS, min_size=history, max_size=history))
        weights[place] = torch.tensor([*entry, *[0.0] * (HISTORY - history)], dtype=torch.float64)
    return GateTable(keep, weights)
