"""The command line that all scripts share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.command_line import CommandLine
from benchmarks.tables import RESULTS


def line(out: Path | None = RESULTS, **smoke: Any) -> CommandLine:
    """Return a command line with two options."""
    made = CommandLine("doc", smoke, out)
    made.add_models(("a", "b", "c"), ("a", "b"))
    made.add_held_out(64)
    return made


def test_results_go_where_results_go() -> None:
    """Unless they are told to go elsewhere."""
    options = line().read([])
    assert (options.out, options.models, options.samples) == (RESULTS, ["a", "b"], 64)
    assert line().read(["--out", "elsewhere"]).out == Path("elsewhere")


def test_smoke_changes_defaults_only() -> None:
    """What is asked for explicitly stays."""
    made = line(samples=1, models=["a"])
    options = made.read(["--smoke", "--samples", "5", "--out", "elsewhere"])
    assert (options.samples, options.models, options.out) == (5, ["a"], Path("elsewhere"))


def test_smoke_numbers_do_not_go_to_the_results(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a folder they go to a temporary one, and the place of results is refused, however written."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    out = line().read(["--smoke"]).out
    assert (out.parent, out.is_dir()) == (tmp_path, True)
    assert str(out) in capsys.readouterr().out
    with pytest.raises(SystemExit):
        line().read(["--smoke", "--out", str(RESULTS / ".." / "results")])
    assert "a smoke run needs another --out" in capsys.readouterr().err


def test_a_folder_without_a_default_has_to_be_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """But not by a smoke run."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SystemExit):
        line(None).read([])
    assert "required: --out" in capsys.readouterr().err
    assert line(None).read(["--smoke"]).out.is_dir()


def test_models_are_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    """Others are refused by name; without a choice all are the default."""
    with pytest.raises(SystemExit):
        line().read(["--models", "d"])
    assert "invalid choice: 'd'" in capsys.readouterr().err
    made = CommandLine("doc", {})
    made.add_models(("a", "b"))
    assert made.read([]).models == ["a", "b"]
