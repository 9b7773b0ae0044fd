"""The command line: the demo end to end on a small search, plans printed, bad input refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import dipgo_fx
import zoo
from dipgo_fx.cli import main


def test_show_prints_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`show` prints one line a block and one character a step, the MACs of each step, and a legend."""
    loop = dipgo_fx.trace(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), 4)
    keep = torch.ones(4, len(loop.blocks), dtype=torch.bool)
    keep[2] = False
    dipgo_fx.Plan.from_keep(loop, keep).save(tmp_path / "plan.json")
    assert main(["show", str(tmp_path / "plan.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    head, *rows, macs, legend = lines
    assert head.endswith("25.0% of MACs removed")
    *dead, output = rows  # nobody reads the blocks before a closed output
    assert [row.split() for row in dead] == [[name, "##-#"] for name in loop.blocks[:-1]]
    assert output.split() == [loop.blocks[-1], "##.#"]
    assert macs == "MACs kept             ##0#"
    assert all(mark in legend for mark in ("# runs", "- dead", ". repeats", "/ forecasts"))


def test_bad_input_ends_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file and a bad ratio end with a message, not a traceback."""
    assert main(["show", str(tmp_path / "none.json")]) == 2
    assert main(["demo", "--ratio", "1.5", "--steps", "2", "--out", str(tmp_path / "out")]) == 2
    assert "[0, 1)" in capsys.readouterr().err


def test_demo_writes_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo prunes, prints its table and writes the plan and two pictures."""
    from dipgo_fx.demo import run

    monkeypatch.setattr(run, "CONFIG", dipgo_fx.PruneConfig(samples=4, full_runs=6))
    monkeypatch.setattr(run, "SAMPLES", 20)
    monkeypatch.setattr(run, "ROUNDS", 1)
    assert main(["demo", "--steps", "10", "--out", str(tmp_path), "--no-progress"]) == 0
    printed = capsys.readouterr().out
    for method in ("unpruned", "dipgo_fx", "2 steps instead", "plain reuse"):
        assert method in printed
    assert dipgo_fx.Plan.load(tmp_path / "plan.json").ratio >= 0.8
    for picture in ("samples.png", "plan.png"):
        assert (tmp_path / picture).stat().st_size > 1000
