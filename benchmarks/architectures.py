"""The denoisers of the paper's tables and two newer ones, by their public configs; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import diffusers as d
import torch
from torch import nn

from dipgo_fx.inputs import example_conditioning, example_sample


@dataclass(frozen=True)
class Setting:
    """A model, its sampler and the number of steps, as the paper's tables have them.

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
"""The paper's."""

SD3_MEDIUM = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}
FLUX = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
FLUX_SIDE = 128  # of the latents of its images; its config has no sample_size
TOKENS = {"SD3Transformer2DModel": 77 + 256, "FluxTransformer2DModel": 512}
SHARED = frozenset({"txt_ids", "img_ids"})
"""Position ids, which all samples share."""

flow = partial(d.FlowMatchEulerDiscreteScheduler, shift=3.0)
ARCHITECTURES = {
    **SETTINGS,
    "sd3": Setting("SD3-medium, 1024²", d.SD3Transformer2DModel, SD3_MEDIUM, flow, 28),
    "flux": Setting("Flux, 1024²", d.FluxTransformer2DModel, FLUX, flow, 28),
}
"""The paper's, and models of today."""


def example_inputs(model: Any, side: int | None = None, tokens: int | None = None) -> dict[str, Any]:
    """Return inputs of a loop for one sample, as the model's weights are: zeros, and position ids.

    Args:
        model: built from a setting of this file.
        side: of the latents of Flux, 128 if omitted; other models have it in their config.
        tokens: length of the text for SD3 and Flux, that of their pipelines if omitted.
    """
    text = tokens or TOKENS.get(type(model).__name__, 0)
    if isinstance(model, d.FluxTransformer2DModel):
        return _flux_inputs(model, (side or FLUX_SIDE) // 2, text)
    sample = example_sample(model)
    if isinstance(model, d.SD3Transformer2DModel):
        return {"sample": sample, **_text_inputs(model, text)}
    return {"sample": sample, **example_conditioning(model)}


def _flux_inputs(model: Any, side: int, text: int) -> dict[str, Any]:
    """Return inputs of Flux, whose samples are rows of 2 x 2 latents."""
    first = next(model.parameters())
    ids = torch.zeros(side, side, 3, dtype=first.dtype, device=first.device)
    ids[..., 1] += torch.arange(side, device=first.device)[:, None]
    ids[..., 2] += torch.arange(side, device=first.device)[None]
    return {
        "sample": first.new_zeros(1, side * side, model.config.in_channels),
        **_text_inputs(model, text),
        **({"guidance": first.new_full((1,), 3.5)} if model.config.guidance_embeds else {}),
        "txt_ids": first.new_zeros(text, 3),
        "img_ids": ids.reshape(side * side, 3),
    }


def _text_inputs(model: Any, text: int) -> dict[str, Any]:
    first, config = next(model.parameters()), model.config
    return {
        "encoder_hidden_states": first.new_zeros(1, text, config.joint_attention_dim),
        "pooled_projections": first.new_zeros(1, config.pooled_projection_dim),
    }
