"""`dipgo-fx macs`: of a plan by step, of a pipeline for a step and the loop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import dipgo_fx
from dipgo_fx.cli import main

OLD_PLAN = Path(__file__).parents[1] / "data" / "plan-format-3-paper.json"


def test_a_plan_by_step(plan_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps add up to what the plan keeps, in the table and as JSON."""
    plan = dipgo_fx.Plan.load(plan_file)
    assert main(["macs", str(plan_file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [step["kept"] for step in found["by_step"]] == plan.kept_by_step()
    assert sum(step["macs"] for step in found["by_step"]) == found["by_plan"]["macs"]
    assert found["by_plan"]["macs"] == pytest.approx(found["loop"]["macs"] * found["kept"])
    assert found["loop"]["macs_without_attention"] < found["loop"]["macs"]
    assert main(["macs", str(plan_file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"kept: {1 - plan.ratio:.1%}, by step:" in lines
    assert [line.split()[0] for line in lines[-4:]] == ["0", "1", "2", "3"]


def test_a_pipeline(folder: Path, plan_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its loop costs what a plan says that the unpruned loop does."""
    assert main(["macs", str(folder), "--steps", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["calls"], found["guidance"]) == ("UNet2DConditionModel", 4, 7.5)
    assert found["loop"]["macs"] == 4 * found["step"]["macs"]
    assert main(["macs", str(plan_file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loop"] == found["loop"]
    assert main(["macs", str(folder), "--steps", "4", "--guidance", "1"]) == 0
    assert "guidance" not in capsys.readouterr().out


def test_bad_input_is_refused(plan_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan that does not know its costs, options that a plan has no use for, a folder of neither."""
    for given, says in (
        ([str(OLD_PLAN)], "does not know"),
        ([str(plan_file), "--steps", "4"], "are for a pipeline"),
        ([str(plan_file), "--device", "cpu"], "are for a pipeline"),
        ([str(plan_file), "--dtype", "float16"], "are for a pipeline"),
        ([str(tmp_path)], "plan.json"),
    ):
        assert main(["macs", *given]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line
