"""The code of the guide runs as it stands, on tiny pipelines in place of the downloaded one."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

import dipgo_fx
import zoo
from benchmarks.coverage import pipelines

GUIDE = Path(__file__).parents[1] / "dipgo_fx" / "GUIDE.md"
BY_ITSELF = "The loop by itself"
QUICK = dipgo_fx.PruneConfig(samples=2, full_runs=3)


class TinyPipeline:
    """The parts of a Stable Diffusion pipeline that the loop by itself is made of."""

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


def sections() -> dict[str, list[str]]:
    """Return the guide's blocks of Python by the headings that they stand under."""
    parts = re.split(r"^## (.+)$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        heading: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.mark.long
def test_the_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the first block to the last but for the loop by itself; what it prints is what it speaks of."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "from_pretrained", lambda name: pipe)
    monkeypatch.chdir(tmp_path)
    real = dipgo_fx.prune_pipeline

    def prune_pipeline(*args: Any, **options: Any) -> dipgo_fx.Plan:
        """Search quickly."""
        return real(*args, **{**options, "config": QUICK, "progress": False})

    monkeypatch.setattr(dipgo_fx, "prune_pipeline", prune_pipeline)
    names: dict[str, Any] = {}
    for block in (block for name, own in sections().items() if name != BY_ITSELF for block in own):
        exec(block.replace("num_inference_steps=20", "num_inference_steps=5"), names)
    assert names["plan"].ratio >= 0.5
    assert len(names["pruned"]) == len(names["full"]) == 2
    assert 0.25 <= names["turbo"].plan.ratio < 0.5
    assert names["latents"].shape == (2, 4, 8, 8)
    assert names["loop"].blocks == ("layers.0", "layers.1", "layers.2", "last")
    told = capsys.readouterr().out
    assert "at step 3 (timestep " in told
    assert "pass drop-repeated-casts: " in told
    assert names["record"].nodes_after < names["record"].nodes_before
    arguments = {name: rows[:2] for name, rows in names["conditioning"].items()}
    noise = torch.randn(2, 4, 8, 8)
    assert torch.equal(names["shorter"](noise, **arguments), names["turbo"](noise, **arguments))
    assert Path("sd15.journal").exists()


@pytest.mark.long
def test_the_loop_by_itself_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks run one after the other, on the pipeline and the prompts of the section before."""
    monkeypatch.chdir(tmp_path)
    real = dipgo_fx.prune

    def prune(*args: Any, **options: Any) -> dipgo_fx.PrunedLoop:
        """Search quickly: fewer samples and runs, fewer steps."""
        return real(*args, num_inference_steps=6, config=QUICK, progress=False, **options)

    monkeypatch.setattr(dipgo_fx, "prune", prune)
    prompts = ["a red bicycle", "a lighthouse in fog", "two cats on a sofa", "a bowl of ramen"]
    names: dict[str, Any] = {
        **{"torch": torch, "dipgo_fx": dipgo_fx},
        **{"pipe": TinyPipeline(), "prompts": prompts},
    }
    blocks = sections()[BY_ITSELF]
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    assert names["images"].shape == (4, 3, 64, 64)
    assert 0.5 <= names["half"].plan.ratio < 0.5 + 1 / 6  # less than a step
