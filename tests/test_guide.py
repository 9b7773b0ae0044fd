"""The code of the guide runs as it stands, on a tiny pipeline in place of the downloaded one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

import dipgo_fx
from benchmarks.coverage import pipelines

GUIDE = Path(__file__).parents[1] / "dipgo_fx" / "GUIDE.md"


@pytest.mark.long
def test_the_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the first block to the last; what it prints is what it speaks of."""
    pipe = pipelines.PIPELINES["sd-text"].build()
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "from_pretrained", lambda name: pipe)
    monkeypatch.chdir(tmp_path)
    real = dipgo_fx.prune_pipeline

    def prune_pipeline(*args: Any, **options: Any) -> dipgo_fx.Plan:
        """Search quickly."""
        quick = dipgo_fx.PruneConfig(samples=2, full_runs=3)
        return real(*args, **{**options, "config": quick, "progress": False})

    monkeypatch.setattr(dipgo_fx, "prune_pipeline", prune_pipeline)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
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
