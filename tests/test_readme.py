"""The README's code runs as it stands, on a tiny pipeline in place of the downloaded one."""

from __future__ import annotations

import re
from pathlib import Path

import diffusers
import pytest

import dipgo_fx
from benchmarks.coverage import pipelines

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "dipgo_fx/GUIDE.md", "benchmarks/README.md", ".github/CONTRIBUTING.md")
LONGEST = 170
"""Lines of what is still one page."""


@pytest.mark.long
def test_readme_code_for_a_pipeline_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a tiny pipeline with text encoder and VAE."""
    monkeypatch.chdir(tmp_path)
    pipe = pipelines.PIPELINES["sd-text"].build()
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "from_pretrained", lambda name: pipe)
    real = dipgo_fx.prune_pipeline

    def prune_pipeline(*args: object, **options: object) -> dipgo_fx.Plan:
        """Search quickly: fewer samples and runs, fewer steps."""
        quick = dipgo_fx.PruneConfig(samples=2, full_runs=3)
        options |= {"num_inference_steps": 6, "config": quick, "progress": False}
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(dipgo_fx, "prune_pipeline", prune_pipeline)
    names: dict[str, object] = {}
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(block, names)
    assert names["plan"].ratio >= 0.5  # type: ignore[attr-defined]
    assert names["image"].size  # type: ignore[attr-defined]
    assert "forward" not in vars(pipe.unet)


def test_the_readme_is_one_page() -> None:
    """What it costs stands before how it is installed, and where it is behind on the same page."""
    assert len(TEXT.splitlines()) <= LONGEST
    order = re.findall(r"<!-- report: (\S+) -->", TEXT)
    assert order[0] == "price-of-use"
    assert TEXT.index("report: price-of-use") < TEXT.index("## Install") < TEXT.index("report: behind")
    assert "## Limits" in TEXT


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """To a file or folder of the repository, and to a heading that is there."""
    file = ROOT / page
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", file.read_text("utf-8"), flags=re.DOTALL))
    for link in (link for link in links if "://" not in link):
        path, _, heading = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), link
        if heading:
            assert heading in headings(target.read_text(encoding="utf-8")), link


def headings(text: str) -> set[str]:
    """Return the headings of a page as links name them."""
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}
