"""What becomes of each block at each step under a plan, and the table that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import torch

from .passes import GateTable
from .passes.liveness import Liveness


class State(IntEnum):
    """What becomes of a block at a step."""

    RUNS = 0
    """It is computed, and somebody reads it."""
    DEAD = 1
    """Nobody reads it, so neither it nor its backup is computed, be its gate open or closed."""
    REPEATS = 2
    """Its readers take its last computed value."""
    FORECASTS = 3
    """Its readers take a weighted sum of its last computed values."""


GLYPHS = {State.RUNS: "#", State.DEAD: "-", State.REPEATS: ".", State.FORECASTS: "/"}
MEANINGS = {
    State.RUNS: "runs",
    State.DEAD: "dead, nobody reads it",
    State.REPEATS: "repeats",
    State.FORECASTS: "forecasts",
}
COLOURS = {
    State.RUNS: "#1b4965",
    State.DEAD: "#e3e6ea",
    State.REPEATS: "#f2b134",
    State.FORECASTS: "#62b6cb",
}
"""Apart in lightness too, for eyes that do not tell some hues apart."""


def states_of(table: GateTable, liveness: Liveness) -> torch.Tensor:
    """Return the `(T, N)` int64 table of `State` values."""
    closed = torch.where(table.repeats, State.REPEATS, State.FORECASTS)
    read = torch.where(liveness.backed_up, closed, State.DEAD)
    return torch.where(liveness.running, State.RUNS, read)


def drawn(blocks: Sequence[str], states: torch.Tensor, kept_by_step: Sequence[float]) -> list[str]:
    """Return lines for a terminal: one per block with a glyph a step, what each step costs, and a legend.

    Args:
        blocks: names of the N blocks.
        states: `(T, N)`, of `states_of`.
        kept_by_step: what each step costs, as a share of an unpruned step.
    """
    cost = "MACs kept"
    width = max(map(len, (*blocks, cost)))
    rows = [
        f"{block:<{width}}  {''.join(GLYPHS[State(state)] for state in states[:, n].tolist())}"
        for n, block in enumerate(blocks)
    ]
    tenths = "".join("#" if share > 0.95 else str(min(9, round(10 * share))) for share in kept_by_step)
    legend = ", ".join(f"{glyph} {MEANINGS[state]}" for state, glyph in GLYPHS.items())
    return [*rows, f"{cost:<{width}}  {tenths}", f"({legend}; MACs in tenths of a step, # all)"]
