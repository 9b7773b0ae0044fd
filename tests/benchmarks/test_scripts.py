"""Every script is listed, described, and runs."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import benchmarks
from benchmarks.__main__ import SCRIPTS, about

FOLDER = Path(benchmarks.__file__).parent
WRITTEN = {
    "quality": {"quality.csv", "quality.md", "quality-images"},
    "ablations": {"ablations.csv", "ablations.md"},
    "factorial": {"factorial.csv", "factorial.md", "factorial-images"},
    "peers": {"peers.md", "peers-digits-dit.csv"},
    "search_cost": {
        "search_cost.md",
        "search_cost-memory-digits-dit.csv",
        "search_cost-runs-digits-dit.csv",
    },
    "step_counts": {"step_counts.md", "step_counts-digits-dit.csv"},
    "search_runs": {
        "search_runs.md",
        *(f"search_runs-{name}.{kind}" for name in ("digits-dit", "digits-unet") for kind in ("csv", "png")),
    },
    "macs": {"macs.md", "macs-paper.csv"},
    "coverage": {"coverage.md", "coverage.csv", "coverage-counts.csv"},
    "enabled": {"enabled.md", "enabled-overhead.csv", "enabled-held.csv"},
    "speed": {
        "speed.md",
        "speed-trace.csv",
        "speed-trace-steps.csv",
        "speed-wall-unet.csv",
        "speed-guidance-dit.csv",
    },
    "compiling": {"compiling.md", "compiling-dit.csv"},
    "real_size": {
        "real_size.md",
        "real_size-efficiency.png",
        "speed.csv",
        "real_size-memory.csv",
        "real_size-memory-steps.csv",
        "real_size-search.csv",
        "real_size-path.csv",
    },
    "report": {"README.md", "benchmarks"},
    "train_digits": {"README.md", "training.json", "digits-classifier.safetensors", "digits-dit"},
    "reference.data": {"fashion-mnist", "emoji", "mnist"},
    "reference.train": {"README.md", "training.json", "fashion-classifier.safetensors", "mnist-sana"},
    "reference.distil": {"README.md", "training.json", "fashion-flow"},
    "reference.samples": {"README.md", "training.json", "reference-fashion-unet.png"},
    "reference.features": {"fashion-features.safetensors", "emoji-features.safetensors"},
}
QUICK = ("report", "macs")
LONG = tuple(script for script in SCRIPTS if script not in QUICK)
NEEDED = {"reference.features": "efficientnet_lite_pytorch"}


def main_of(script: str) -> Callable[[list[str]], object]:
    """Return a script's `main`."""
    name = f"benchmarks.{script}"
    package = (FOLDER / script).is_dir()
    main: Callable[[list[str]], object] = importlib.import_module(
        f"{name}.__main__" if package else name
    ).main
    return main


def test_every_script_is_listed() -> None:
    """What can be started is in the list, and nothing else."""
    found = {
        ".".join(file.relative_to(FOLDER).with_suffix("").parts).removesuffix(".__main__")
        for file in FOLDER.rglob("*.py")
        if '__name__ == "__main__"' in file.read_text(encoding="utf-8")
    }
    assert found - {"__main__"} == set(SCRIPTS) == set(WRITTEN)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_described(script: str) -> None:
    """It says in one line what it does, and the README has it."""
    assert re.fullmatch(r"[A-Z].*\.", about(script))
    assert f"| `{script}` |" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=pytest.mark.long if name in LONG else ()) for name in SCRIPTS]
)
def test_every_script_runs(script: str, tmp_path: Path) -> None:
    """Its smoke run writes what a full run does."""
    if script in NEEDED:
        pytest.importorskip(NEEDED[script])
    main_of(script)(["--smoke", "--out", str(tmp_path)])
    assert {file.name for file in tmp_path.iterdir()} >= WRITTEN[script]


def test_a_smoke_run_leaves_the_working_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints of a training are written where its weights are."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    words = ["--smoke", "--models", "fashion-classifier", "--minutes", "0.001"]
    main_of("reference.train")([*words, "--out", str(tmp_path / "there")])
    assert list((tmp_path / "here").iterdir()) == []
