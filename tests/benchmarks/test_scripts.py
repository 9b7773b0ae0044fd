"""Every script is listed, starts in one way, and runs where it measures."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import benchmarks
from benchmarks.__main__ import SCRIPTS, about
from benchmarks.command_line import parse, parser
from benchmarks.tables import RESULTS

FOLDER = Path(benchmarks.__file__).parent
SMOKES = {
    "ablations": (["--pictures"], {"ablations.csv", "ablations.md", "similarity-digits-dit.png"}),
    "peers": ([], {"peers.md", "peers-dit.csv"}),
    "search_cost": ([], {"search_cost.md", "search_cost-memory.csv", "search_cost-runs.csv"}),
    "step_counts": ([], {"step_counts.md", "step_counts-digits-dit.csv"}),
    "macs": ([], {"macs.md", "macs-paper.csv"}),
    "speed": ([], {"speed.md", "speed-trace.csv", "speed-wall-unet.csv", "speed-import.csv"}),
    "train_digits": (["--model", "classifier"], {"training.json", "digits-classifier.safetensors"}),
    "reference.samples": (["--model", "fashion-unet"], {"training.json", "reference-fashion-unet.png"}),
}
QUICK = ("train_digits", "reference.samples")


def main_of(script: str) -> object:
    """Return a script's `main`."""
    name = f"benchmarks.{script}"
    package = (FOLDER / script).is_dir()
    return importlib.import_module(f"{name}.__main__" if package else name).main


def test_every_script_is_listed() -> None:
    """What can be started is in the list, and nothing else."""
    found = {
        ".".join(file.relative_to(FOLDER).with_suffix("").parts).removesuffix(".__main__")
        for file in FOLDER.rglob("*.py")
        if '__name__ == "__main__"' in file.read_text(encoding="utf-8")
    }
    assert found - {"__main__"} == set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_described(script: str) -> None:
    """It says in one line what it does, and the README has it."""
    assert re.fullmatch(r"[A-Z].*\.", about(script))
    assert f"| `{script}` |" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_smoke_changes_defaults_only() -> None:
    """What is asked for explicitly stays."""
    made = parser("doc")
    made.add_argument("--steps", type=int, default=20)
    made.add_argument("--samples", type=int, default=64)
    options = parse(made, ["--smoke", "--samples", "5", "--out", "elsewhere"], {"steps": 2, "samples": 1})
    assert (options.steps, options.samples) == (2, 5)


def test_smoke_numbers_do_not_go_to_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    """Without another folder there is no smoke run."""
    with pytest.raises(SystemExit):
        parse(parser("doc"), ["--smoke"], {})
    assert "--smoke needs another --out" in capsys.readouterr().err
    assert parse(parser("doc"), [], {}).out == RESULTS


@pytest.mark.parametrize(
    "script",
    [pytest.param(script, marks=() if script in QUICK else pytest.mark.long) for script in SMOKES],
)
def test_scripts_run(script: str, tmp_path: Path) -> None:
    """A smoke run writes what a full run does."""
    words, files = SMOKES[script]
    main_of(script)(["--smoke", "--out", str(tmp_path), *words])  # type: ignore[operator]
    assert files <= {file.name for file in tmp_path.iterdir()}
