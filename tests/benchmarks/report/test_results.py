"""Rows of the files in results/ as numbers."""

from __future__ import annotations

from benchmarks.report.results import OURS, chosen, numbers, score_of

ROW = {
    "model": "digits-dit",
    "seed": "1",
    "method": OURS,
    "ratio_asked": "0.7",
    "macs_kept": "0.28",
    "psnr_db": "41.16",
    "ssim": "0.99883",
    **dict.fromkeys(("feature_distance", "class_accuracy", "search_full_runs"), ""),
}


def test_a_score_has_the_measures_that_its_row_has() -> None:
    """A ratio is what is removed, `asked` what may be kept; a kept share far from it is told."""
    score = score_of(ROW)
    assert (score.asked, score.kept, score.seed) == (0.3, 0.28, 1)
    assert score.values == {"psnr_db": 41.16, "ssim": 0.99883}
    assert (score.text("psnr_db"), score.text("ssim")) == ("41.2", "0.9988")
    assert (score.label, score.remark) == ("`dipgo_fx`", "keeps 28%")
    assert score_of({**ROW, "macs_kept": "0.29"}).remark == ""


def test_rows_are_chosen_by_their_columns() -> None:
    """Numbers are those there are."""
    rows = [{"a": "1", "b": "2"}, {"a": "1", "b": ""}, {"a": "3", "b": "4"}]
    assert chosen(rows, a="1") == rows[:2]
    assert numbers(rows, "b") == [2.0, 4.0]
