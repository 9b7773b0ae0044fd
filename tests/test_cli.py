"""The command line: the demo end to end on a small search, plans printed, statuses and one-line errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import dipgo_fx
import zoo
from dipgo_fx.cli import main, show
from dipgo_fx.cli.parser import parser

COMMANDS = ("prune", "run", "compare", "report", "macs", "show", "demo")
HEAVY = {"diffusers", "huggingface_hub", "numpy", "PIL", "shtab", "torch", "tqdm", "transformers"}


def plan_for_dit(folder: Path) -> Path:
    """Write a plan for a tiny transformer."""
    loop = dipgo_fx.trace(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), 4)
    keep = torch.ones(4, len(loop.blocks), dtype=torch.bool)
    keep[2] = False
    dipgo_fx.Plan.from_keep(loop, keep).save(folder / "plan.json")
    return folder / "plan.json"


def test_show_prints_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`show` prints one line a block and one character a step, the MACs of each step, and a legend."""
    file = plan_for_dit(tmp_path)
    blocks = dipgo_fx.Plan.load(file).blocks
    assert main(["show", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    head, *rows, macs, legend = lines
    assert head.endswith("25.0% of MACs removed")
    *dead, output = rows  # nobody reads the blocks before a closed output
    assert [row.split() for row in dead] == [[name, "##-#"] for name in blocks[:-1]]
    assert output.split() == [blocks[-1], "##.#"]
    assert macs == "MACs kept             ##0#"
    assert all(mark in legend for mark in ("# runs", "- dead", ". repeats", "/ forecasts"))


def test_show_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same table as one object, from a file or from the folder that it lies in."""
    plan = dipgo_fx.Plan.load(plan_for_dit(tmp_path))
    assert main(["show", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["states"]) == list(plan.blocks)
    assert found["states"][plan.blocks[-1]] == "##.#"
    assert (found["ratio"], found["kept_by_step"]) == (plan.ratio, plan.kept_by_step())
    assert (found["model"], found["steps"]) == ("DiTTransformer2DModel", 4)


def test_a_plan_of_an_old_file_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """What it does not know is null."""
    old = Path(__file__).parent / "data" / "plan-format-3-paper.json"
    assert main(["show", str(old), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["states"] is found["kept_by_step"] is None


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_is_right(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every example can be parsed."""
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    _, examples = capsys.readouterr().out.split("example:\n")
    for line in examples.strip().splitlines():
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)]
        assert words[:2] == ["dipgo-fx", command]
        assert parser().parse_args(words[1:]).command == command


def test_the_command_line_starts_without_torch() -> None:
    """What it imports itself takes no time; `import dipgo_fx` does, so that is left out here."""
    program = f"""
import sys, types
package = types.ModuleType("dipgo_fx")
package.__path__ = [{str(Path(dipgo_fx.__file__).parent)!r}]
sys.modules["dipgo_fx"] = package
from dipgo_fx.cli import main
try:
    main(["--help"])
finally:
    print("imported", sorted({HEAVY!r} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "prune" in result.stdout
    assert "imported []" in result.stdout


@pytest.mark.parametrize("module", ["dipgo_fx", "dipgo_fx.cli"])
def test_the_module_is_the_command_line(module: str, tmp_path: Path) -> None:
    """`python -m dipgo_fx` ends with the status, and one line on standard error; so does its package."""
    program = [sys.executable, "-m", module, "show", str(tmp_path / "none.json")]
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"dipgo-fx show: .*none\.json.*\n", result.stderr)


@pytest.mark.long
def test_the_module_prints_nothing_but_json(tmp_path: Path) -> None:
    """In a process of its own, whatever the libraries say while they are imported."""
    program = [sys.executable, "-m", "dipgo_fx", "macs", str(plan_for_dit(tmp_path)), "--json"]
    result = subprocess.run(program, capture_output=True, text=True, check=True)
    assert len(json.loads(result.stdout)["by_step"]) == 4


@pytest.mark.parametrize(
    "given", [[], ["nonsense"], ["show"], ["show", "x", "--deb"], ["prune", "x", "--ratio", "much"]]
)
def test_usage_errors_are_one_line(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With status 2 and where to find help."""
    assert main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dipgo-fx")
    assert line.endswith("--help)")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (dipgo_fx.PlanError("no\nfit"), 2, "dipgo-fx show: no fit"),
        (TypeError("a kind"), 2, "dipgo-fx show: a kind"),
        (OSError("a disk"), 2, "dipgo-fx show: a disk"),
        (dipgo_fx.TraceError("a module"), 1, "dipgo-fx show: TraceError: a module"),
        (torch.OutOfMemoryError("room"), 1, "dipgo-fx show: OutOfMemoryError: room"),
        (KeyError("name"), 1, "dipgo-fx show: KeyError: 'name'"),
        (KeyboardInterrupt(), 130, "dipgo-fx show: interrupted"),
    ],
)
def test_an_error_is_a_status_and_one_line(
    error: BaseException,
    status: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing goes to standard output, and no traceback is printed unless `--debug` asks for it."""

    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(show, "load_plan", fails)
    assert main(["show", "plan.json"]) == status
    assert capsys.readouterr() == ("", f"{line}\n")
    assert main(["show", "plan.json", "--debug"]) == status
    printed = capsys.readouterr().err
    assert printed.endswith(f"{line}\n")
    assert ("Traceback" in printed) == (status != 130)


def test_bad_input_ends_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file and a bad ratio end with a message, not a traceback."""
    assert main(["show", str(tmp_path / "none.json")]) == 2
    assert main(["demo", "--ratio", "1.5", "--steps", "2", "--out", str(tmp_path / "out")]) == 2
    assert "[0, 1)" in capsys.readouterr().err


def test_demo_writes_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo prunes, prints its table and writes the plan, two pictures and a page with strips and maps."""
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
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 8 * page.count('of the MACs removed" title="class 0')
    assert "How alike steps are" in page
