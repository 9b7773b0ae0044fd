"""What the commands are tried on: a tiny pipeline in a folder, and a plan for it that `prune` found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.coverage import pipelines
from dipgo_fx import Plan
from dipgo_fx.cli import main

STEPS = 4
Prune = Callable[..., int]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a tiny Stable Diffusion pipeline, prompts included."""
    path = tmp_path_factory.mktemp("cli") / "sd"
    pipelines.PIPELINES["sd-text"].build().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def prompts(folder: Path) -> Path:
    """A file of two prompts, with lines that are none."""
    file = folder.parent / "prompts.txt"
    file.write_text("a red bicycle\n\n  a fox  \n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def prune(folder: Path, prompts: Path) -> Prune:
    """Run a small search on the pipeline, with further options."""
    small = ["--steps", str(STEPS), "--samples", "2", "--full-runs", "3", "--ratio", "0.5"]
    given = ["prune", str(folder), "--prompts", str(prompts), *small]
    return lambda *options: main([*given, *map(str, options)])


@pytest.fixture(scope="session")
def plan_file(folder: Path, prune: Prune) -> Path:
    """A plan that half of the MACs are left by."""
    file = folder.parent / "plan.json"
    assert prune("--out", file, "--seed", 3) == 0
    return file


@pytest.fixture
def searched_as(plan_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the plan as one whose search called its pipeline with other arguments, and return its file."""

    def write(name: str, **call: object) -> Path:
        plan, file = Plan.load(plan_file), tmp_path / name
        replace(plan, origin={**plan.origin, "call": call}).save(file)
        return file

    return write


@pytest.fixture
def from_plan(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str]]:
    """Run a command, and return what it took from a plan as its value and its text say it."""

    def said(*given: object) -> tuple[object, str]:
        arguments = list(map(str, given))
        capsys.readouterr()
        assert main([*arguments, "--json"]) == 0
        value = json.loads(capsys.readouterr().out)["from_plan"]
        assert main(arguments) == 0
        return value, capsys.readouterr().out

    return said
