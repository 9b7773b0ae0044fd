"""The frozen test can be repeated: data, training and measuring, here on a model that knows nothing."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import pytest

from benchmarks.cases import Case, reference
from benchmarks.quality.__main__ import main as measure
from benchmarks.reference.models import FROZEN, load
from benchmarks.reference.samples import main as draw
from benchmarks.reference.train import main as train


@pytest.mark.long
def test_it_runs_from_data_to_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the page of the benchmarks says, only smaller."""
    pytest.importorskip("efficientnet_lite_pytorch")
    train(["--smoke", "--models", FROZEN, "--out", str(tmp_path)])
    draw(
        ["--smoke", "--models", FROZEN, "--weights", str(tmp_path), "--guidance", "3", "--out", str(tmp_path)]
    )
    assert (tmp_path / f"reference-{FROZEN}.png").stat().st_size > 1000

    monkeypatch.setattr(reference, "load", partial(load, weights=tmp_path))
    monkeypatch.setattr(reference, "WEIGHTS", tmp_path)
    case = Case(FROZEN, 4)
    assert (case.scheduler_name, case.guidance) == ("flow-match Euler", 3.0)
    words = ["--smoke", "--models", FROZEN, "--methods", "fewer steps", "dipgo_fx default", "--ratios", "0.5"]
    measure([*words, "--out", str(tmp_path)])
    with (tmp_path / "quality.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == {"unpruned", "fewer steps", "dipgo_fx default"}
    assert not any(row["error"] for row in rows)
