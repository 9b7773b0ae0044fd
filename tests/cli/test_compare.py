"""`dipgo-fx compare`: plans beside the full pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

import dipgo_fx
from dipgo_fx.cli import compare as command
from dipgo_fx.cli import main
from dipgo_fx.passes import GateTable
from dipgo_fx.pipelines.pruning import shipped_prompts


@pytest.fixture
def open_plan(plan_file: Path, tmp_path: Path) -> Path:
    """A plan of the same loop that keeps everything."""
    plan = dipgo_fx.Plan.load(plan_file)
    table = GateTable.of(torch.ones_like(plan.keep))
    replace(plan, table=table, ratio=0.0, steering=None).save(tmp_path / "open.json")
    return tmp_path / "open.json"


def test_plans_beside_the_full_pipeline(
    folder: Path,
    plan_file: Path,
    open_plan: Path,
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """MACs, seconds and PSNR of each; what keeps everything draws equal images; PSNR is by hand the same."""
    out = tmp_path / "both.png"
    given = [str(folder), str(plan_file), str(open_plan), "--prompts", str(prompts), "--out", str(out)]
    assert main(["compare", *given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    full, pruned, unpruned = found["rows"]
    assert [row["name"] for row in found["rows"]] == ["full", str(plan_file), str(open_plan)]
    assert (full["kept"], full["speed"], full["psnr"]) == (1, 1, None)
    assert (unpruned["kept"], unpruned["psnr"]) == (1, None)
    assert pruned["kept"] == 1 - dipgo_fx.Plan.load(plan_file).ratio
    assert pruned["seconds"] > 0
    assert pruned["psnr"] == pytest.approx(psnr_by_hand(folder, plan_file))
    assert len(pruned["psnr_of_images"]) == 2
    assert found["prompts"] == ["a red bicycle", "a fox"]
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert picture.width > 3 * 192
        assert picture.height > 2 * 192


def psnr_by_hand(folder: Path, plan: Path) -> float:
    """Return the PSNR in dB of both images together."""
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)

    def drawn() -> np.ndarray:
        images = [
            pipe(prompt, num_inference_steps=4, generator=torch.Generator().manual_seed(seed)).images[0]
            for seed, prompt in enumerate(["a red bicycle", "a fox"])
        ]
        return np.stack([np.asarray(image, float) for image in images])

    full = drawn()
    with dipgo_fx.enabled(pipe, dipgo_fx.Plan.load(plan)):
        pruned = drawn()
    return float(10 * np.log10(255**2 / ((full - pruned) ** 2).mean()))


def test_the_table_and_the_prompts_by_default(
    folder: Path,
    plan_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row for the full pipeline and one for the plan, on prompts that a search of 48 did not see."""
    monkeypatch.chdir(tmp_path)
    assert main(["compare", str(folder), str(plan_file)]) == 0
    header, full, pruned, wrote = capsys.readouterr().out.splitlines()
    assert header.split() == ["MACs", "kept", "seconds", "speed", "PSNR", "dB"]
    assert full.split()[:2] == ["full", "100.0%"]
    assert full.endswith("equal")
    assert pruned.startswith(str(plan_file))
    assert wrote == "Wrote compare.png"
    assert len(shipped_prompts()) > 48 + 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["none.json"], "none.json"),
        (["{plan}", "none.json"], "none.json"),
        (["{plan}", "--out", "nowhere/picture.png"], "folder that exists"),
        (["{plan}", "--prompts", "none.txt"], "none.txt"),
    ],
)
def test_bad_input_is_refused(
    folder: Path, plan_file: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With status 2 and one line."""
    capsys.readouterr()
    given = [option.format(plan=plan_file) for option in options]
    assert main(["compare", str(folder), *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dipgo-fx compare: ")
    assert says in line


def test_what_plans_decide_is_said(
    folder: Path,
    searched_as: Callable[..., Path],
    from_plan: Callable[..., tuple[object, str]],
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are compared if the pipeline is called alike by all, whether a search named a scale or not."""
    monkeypatch.setattr(command, "_enabled", lambda *_: [])  # to draw the full pipeline's images only
    named = searched_as("named.json", guidance_scale=7.5, height=64)
    unnamed, picture = searched_as("unnamed.json", height=64), tmp_path / "x.png"
    value, text = from_plan("compare", folder, named, unnamed, "--prompts", prompts, "--out", picture)
    assert value == {"guidance_scale": 7.5, "height": 64}
    assert "\nCalled as the plan's search: guidance_scale=7.5, height=64\n" in text


def test_plans_of_two_calls_are_not_compared(
    folder: Path,
    searched_as: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says which, before anything is drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_draw", lambda *_: pytest.fail("it drew"))
    plans = [str(searched_as(f"{height}.json", height=height)) for height in (32, 64)]
    capsys.readouterr()
    assert main(["compare", str(folder), *plans]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"got height=32 by {plans[0]} and height=64 by {plans[1]}: " in line


@pytest.mark.parametrize("spoilt", ["plan.json", "other.json", "prompts.txt"])
def test_the_picture_is_no_file_that_is_read(
    spoilt: str, plan_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a plan's, its folder's, nor that of prompts; the same plan twice is legal."""
    for name in ("plan.json", "other.json"):
        (tmp_path / name).write_bytes(plan_file.read_bytes())
    (tmp_path / "prompts.txt").write_text("a fox", encoding="utf-8")
    before = (tmp_path / spoilt).read_bytes()
    given = ["nowhere", str(tmp_path), str(tmp_path / "other.json"), str(tmp_path / "other.json")]
    given += ["--prompts", str(tmp_path / "prompts.txt")]
    assert main(["compare", *given, "--out", str(tmp_path / spoilt)]) == 2
    assert "and --out are one file" in capsys.readouterr().err
    assert (tmp_path / spoilt).read_bytes() == before
    assert main(["compare", *given, "--out", str(tmp_path / "x.png")]) == 2
    assert "nowhere is no folder of a diffusers pipeline" in capsys.readouterr().err
