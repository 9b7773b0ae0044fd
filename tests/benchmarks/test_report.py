"""The text says what the results say, and no measured figure stands outside of what is generated."""

from pathlib import Path

import pytest
import torch

from benchmarks.metrics import ImageErrors
from benchmarks.quality.comparing import Cell
from benchmarks.quality.rows import Row
from benchmarks.report import blocks, comparing, lint, quality, standing, trials, words
from benchmarks.report.__main__ import main
from benchmarks.report.comparing import Duel
from benchmarks.report.results import OURS, UNPRUNED, Score

PAGES = pytest.mark.parametrize("page", blocks.PAGES)


def score(method: str, psnr: float, asked: float = 0.5, kept: float | None = None, seed: int = 0) -> Score:
    """Return a row of the digits transformer with nothing but a PSNR and a feature distance."""
    values = {"psnr_db": psnr, "feature_distance": 1 / psnr}
    return Score("digits-dit", seed, method, asked, asked if kept is None else kept, values)


# -- the text


@PAGES
def test_text_equals_what_the_results_make_of_it(page: str) -> None:
    """After a change of results `python -m benchmarks.report` has to run."""
    assert blocks.changes(page) == []


@PAGES
def test_no_figure_stands_outside_of_blocks(page: str) -> None:
    """Figures with a unit come from results."""
    assert lint.loose_figures(blocks.page_text(page)) == []


def test_every_block_is_used() -> None:
    """No function writes text that nobody shows."""
    text = "".join(map(blocks.page_text, blocks.PAGES))
    assert {name for _, name, _ in blocks.BLOCK.findall(text)} == set(blocks.BLOCKS)


@pytest.mark.parametrize(
    "figure",
    [
        *("36.2 dB", "61 %", "15%", "2.9 s", "20 minutes", "3.4 MiB", "16.93 T", "5×", "5.2 times faster"),
        *("FID-like 206", "FID-like distance of 181", "PSNR of 36", "SSIM 0.98", "46.3", "0.974"),
    ],
)
def test_a_planted_figure_is_found(figure: str) -> None:
    """The lint sees every kind of figure, in a sentence and in a table."""
    assert lint.loose_figures(f"The best has {figure}, others less.")
    assert lint.loose_figures(f"| a | {figure} |")


@pytest.mark.parametrize(
    "text",
    [
        "torch 2.13 and Python 3.10 to 3.13, arXiv 2410.16942",
        "DDIM, 20 steps, guidance 2, ratio 0.8, 24 full runs",
        "calls the same network 20 to 250 times",
        "PSNR in dB, FID-like and SSIM\n\n2 scripts",
        "`sleep 3 s`",
        "```\n36.2 dB\n```",
        "[a picture](results/quality-20%.png)",
        "<!-- report: psnr -->\n36.2 dB\n<!-- end report -->",
    ],
)
def test_what_is_no_loose_figure_passes(text: str) -> None:
    """Versions, settings, code and blocks are left alone."""
    assert lint.loose_figures(text) == []


def test_only_blocks_are_written() -> None:
    """Text around a block stays, what was in it goes."""
    text = "before\n<!-- report: a -->\nold\n<!-- end report -->\nafter\n"
    written = blocks.filled(text, {"a": lambda: "new"})
    assert written == "before\n<!-- report: a -->\n\nnew\n\n<!-- end report -->\nafter\n"
    assert blocks.filled(written, {"a": lambda: "new"}) == written


def test_an_unknown_block_is_named() -> None:
    """A block that no function writes is an error."""
    with pytest.raises(KeyError, match="no block named b; there are a"):
        blocks.filled("<!-- report: b -->\n<!-- end report -->", {"a": str})


