"""Which component of a pipeline a plan is for."""

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


def test_a_part_that_is_compiled_beside_the_denoiser_is_no_matter(pipe: Any) -> None:
    """Only that of the denoiser leaves no room; and one that was compiled since is disabled like any."""
    plan, stock = plan_of("sd"), run("sd", pipe)
    pipe.vae.compile()
    dipgo_fx.enable(pipe, plan)
    pipe.unet = torch.compile(pipe.unet)
    dipgo_fx.disable(pipe)
    pipe.unet = pipe.unet._orig_mod
    assert torch.equal(run("sd", pipe), stock)
