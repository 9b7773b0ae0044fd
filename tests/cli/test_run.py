"""`dipgo-fx run`: the images are those of the pipeline under `enabled`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DiffusionPipeline
from PIL import Image

import dipgo_fx
import zoo
from dipgo_fx.cli import main
from dipgo_fx.cli import run as command


def expected(folder: Path, plan: Path, seeds: dict[str, int], **options: Any) -> list[Image.Image]:
    """Return what the pipeline makes of prompts and their seeds under `enabled`."""
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    call = {"num_inference_steps": options.pop("steps", 4), "guidance_scale": 7.5}
    with dipgo_fx.enabled(pipe, dipgo_fx.Plan.load(plan), **options):
        return [
            pipe(prompt, generator=torch.Generator().manual_seed(seed), **call).images[0]
            for prompt, seed in seeds.items()
        ]


def assert_same(files: list[Path], images: list[Image.Image]) -> None:
    """Compare files with images."""
    for file, image in zip(files, images, strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), np.asarray(image))


def test_the_images_are_those_of_an_enabled_pipeline(
    folder: Path, plan_file: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One file a prompt, those of the file after the others; image n has the seed plus n."""
    given = [str(folder), str(plan_file), "a hat", "--prompts", str(prompts)]
    assert main(["run", *given, "--seed", "5", "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    files = sorted(tmp_path.iterdir())
    seeds = {"a hat": 5, "a red bicycle": 6, "a fox": 7}
    assert [file.name for file in files] == ["000.png", "001.png", "002.png"]
    assert [image["file"] for image in found["images"]] == list(map(str, files))
    assert {image["prompt"]: image["seed"] for image in found["images"]} == seeds
    assert_same(files, expected(folder, plan_file, seeds))


def test_another_point_and_another_number_of_steps(
    folder: Path, plan_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--ratio` and `--steps` take them from the plan's frontier; what is printed is what ran."""
    given = [str(folder), str(plan_file), "a hat", "--out", str(tmp_path)]
    assert main(["run", *given, "--ratio", "0.3", "--steps", "6"]) == 0
    assert re.search(r"\n6 steps, (3\d|4\d|5\d)\.\d% of the MACs removed\n", capsys.readouterr().out)
    assert_same([tmp_path / "000.png"], expected(folder, plan_file, {"a hat": 0}, ratio=0.3, steps=6))


def test_what_a_plan_decides_is_said(
    folder: Path,
    searched_as: Callable[..., Path],
    from_plan: Callable[..., tuple[object, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a line and as a value; an output type that makes no images is not taken from it."""
    monkeypatch.setattr(
        command, "enabled", lambda pipe, plan, **_: nullcontext(SimpleNamespace(plan=plan))
    )  # the pipeline runs as it is, which is faster than to trace it
    plan = searched_as("plan.json", negative_prompt="a fox", output_type="latent")
    value, text = from_plan("run", folder, plan, "--out", tmp_path, "--seed", 1, "a hat")
    assert value == {"negative_prompt": "a fox"}
    assert "\nCalled as the plan's search: negative_prompt='a fox'\n" in text


@pytest.mark.long
def test_steps_are_compiled(folder: Path, plan_file: Path, tmp_path: Path) -> None:
    """`--compile` changes the last digits, not the picture."""
    given = ["run", str(folder), str(plan_file), "a hat", "--out", str(tmp_path), "--compile"]
    assert main(given) == 0
    (image,) = expected(folder, plan_file, {"a hat": 0})
    difference = np.asarray(Image.open(tmp_path / "000.png"), int) - np.asarray(image, int)
    assert abs(difference).max() <= 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["{folder}", "{plan}"], "what is to be drawn"),
        (["{folder}", "{plan}", "a hat", "--ratio", "1"], "[0, 1)"),
        (["{folder}", "{plan}", "a hat", "--steps", "0"], "at least 1"),
        (["{folder}", "{plan}", "--prompts", "none.txt"], "none.txt"),
        (["{folder}", "none.json", "a hat"], "none.json"),
        (["{folder}", "damaged.json", "a hat"], "damaged.json"),
        (["{folder}", "dit.json", "a hat"], "for a DiTTransformer2DModel"),
        (["none", "{plan}", "a hat"], "no folder of a diffusers pipeline"),
        (["{folder}/unet", "{plan}", "a hat"], "model_index.json"),
        (["digits", "{plan}", "a hat"], "DDIMPipeline takes no prompts"),
    ],
)
def test_bad_input_is_refused(
    folder: Path,
    plan_file: Path,
    options: list[str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With status 2 and one line, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    Path("damaged.json").write_text("{", encoding="utf-8")
    if "dit.json" in options:
        loop = dipgo_fx.trace(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), 2)
        keep = torch.ones(2, len(loop.blocks), dtype=torch.bool)
        dipgo_fx.Plan.from_keep(loop, keep).save("dit.json")
    if "digits" in options:
        DDIMPipeline(zoo.model("unet"), zoo.SCHEDULERS["ddim"]()).save_pretrained("digits")
    capsys.readouterr()
    assert main(["run", *[option.format(folder=folder, plan=plan_file) for option in options]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dipgo-fx run: ")
    assert says in line
    assert not Path("images").exists()


def test_an_interrupted_run_says_so(
    folder: Path,
    plan_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Status 130 and one line."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.Call, "image", interrupted)
    capsys.readouterr()
    assert main(["run", str(folder), str(plan_file), "a hat", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "dipgo-fx run: interrupted\n"
