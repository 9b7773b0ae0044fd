"""The denoisers of the paper's tables, built from their public configs; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers as d
import torch
from torch import nn


@dataclass(frozen=True)
class Setting:
    """One row of the paper's tables: a model, its sampler and the number of steps.

    Attributes:
        name: as the tables print it.
        model: class of the denoiser.
        config: its public config, typed in.
        scheduler: makes the sampler.
        steps: steps of the sampler.
        guidance_scale: classifier-free guidance where the paper's count has it, else `None`.
    """

    name: str
    model: type[Any]
    config: dict[str, Any]
    scheduler: Callable[[], Any]
    steps: int
    guidance_scale: float | None = None

    def build(self) -> nn.Module:
        """Build the denoiser on the meta device: it has shapes, but no weights."""
        with torch.device("meta"):
            built: nn.Module = self.model(**self.config).eval()
        return built


SD_15 = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD_21 = {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
DIT_XL_2 = {
    "num_layers": 28,
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "in_channels": 4,
    "out_channels": 8,
    "sample_size": 32,
    "patch_size": 2,
    "num_embeds_ada_norm": 1000,
    "norm_type": "ada_norm_zero",
    "norm_elementwise_affine": False,
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
}
PIXART_ALPHA = {
    **DIT_XL_2,
    "sample_size": 128,
    "cross_attention_dim": 1152,
    "caption_channels": 4096,
    "norm_type": "ada_norm_single",
}

SETTINGS = {
    "sd15": Setting("SD-1.5, 512²", d.UNet2DConditionModel, SD_15, d.DDIMScheduler, 50),
    "sd21": Setting("SD-2.1, 768²", d.UNet2DConditionModel, SD_21, d.DPMSolverMultistepScheduler, 50),
    "sdxl": Setting("SDXL, 1024²", d.UNet2DConditionModel, SDXL, d.LCMScheduler, 4),
    "dit": Setting("DiT-XL/2, 256²", d.DiTTransformer2DModel, DIT_XL_2, d.DDIMScheduler, 250),
    "pixart": Setting(
        "PixArt-α, 1024²",
        d.PixArtTransformer2DModel,
        PIXART_ALPHA,
        d.DPMSolverMultistepScheduler,
        20,
        guidance_scale=4.5,
    ),
}