def test_check_fails_and_shows_the_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` leaves a stale page alone; without it the page is written and the check passes."""
    page = tmp_path / "README.md"
    page.write_text("<!-- report: a -->\nold\n<!-- end report -->\n")
    monkeypatch.setattr(blocks, "ROOT", tmp_path)
    monkeypatch.setattr(blocks, "PAGES", ("README.md",))
    monkeypatch.setitem(blocks.BLOCKS, "a", lambda: "new")
    assert main(["--check"]) == 1
    assert {"-old", "+new"} <= set(capsys.readouterr().out.splitlines())
    assert main(["--out", str(tmp_path / "elsewhere")]) == 0
    assert "new" in (tmp_path / "elsewhere" / "README.md").read_text()
    assert "old" in page.read_text()
    assert main([]) == 0
    assert main(["--check"]) == 0


# -- counting


def test_a_better_value_of_another_method_is_reported() -> None:
    """The best other method of a cell counts, and is named with share and seed."""
    rows = [score(OURS, 30.0), score("TaylorSeer", 31.0), score("fewer steps", 20.0)]
    rows += [score(OURS, 30.0, seed=1), score("TaylorSeer", 29.0, seed=1), score("dipgo_fx default", 99.0)]
    fought = comparing.duels(rows, "psnr_db")
    assert [(duel.other.method, duel.lead) for duel in fought] == [("TaylorSeer", -1.0), ("TaylorSeer", 1.0)]
    assert comparing.behind(fought) == fought[:1]
    line = ["PSNR", "digits DiT", "50% (seed 0)", "TaylorSeer", "31.0", "30.0", "no interval", "values only"]
    assert quality.value_line("psnr_db", fought[0]) == line


def test_less_is_better_where_it_is() -> None:
    """Of distances the smallest wins."""
    (duel,) = comparing.duels([score(OURS, 30.0), score("TaylorSeer", 31.0)], "feature_distance")
    assert duel.lead < 0


def test_equal_values_are_nobodys() -> None:
    """A tie is not reported."""
    fought = comparing.duels([score(OURS, 30.0), score("TaylorSeer", 30.0)], "psnr_db")
    assert comparing.behind(fought) == []


def test_a_cell_without_others_does_not_count() -> None:
    """Nor do unpruned rows and measures that are missing."""
    rows = [score(OURS, 30.0), score(UNPRUNED, 99.0), score("TaylorSeer", 31.0, asked=0.3)]
    assert comparing.duels(rows, "psnr_db") == []
    assert comparing.duels([score(OURS, 30.0), score("TaylorSeer", 31.0)], "ssim") == []


def test_kept_shares_are_compared_too() -> None:
    """A row of another method meets our dearest row that is no dearer than it."""
    ours = [score(OURS, 30.0, 0.5), score(OURS, 25.0, 0.4)]
    (duel,) = comparing.at_most_as_dear([*ours, score("TaylorSeer", 26.0, asked=0.5, kept=0.45)])
    assert duel == Duel(ours[1], duel.other, -1.0)
    assert comparing.at_most_as_dear([*ours, score("TaylorSeer", 26.0, asked=0.3)]) == []


def test_a_table_shows_values_and_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without errors of single images nothing is bold; a share far from the one asked for is told."""
    monkeypatch.setattr(standing, "cells", list)
    rows = [score(OURS, 30.0), score("TaylorSeer", 31.0, kept=0.4), score("MagCache", 22.0)]
    line = dict(zip([*quality.COLUMNS, "difference"], quality.psnr_cells(rows), strict=True))
    told = {"cache": "31.0 (TaylorSeer, keeps 40%)", "`dipgo_fx`": "30.0", "difference": "no interval"}
    assert {name: text for name, text in line.items() if text} == told


@pytest.mark.parametrize(
    ("factor", "ours", "cache", "verdict"),
    [
        (0.1, "**30.0**", "31.0", "ahead"),
        (1.0, "30.0", "31.0", "open"),
        (10.0, "30.0", "**31.0**", "behind"),
    ],
)
def test_bold_is_what_an_interval_says(
    monkeypatch: pytest.MonkeyPatch, factor: float, ours: str, cache: str, verdict: str
) -> None:
    """Whatever the values of the first seed are."""
    monkeypatch.setattr(standing, "cells", lambda: [cell(factor)])
    rows = [score(OURS, 30.0), score("TaylorSeer", 31.0)]
    line = dict(zip([*quality.COLUMNS, "difference"], quality.psnr_cells(rows), strict=True))
    assert (line["`dipgo_fx`"], line["cache"]) == (ours, f"{cache} (TaylorSeer)")
    assert line["difference"].endswith(f", {verdict}")


def test_lost_and_open_cells_stand_in_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the interval; what is won does not, but is counted."""
    monkeypatch.setattr(quality, "scores", list)
    for factor, verdict in ((1.0, "open"), (10.0, "lost"), (0.1, "won")):
        cells = [cell(factor)]
        monkeypatch.setattr(standing, "cells", lambda cells=cells: cells)
        listed = "| PSNR | digits DiT | 50% (2 seeds) | TaylorSeer |" in quality.lost_cells()
        assert listed == (verdict != "won")
        counts = {"won": "1 | 0 | 0", "open": "0 | 1 | 0", "lost": "0 | 0 | 1"}
        assert f"| SSIM | {counts[verdict]} |" in quality.verdict()


def cell(factor: float) -> Cell:
    """Return a cell of two seeds in which our errors are some times those of TaylorSeer."""
    scale = {OURS: factor, "TaylorSeer": 1.0}
    rows = {
        name: {seed: Row("digits-dit", "DDIM", 20, name, 0.5, seed=seed) for seed in (0, 1)} for name in scale
    }
    return Cell(rows, {name: {seed: errors(seed, by) for seed in (0, 1)} for name, by in scale.items()})


def errors(seed: int, factor: float) -> ImageErrors:
    """Return errors of twenty images."""
    made = torch.rand((20,), generator=torch.Generator().manual_seed(seed)).double() * 1e-3 * factor
    return ImageErrors(made, made, 1 - made, made, torch.ones(20).double(), made)


def test_seeds_are_averaged() -> None:
    """Mean, lowest and highest value of a share; nothing where there is none."""
    rows = [score("TaylorSeer", value, seed=seed) for seed, value in enumerate((30.0, 31.0, 35.0))]
    assert quality.over_seeds(rows, 0.5) == "32.0 (30.0 to 35.0)"
    assert quality.over_seeds(rows, 0.3) == ""


def test_two_values_of_a_trial_are_a_range() -> None:
    """Values stand by model and setting, after the note."""
    about = {"trial": "Noise", "model": "digits-dit", "samples": "48", "measure": "PSNR"}
    rows = [
        {**about, "setting": "4 steps", "value": "30", "note": "Not used."},
        {**about, "setting": "4 steps", "value": "31", "note": ""},
        {**about, "setting": "4 steps", "measure": "SSIM", "value": "0.9", "note": ""},
        {**about, "setting": "6 steps", "value": "35", "note": ""},
    ]
    expected = "* **Noise.** Not used. *digits DiT (48 samples)* 4 steps: 30 to 31, SSIM 0.9; 6 steps: 35."
    assert trials.trial("Noise", rows) == expected


def test_words() -> None:
    """Spans, lists and counts read as English."""
    assert words.span([2.0, 1.04, 3.0]) == "1.0 to 3.0"
    assert words.span([1.01, 1.02]) == "1.0"
    assert words.listed("a") == "a"
    assert words.listed("abc") == "a, b and c"
    assert words.out_of(2, 2) == "all 2"
    assert words.out_of(0, 2) == "0 of 2"
    assert words.remarked("a", "", "b") == "a (b)"


def test_tables_have_no_line_of_a_model_that_was_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models of few steps have a table of their own."""
    monkeypatch.setattr(quality, "scores", lambda: [score(OURS, 30.0)])
    assert {model for model, _ in quality.tabled()} == {score(OURS, 30.0).model}
