"""Cells of quality.csv with made-up errors of single images."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from benchmarks.metrics import ImageErrors
from benchmarks.quality.comparing import Cell
from benchmarks.quality.rows import Row


def cell(
    levels: Mapping[str, float],
    model: str = "digits-dit",
    scheduler: str = "DDIM",
    steps: int = 4,
    guidance: float | None = None,
) -> Cell:
    """Return a cell of one seed, with errors around a level for each method."""
    rows = {name: {0: Row(model, scheduler, steps, name, 0.3, guidance=guidance)} for name in levels}
    return Cell(rows, {name: {0: errors(level)} for name, level in levels.items()})


def errors(level: float) -> ImageErrors:
    """Return errors of twenty images."""
    made = torch.rand((20,), generator=torch.Generator().manual_seed(0)).double() * level
    return ImageErrors(made, made, 1 - made, made, torch.ones(20).double(), made)
