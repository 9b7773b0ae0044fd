"""Blocks of the first page."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmarks.report import costs, glance, real_size
from benchmarks.report.results import OURS, Score

LEARNED = "learned sampler"
VALUES = {  # PSNR by model and method, at half of the MACs
    "digits-dit": {OURS: 50.0, "fewer steps": 38.0, "UniPC": 40.0, LEARNED: 51.0, "iPNDM": 39.0},
    "emoji-unet": {OURS: 48.0, "fewer steps": 34.0, "TaylorSeer": 60.0},
}


FILES = {
    "quality-sets": [{"search": "48"}],
    "search_cost-runs-digits-dit": [
        {"steps": "20", "seconds": "29.2"},
        {"steps": "50", "seconds": "74.9"},
    ],
}


def score(model: str, method: str, psnr: float, seed: int = 0) -> Score:
    """Return a row with a PSNR and what choosing it took."""
    about = {"psnr_db": psnr, "search_full_runs": 20.0 + seed, "search_seconds": 10.0 * (seed + 1)}
    return Score(model, seed, method, 0.5, 0.5, about)


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put these rows in the place of the results."""
    rows = [
        score(model, method, psnr, seed)
        for model, by_method in VALUES.items()
        for method, psnr in by_method.items()
        for seed in (0, 1)
    ]
    monkeypatch.setattr(glance, "scores", lambda: rows)


@pytest.mark.usefixtures("scores")
def test_a_share_has_the_span_over_models() -> None:
    """Of ours, of fewer steps, and of the better solver, cache and learned sampler where there is one."""
    assert glance.at_share(glance.scores(), 0.5) == [
        "48.0 to 50.0",
        "34.0 to 38.0",
        "40.0",
        "60.0 (higher on 1)",
        "51.0 (higher on 1)",
    ]
    assert glance.models(glance.scores()) == set(VALUES)


@pytest.mark.usefixtures("scores")
def test_a_search_is_told_in_images_and_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of the first seed, of our own rows only; a quick search beside it."""
    images = {costs.USUAL: 1094.4, costs.QUICK: 120.3}
    monkeypatch.setattr(costs, "searches", lambda: (images, {}))
    monkeypatch.setattr(glance, "read", lambda name: FILES[name])
    said = glance.search()
    assert "as 1,090 images (29 seconds for the digits DiT and 20 seconds for the emoji U-Net on" in said
    assert "#prune-your-pipeline) 120." in said


def test_times_on_a_gpu_stand_beside_those_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whole steps at ratio 0.8, also under guidance, and of half steps."""
    wall = [{"loop": f"whole steps, ratio {ratio}", "speed-up": f"{5 + ratio:.1f}"} for ratio in (0.7, 0.8)]
    card = {"model": "M, 64 x 64", "device": "cuda", "dtype": "bfloat16", "torch": "2.11.0"}
    card |= {
        "machine": "a CPU with 16 cores and a card",
        "ratio_asked": "0.8",
        "efficiency": "1",
        "compile_seconds": "",
    }
    methods = {"whole steps": "5.5", "guidance, two calls, whole steps": "2.6"}
    methods |= {"guidance, one call, whole steps": "5.4"}
    large = [{**card, "method": method, "speedup": each} for method, each in methods.items()]
    large.append({**large[0], "device": "cpu", "speedup": "9"})
    half = {"method": real_size.HALF_JOINED, "ratio_asked": "", "macs_kept": "0.75", "speedup": "1.1"}
    large.append({**card, **half})
    monkeypatch.setattr(glance, "read", lambda name: large if name == "speed" else wall)
    said = glance.speed()
    assert (
        "run 5.8 times as fast on one CPU thread (two small models), 5.5 on one a card (M, batch 1)" in said
    )
    assert "under guidance 5.4 there" in said
    assert said.endswith("ones 1.10 instead of the 1.33 that MACs promise.")


def cell(model: str, **verdicts: str) -> SimpleNamespace:
    """Return a cell in which each other method has a verdict on ours."""
    return SimpleNamespace(
        about=SimpleNamespace(model=model, ratio_asked=0.7),
        others=tuple(verdicts),
        verdict=lambda column: "lost" if "lost" in verdicts.values() else "open",
    )


def test_lost_cells_are_named_with_the_measures_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that are open are not."""
    cells = [cell("digits-unet", UniPC="open", iPNDM="lost"), cell("digits-dit", UniPC="open")]
    monkeypatch.setattr(glance, "own_cells", lambda: cells)
    said = glance.lost()
    assert "of the 5 measures beside the unpruned images: digits U-Net at 30% by 5; 1 of 2 cells by" in said
    monkeypatch.setattr(glance, "own_cells", lambda: cells[1:])
    assert "beside the unpruned images: none; 0 of 1 cells by" in glance.lost()


@pytest.mark.parametrize(
    ("efficiencies", "said"),
    [
        ((1.0, 1.0), "0 of 2 loops miss our goal for the share of the speed-up by MACs that they reach."),
        (
            (1.0, 0.9, 0.5),
            "2 of 3 loops miss our goal for the share of the speed-up by MACs that they reach, at worst ",
        ),
    ],
)
def test_slow_loops_are_counted_and_the_slowest_is_named(
    monkeypatch: pytest.MonkeyPatch, efficiencies: tuple[float, ...], said: str
) -> None:
    """Of those of which something was asked."""
    about = {"model": "M", "ratio_asked": "0.8", "device": "cpu", "steps": "5", "compile_seconds": ""}
    rows = [{**about, "method": "whole steps", "efficiency": str(value)} for value in efficiencies]
    other = {**about, "method": "eager loop", "efficiency": "0.1"}
    monkeypatch.setattr(glance, "read", lambda name: [*rows, other])
    text = glance.slow()
    assert said in text
    if min(efficiencies) < 0.9:
        assert text.endswith("at worst 0.50 of it instead of 0.97: M, whole steps (at 0.8, 5 steps).")
