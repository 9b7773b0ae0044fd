"""A progress bar is for people: on a terminal and in a notebook, not in a file."""

from __future__ import annotations

import pytest
from tqdm.auto import tqdm

from dipgo_fx import PaperConfig, PruneConfig
from dipgo_fx.search import progress as module
from dipgo_fx.search.progress import hidden
from searches import quick

RECIPES = [PruneConfig(samples=2, full_runs=3), PaperConfig(samples=2, iterations=2, width=32)]


@pytest.mark.parametrize("config", RECIPES, ids=["default", "paper"])
def test_a_search_is_silent_where_nobody_watches(
    config: PruneConfig | PaperConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal it shows how far it is, unless somebody wants quiet."""
    quick("dit", num_inference_steps=3, config=config, progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    quick("dit", num_inference_steps=3, config=config, progress=False)
    assert capsys.readouterr().err == ""
    quick("dit", num_inference_steps=3, config=config, progress=True)
    assert "100%" in capsys.readouterr().err


def test_a_notebook_shows_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its output is no terminal either."""
    monkeypatch.setattr(module, "IN_NOTEBOOK", True)
    assert hidden(True) is False
    assert hidden(False) is True
    assert tqdm(disable=hidden(False)).disable
