"""`dipgo-fx prune`: a plan file, the same for the same seed, and what it says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dipgo_fx
from dipgo_fx.cli import main
from dipgo_fx.cli import prune as command


def contents(file: Path) -> Any:
    """Return what a plan file holds but for the time that the search took."""
    values = json.loads(file.read_text(encoding="utf-8"))
    del values["origin"]["seconds"]
    return values


def test_the_same_seed_gives_the_same_file(
    plan_file: Path, prune: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to the seconds of the search; what is printed as JSON is what the plan says."""
    again = tmp_path / "again.json"
    capsys.readouterr()
    assert prune("--out", again, "--seed", 3, "--json") == 0
    assert contents(again) == contents(plan_file)
    plan, found = dipgo_fx.Plan.load(again), json.loads(capsys.readouterr().out)
    assert found["plan"] == str(again)
    assert (found["model"], found["scheduler"], found["steps"]) == (
        "UNet2DConditionModel",
        "DDIMScheduler",
        4,
    )
    assert found["ratio"] == plan.ratio >= 0.5
    assert found["macs_after"] == pytest.approx(found["macs_before"] * found["kept"])
    assert (found["samples"], found["seed"], plan.origin["prompts"]) == (2, 3, 2)


@pytest.mark.parametrize("option", ["--report", "--journal", "--prompts"])
def test_two_options_name_two_files(
    option: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the plan would be lost that took so long."""
    file = tmp_path / "one"
    file.write_text("a fox", encoding="utf-8")
    assert main(["prune", str(folder), "--out", str(file), option, str(file)]) == 2
    assert f"--out and {option} are one file" in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == "a fox"


def test_a_plan_in_a_folder_that_cannot_be_written_is_told_before_the_search(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the file is there: a plan is written beside it and takes its place."""
    out = tmp_path / "plan.json"
    out.touch()
    monkeypatch.setattr(command, "prune_pipeline", None)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path.resolve())
    assert main(["prune", str(folder), "--out", str(out)]) == 2
    assert "--out must be a file that can be written" in capsys.readouterr().err


def test_options_reach_the_search(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are given; the others are left to the pipeline and to the search."""
    calls: list[tuple[float, dict[str, Any]]] = []

    def noted(pipe: Any, ratio: float, **options: Any) -> None:
        calls.append((ratio, options))
        raise RuntimeError("enough")

    monkeypatch.setattr(command, "prune_pipeline", noted)
    out = ["--out", str(tmp_path / "plan.json")]
    assert main(["prune", str(folder), *out]) == 1
    few = ["--ratio", "0.3", "--guidance", "2", "--samples", "5", "--full-runs", "9", "--seed", "8"]
    few += ["--journal", "notes", "--height", "64", "--width", "32"]
    assert main(["prune", str(folder), *out, *few]) == 1
    (ratio, plain), (other, given) = calls
    assert (ratio, plain["prompts"], plain["config"]) == (0.8, None, dipgo_fx.PruneConfig())
    assert "num_inference_steps" not in plain
    assert "guidance_scale" not in plain
    assert not {"height", "width"} & set(plain)
    assert (other, given["guidance_scale"]) == (0.3, 2)
    assert (given["height"], given["width"]) == (64, 32)
    assert given["config"] == dipgo_fx.PruneConfig(samples=5, full_runs=9)
    assert given["generator"].initial_seed() == 8
    assert (plain["journal"], given["journal"]) == (None, Path("notes"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--ratio", "1.5"], "[0, 1)"),
        (["--prompts", "none.txt"], "none.txt"),
        (["--prompts", "blank.txt"], "no prompts"),
        (["--prompts", "image.png"], "UTF-8"),
        (["--steps", "0"], "at least 1"),
        (["--samples", "1"], "at least 2"),
        (["--full-runs", "0"], "above 0"),
        (["--guidance", "inf"], "finite"),
        (["--out", "nowhere/plan.json"], "folder that exists"),
        (["--device", "moon"], "--device"),
    ],
)
def test_bad_options_are_refused_before_the_search(
    folder: Path,
    options: list[str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With status 2 and one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "prune_pipeline", None)
    Path("blank.txt").write_text("\n \n", encoding="utf-8")
    Path("image.png").write_bytes(b"\x89PNG\xff")
    capsys.readouterr()
    assert main(["prune", str(folder), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dipgo-fx prune: ")
    assert says in line


def test_bars_are_for_terminals(
    prune: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And for those who want them: neither a pipe nor `--quiet` shows any."""
    shown: list[bool] = []

    def noted(pipe: Any, ratio: float, *, progress: bool, **options: Any) -> None:
        shown.append(progress)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "prune_pipeline", noted)
    capsys.readouterr()
    out = "--out", tmp_path / "plan.json"
    assert prune(*out) == 130
    assert capsys.readouterr().err == "dipgo-fx prune: interrupted\n"
    with monkeypatch.context() as terminal:
        terminal.setattr("sys.stderr.isatty", lambda: True)
        assert prune(*out) == 130
        assert "Loading pipeline components" in capsys.readouterr().err
        assert prune(*out, "--quiet") == 130
        assert capsys.readouterr().err == "dipgo-fx prune: interrupted\n"
    assert shown == [False, True, False]
