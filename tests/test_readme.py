"""The README's code runs as it stands, on a tiny pipeline in place of the downloaded one."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch

import dipgo_fx
import zoo
from benchmarks.coverage import pipelines

README = Path(__file__).parents[1] / "README.md"


class TinyPipeline:
    """The parts of a Stable Diffusion pipeline that the README touches."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.unet = diffusers.UNet2DConditionModel(
            sample_size=64,
            block_out_channels=(4, 8),
            norm_num_groups=2,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=2,
            cross_attention_dim=8,
        ).eval()
        self.scheduler = diffusers.PNDMScheduler(skip_prk_steps=True)
        self.vae = SimpleNamespace(
            config=SimpleNamespace(scaling_factor=0.18215),
            decode=lambda latents: SimpleNamespace(sample=latents[:, :3]),
        )

    def encode_prompt(self, prompts: list[str], *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        """Return random embeddings, conditional ones first, as diffusers does."""
        both = torch.randn(2, len(prompts), 77, 8, generator=zoo.generator())
        return both[0], both[1]


def blocks() -> list[str]:
    """Return the README's blocks of Python."""
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.long
def test_readme_code_for_a_pipeline_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block, on a tiny pipeline with text encoder and VAE."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "from_pretrained", lambda name: pipe)
    real = dipgo_fx.prune_pipeline

    def prune_pipeline(*args: object, **options: object) -> dipgo_fx.Plan:
        """Search quickly: fewer samples and runs, fewer steps."""
        quick = dipgo_fx.PruneConfig(samples=2, full_runs=3)
        return real(*args, num_inference_steps=6, config=quick, progress=False, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(dipgo_fx, "prune_pipeline", prune_pipeline)
    names: dict[str, object] = {}
    exec(blocks()[0], names)
    assert names["plan"].ratio >= 0.8  # type: ignore[attr-defined]
    assert names["image"].size  # type: ignore[attr-defined]
    assert "forward" not in vars(pipe.unet)


@pytest.mark.long
def test_readme_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks about the loop run one after the other and give what they say."""
    _, *of_loops = blocks()
    assert len(of_loops) == 2
    pipe = TinyPipeline()
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "from_pretrained", lambda name: pipe)
    monkeypatch.chdir(tmp_path)
    real = dipgo_fx.prune

    def prune(*args: object, **options: object) -> dipgo_fx.Loop:
        """Search quickly: fewer samples and runs, fewer steps."""
        quick = dipgo_fx.PruneConfig(samples=2, full_runs=3)
        return real(*args, num_inference_steps=6, config=quick, progress=False, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(dipgo_fx, "prune", prune)
    names: dict[str, object] = {}
    for block in of_loops:
        exec(block, names)
    assert names["images"].shape == (4, 3, 64, 64)  # type: ignore[attr-defined]
    assert 0.5 <= names["half"].plan.ratio < 0.5 + 1 / 6  # type: ignore[attr-defined]  # less than a step
