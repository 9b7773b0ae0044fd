"""`dipgo-fx report`: a page whose images and maps are those of the pipeline."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from PIL import Image

import dipgo_fx
from dipgo_fx.cli import main
from dipgo_fx.cli import report as command
from dipgo_fx.cli.report import ratios_of
from dipgo_fx.pipelines.pruning import shipped_prompts
from searches import PLAIN, with_frontier

SVG = "{http://www.w3.org/2000/svg}"
SEEDS = {"a red bicycle": 5, "a fox": 6}


def rows(page: ElementTree.Element) -> list[list[Any]]:
    """Return the images of each row of the strips, as arrays."""
    found = [[decoded(image.attrib["src"]) for image in row.iter("img")] for row in page.iter("tr")]
    return [row for row in found if row]


def decoded(address: str) -> Any:
    """Return the pixels that lie in an address."""
    with Image.open(BytesIO(b64decode(address.partition(",")[2]))) as image:
        return np.asarray(image)


def drawn(folder: Path, plan: dipgo_fx.Plan) -> list[Any]:
    """Return what the pipeline makes of the prompts by a plan."""
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    with dipgo_fx.enabled(pipe, plan):
        return [
            np.asarray(
                pipe(
                    prompt,
                    num_inference_steps=4,
                    guidance_scale=7.5,
                    generator=torch.Generator().manual_seed(seed),
                ).images[0]
            )
            for prompt, seed in SEEDS.items()
        ]


def test_a_page_has_the_images_of_an_enabled_pipeline(
    folder: Path, plan_file: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At ratio 0 and at the plan's; one map for each block, named as in the plan."""
    out, plan = tmp_path / "page.html", dipgo_fx.Plan.load(plan_file)
    given = [str(folder), str(plan_file), "--prompts", str(prompts), "--seed", "5", "--out", str(out)]
    assert main(["report", *given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["report"] == str(out)
    assert (found["ratios"][0], found["ratios"][-1]) == (0, pytest.approx(plan.ratio))
    page = ElementTree.fromstring(out.read_text(encoding="utf-8"))
    assert [div.text for div in page.iter("div") if div.text in SEEDS] == [*SEEDS]
    full, *_, pruned = rows(page)
    assert np.array_equal(pruned, drawn(folder, plan))
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(5)
    plain = pipe("a red bicycle", num_inference_steps=4, guidance_scale=7.5, generator=noise).images[0]
    assert np.array_equal(full[0], np.asarray(plain))
    maps = [
        svg.attrib["aria-label"] for svg in page.iter(SVG + "svg") if "cosine" in svg.attrib["aria-label"]
    ]
    assert maps
    assert {label.partition(":")[0] for label in maps} <= {*plan.blocks}


def test_prune_writes_a_page_too(
    prune: Callable[..., int], plan_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That of the plan that it found, and says so."""
    out, page = tmp_path / "plan.json", tmp_path / "page.html"
    capsys.readouterr()
    assert prune("--out", out, "--seed", 3, "--report", page) == 0
    assert capsys.readouterr().out.endswith(f"\nWrote {page}\n")
    written = ElementTree.fromstring(page.read_text(encoding="utf-8"))
    titles = [title.text for title in written.iter("h2")]
    assert {"Images", "Which block runs at which step", "How alike steps are", "What the search tried"} <= {
        *titles
    }
    ratio = dipgo_fx.Plan.load(out).ratio
    assert f"{ratio:.1%} of MACs removed" in (written.findtext("head/title") or "")
    assert len(rows(written)[0]) == 2


def test_a_page_of_another_guidance(
    folder: Path, plan_file: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The images are drawn under it; without any there is no table for the unconditional half."""
    out, plan = tmp_path / "page.html", dipgo_fx.Plan.load(plan_file)
    assert plan.facts.guidance.split
    given = [str(folder), str(plan_file), "--prompts", str(prompts), "--seed", "5", "--out", str(out)]
    assert main(["report", *given, "--guidance", "3"]) == 0
    *_, pruned = rows(ElementTree.fromstring(out.read_text(encoding="utf-8")))
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    with dipgo_fx.enabled(pipe, plan):
        noise = torch.Generator().manual_seed(5)
        image = pipe("a red bicycle", num_inference_steps=4, guidance_scale=3.0, generator=noise).images[0]
    assert np.array_equal(pruned[0], np.asarray(image))
    capsys.readouterr()
    assert main(["report", *given, "--guidance", "1"]) == 2
    assert "--guidance must be a scale under which the pipeline guides" in capsys.readouterr().err


def test_prompts_by_default_are_those_that_few_searches_see(
    folder: Path, plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of the package's own, above the columns; the page has a name by default."""
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(folder), str(plan_file)]) == 0
    heads = re.findall(
        r'<div style="width: \d+px">([^<]*)</div>', Path("report.html").read_text(encoding="utf-8")
    )
    assert [head for head in heads if head in shipped_prompts()] == shipped_prompts()[-4:]


def test_ratios_are_those_of_the_frontier() -> None:
    """From 0 to the plan's own, rising, each one that a point has."""
    plan = with_frontier(PLAIN)
    assert plan.cost is not None
    first, *between, last = ratios_of(plan)
    assert (first, last) == (0, None)
    assert between
    known = [1 - plan.cost.kept(point.table(plan.cost)) for point in plan.frontier]
    assert all(min(abs(ratio - own) for own in known) < 1e-6 for ratio in between if ratio is not None)
    assert between == sorted(between, key=float)  # type: ignore[arg-type]
    assert 0 < float(between[0] or 0) < float(between[-1] or 0) < plan.ratio or len(between) == 1


def test_a_plan_without_a_frontier_is_drawn_at_its_own_ratio() -> None:
    """And at 0; one that keeps everything at 0 only."""
    plan = with_frontier(PLAIN)
    assert plan.cost is not None
    alone = dipgo_fx.Plan(plan.facts, plan.table, plan.ratio, cost=plan.cost)
    assert ratios_of(alone) == [0, None]
    whole = dipgo_fx.passes.GateTable.of(plan.cost.all_kept)
    assert ratios_of(dipgo_fx.Plan(plan.facts, whole, 0.0, cost=plan.cost)) == [0]


@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        ("report", ["{folder}", "none.json"], "none.json"),
        ("report", ["{folder}", "{plan}", "--out", "nowhere/page.html"], "--out must be a file in a folder"),
        ("report", ["{folder}", "{plan}", "--prompts", "none.txt"], "none.txt"),
        ("report", ["none", "{plan}"], "no folder of a diffusers pipeline"),
        ("prune", ["{folder}", "--report", "nowhere/page.html"], "--report must be a file in a folder"),
    ],
)
def test_bad_input_is_refused(
    folder: Path,
    plan_file: Path,
    command: str,
    options: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With status 2 and one line, before anything is drawn."""
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main([command, *(option.format(folder=folder, plan=plan_file) for option in options)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"dipgo-fx {command}: ")
    assert says in line


def test_a_page_that_would_stay_empty_is_refused_before_the_search(
    prune: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A pipeline of tensors is told by one call; no plan is searched."""
    real = StableDiffusionPipeline.__call__
    monkeypatch.setattr(
        StableDiffusionPipeline,
        "__call__",
        lambda pipe, *args, **given: real(pipe, *args, **given, output_type="pt"),
    )
    monkeypatch.setattr(
        "dipgo_fx.cli.prune.prune_pipeline", lambda *args, **given: pytest.fail("it searched")
    )
    assert prune("--out", tmp_path / "plan.json", "--report", tmp_path / "page.html") == 2
    assert "makes no images" in capsys.readouterr().err


def test_a_plan_that_two_ratios_ask_for_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row has one image a prompt."""

    @contextmanager
    def enabled(pipe: Any, plan: Any, ratio: float | None) -> Iterator[Any]:
        yield SimpleNamespace(plan=SimpleNamespace(ratio=0.5 if ratio is None else round(ratio, 1)))

    monkeypatch.setattr(command, "enabled", enabled)
    monkeypatch.setattr(command, "ratios_of", lambda plan: [0.0, 0.3, 0.32, 0.5, None])
    monkeypatch.setattr(command, "image_of", lambda pipe, prompt, seed, call: (prompt, seed))
    images: Any = command._drawn(None, PLAIN, {}, ["a", "b"], 3, False)
    assert images == {ratio: [("a", 3), ("b", 4)] for ratio in (0.0, 0.3, 0.5)}


def test_what_a_plan_decides_is_said(
    folder: Path,
    searched_as: Callable[..., Path],
    from_plan: Callable[..., tuple[object, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a line and as a value."""
    monkeypatch.setattr(command, "write_page", lambda *_: [0.0])
    plan, page = searched_as("plan.json", height=64, prompt="a fox"), tmp_path / "page.html"
    value, text = from_plan("report", folder, plan, "--out", page)
    assert value == {"height": 64}
    assert text == f"Called as the plan's search: height=64\nWrote {page}\n"


@pytest.mark.parametrize("spoilt", ["plan.json", "prompts.txt"])
@pytest.mark.parametrize("named", ["plan.json", "."])
def test_the_page_is_no_file_that_is_read(
    spoilt: str, named: str, plan_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the plan's, named by itself or by its folder, nor that of prompts."""
    (tmp_path / "plan.json").write_bytes(plan_file.read_bytes())
    (tmp_path / "prompts.txt").write_text("a fox", encoding="utf-8")
    before = (tmp_path / spoilt).read_bytes()
    given = ["nowhere", str(tmp_path / named), "--prompts", str(tmp_path / "prompts.txt")]
    assert main(["report", *given, "--out", str(tmp_path / spoilt)]) == 2
    assert "and --out are one file" in capsys.readouterr().err
    assert (tmp_path / spoilt).read_bytes() == before
