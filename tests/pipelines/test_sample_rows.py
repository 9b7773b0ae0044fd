"""The scheduler's step is watched once, and found as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import dipgo_fx
from benchmarks.coverage import pipelines
from tiny_pipelines import plan_of, run


@pytest.fixture
def pipe() -> Any:
    """A tiny Stable Diffusion."""
    return pipelines.PIPELINES["sd"].build()


def test_another_pipeline_with_the_same_model_is_refused(pipe: Any) -> None:
    """Its scheduler is another: nobody knows at which step it is."""
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    other = type(pipe)(**{**pipe.components, "scheduler": scheduler})
    dipgo_fx.enable(pipe, plan_of("sd"))
    expected = run("sd", pipe)
    with pytest.raises(RuntimeError, match="another pipeline has the same model"):
        run("sd", other)
    assert "step" not in vars(pipe.scheduler)
    assert torch.equal(run("sd", pipe), expected)
