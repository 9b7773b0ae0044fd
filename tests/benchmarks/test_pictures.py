"""Pictures of what was measured: they are drawn, and show what they are given."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from benchmarks import pictures
from benchmarks.cases import Case
from dipgo_fx import Plan
from dipgo_fx.states import State


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[plt.Figure]:
    """The figures that are drawn, in place of files."""
    kept: list[plt.Figure] = []
    monkeypatch.setattr(pictures, "_save", lambda figure, file: kept.append(figure))
    return kept


def test_ours_is_drawn_over_the_others(figures: list[plt.Figure]) -> None:
    """And stands first in the legend."""
    lines = {name: [(0.2, 20.0), (0.5, 30.0)] for name in ("a", "ours", "b")}
    pictures.pareto(lines, "PSNR", "title", Path(), "ours")
    axis = figures[0].axes[0]
    legend = axis.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["ours", "a", "b"]
    highest = max(axis.get_lines(), key=lambda line: line.get_zorder())
    assert highest.get_color() == pictures.OURS
    assert legend.get_lines()[0].get_color() == pictures.OURS


def test_a_row_of_samples_is_one_strip(figures: list[plt.Figure]) -> None:
    """Grey or coloured; without rows there is no picture."""
    grey, coloured = (torch.zeros(4, channels, 8, 8, dtype=torch.uint8) for channels in (1, 3))
    pictures.sample_grid([("grey", grey), ("coloured", coloured)], "title", Path())
    pictures.sample_grid([], "title", Path())
    (figure,) = figures
    assert [axis.images[0].get_array().shape for axis in figure.axes] == [(8, 32), (8, 32, 3)]


def test_a_plan_is_drawn_in_the_colours_of_its_states(tmp_path: Path) -> None:
    """A skipped step repeats its output head, and the blocks before it are dead; all states have a colour."""
    loop = Case("digits-dit", 4).loop()
    keep = torch.ones(4, len(loop.blocks), dtype=torch.bool)
    keep[1] = False
    states = Plan.from_keep(loop, keep).states()
    assert set(states[1, :-1].tolist()) == {State.DEAD}
    assert states[1, -1] == State.REPEATS
    assert set(pictures.COLOURS) == set(State)
    file = tmp_path / "new" / "states.png"
    pictures.states({"half": states}, loop.blocks, "blocks", file)
    assert file.stat().st_size > 1000


def test_similarities_share_a_scale(figures: list[plt.Figure]) -> None:
    """From the lowest of all maps to one."""
    maps = {name: torch.full((3, 3), value) for name, value in (("a", 0.9), ("b", 0.4))}
    pictures.similarity(maps, "title", Path())
    limits = [axis.images[0].get_clim() for axis in figures[0].axes[:2]]
    assert limits == [(pytest.approx(0.4), 1.0)] * 2
