"""Blocks on how far to go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.plans import DEFAULT, ONE_SEARCH
from benchmarks.quality.comparing import Cell
from benchmarks.quality.rows import Row
from benchmarks.report import enough

ROW = Row("fashion-dit", "DDIM", 20, ONE_SEARCH.name, 0.5)


def cell(share: float, *low: float, **about: object) -> Cell:
    """Return a cell that keeps a share of the MACs, with the lowest 5% of each seed."""
    row = replace(ROW, ratio_asked=round(1 - share, 6), macs_kept=share, **about)  # type: ignore[arg-type]  # of any field
    return Cell({row.method: {n: replace(row, psnr_low_db=each) for n, each in enumerate(low)}}, {})


def given(monkeypatch: pytest.MonkeyPatch, *cells: Cell) -> None:
    """Let these cells be all there are."""
    monkeypatch.setattr(enough, "every_cell", lambda: list(cells))
    monkeypatch.setattr(enough, "cells_in", lambda folder: [])  # of the frozen test


def test_every_seed_and_every_larger_share_is_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed below the mark ends it, and a lower share above the mark does not count then."""
    given(monkeypatch, cell(0.5, 31, 30), cell(0.3, 40, 29.9), cell(0.2, 35, 35))
    assert enough.table().splitlines()[-1] == (
        "| Fashion-MNIST DiT | DDIM | 20 | 2 | 2 | 50%, 30%, 20% | 50% |"
    )
    assert "on, the least of those measured: guidance 2 50% at 20 steps." in enough.sentence()


def test_guidance_is_the_models_own_or_the_one_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops of few steps come last; none is left out that is nowhere close."""
    given(
        monkeypatch,
        cell(0.2, 30, model="digits-dit", steps=50),
        cell(0.7, 30, model="digits-dit", steps=4, method=DEFAULT.name),
        cell(0.5, 20, guidance=7.5),
    )
    assert (
        "no guidance 20% at 50 steps; guidance 7.5 no share at 20 steps; at 4 steps 70%." in enough.sentence()
    )
    lines = enough.table().splitlines()
    assert lines[-1].endswith("| 7.5 | 1 | 50% | none measured |")
    assert lines[-2].endswith("| 4 | none | 1 | 70% | 70% |")
