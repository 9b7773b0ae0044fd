"""Tiny models of every supported family, all schedulers, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import diffusers as d
import pytest
import torch
from torch import nn

from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.guidance import NO_GUIDANCE, Guidance


def _dit() -> nn.Module:
    return d.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=1,
        out_channels=1,
        num_layers=3,
        sample_size=8,
        num_embeds_ada_norm=10,
    )


def _dit_variance() -> nn.Module:
    return d.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=2,
        out_channels=4,
        num_layers=2,
        sample_size=8,
        num_embeds_ada_norm=10,
    )


def _unet() -> nn.Module:
    return d.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        num_class_embeds=11,
    )


def _unet_text() -> nn.Module:
    return d.UNet2DConditionModel(
        sample_size=8,
        in_channels=2,
        out_channels=2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
        cross_attention_dim=12,
    )


def _pixart() -> nn.Module:
    return d.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=2,
        out_channels=4,
        num_layers=2,
        sample_size=8,
        caption_channels=12,
        cross_attention_dim=16,
    )


_MODELS: dict[str, Callable[[], nn.Module]] = {
    "dit": _dit,
    "dit-variance": _dit_variance,
    "unet": _unet,
    "unet-text": _unet_text,
    "pixart": _pixart,
}
MODELS = tuple(_MODELS)
CASES = [pytest.param(name, marks=pytest.mark.long if name == "unet-text" else ()) for name in MODELS]
"""The models for tests that need not try the slowest one each time."""
SCHEDULERS: dict[str, Callable[[], Any]] = {
    "ddim": d.DDIMScheduler,
    "ddpm": d.DDPMScheduler,
    "pndm": d.PNDMScheduler,
    "plms": lambda: d.PNDMScheduler(skip_prk_steps=True),
    "dpm++": d.DPMSolverMultistepScheduler,
    "euler": d.EulerDiscreteScheduler,
    "euler-a": d.EulerAncestralDiscreteScheduler,
    "lcm": d.LCMScheduler,
    "unipc": d.UniPCMultistepScheduler,
    "heun": d.HeunDiscreteScheduler,
    "deis": d.DEISMultistepScheduler,
    "flow-match": d.FlowMatchEulerDiscreteScheduler,
}


@cache
def model(name: str) -> nn.Module:
    """Return a tiny model with fixed random weights, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = _MODELS[name]().eval()
        # DiT-like models start with zero modulation: without noise no block would matter.
        with torch.no_grad():
            for parameter in built.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    return built


def generator(seed: int = 0) -> torch.Generator:
    """Return a seeded generator."""
    return torch.Generator().manual_seed(seed)


def sample(name: str, batch: int = 2) -> torch.Tensor:
    """Return initial noise for a model."""
    channels = model(name).config.in_channels
    return torch.randn(batch, channels, 8, 8, generator=generator(1))


def conditioning(name: str, rows: int = 2) -> dict[str, torch.Tensor]:
    """Return the conditioning a model needs."""
    if name in ("dit", "dit-variance", "unet"):
        return {"class_labels": torch.arange(rows) % 10}
    tokens = 77 if name == "unet-text" else 120
    return {"encoder_hidden_states": torch.randn(rows, tokens, 12, generator=generator(2))}


@torch.no_grad()
def eager(
    name: str,
    scheduler: Any,
    steps: int,
    x: torch.Tensor,
    inputs: dict[str, torch.Tensor],
    guidance: Guidance = NO_GUIDANCE,
) -> torch.Tensor:
    """Run the plain loop, the reference for everything."""
    return denoise(
        model(name),
        prepared(scheduler, steps),
        x,
        inputs,
        guidance,
        generator=generator(3),
    )
