"""Stable Diffusion XL and its kin."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline
from diffusers.pipelines.kolors.pipeline_kolors import KolorsPipeline

from benchmarks.coverage.pipelines.parts import (
    an_image,
    clip_text,
    clip_tokenizer,
    embeddings,
    euler,
    kl_vae,
    no_text,
    prompts,
    together,
)
from benchmarks.coverage.pipelines.registry import add, tiny
from benchmarks.coverage.pipelines.stable_diffusion import sd_unet


def sdxl_unet(**config: Any) -> Any:
    """Build the UNet of Stable Diffusion XL."""
    return sd_unet(
        **{
            "block_out_channels": (8, 16, 16),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 3),
            "attention_head_dim": (1, 2, 2),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 16 + 6 * 8,
            "cross_attention_dim": 32,
            **config,
        }
    )


def sdxl_parts(*, text: bool = False, **parts: Any) -> dict[str, Any]:
    """Return the parts of Stable Diffusion XL, with text encoders or without."""
    return {
        "vae": kl_vae(),
        "text_encoder": clip_text() if text else None,
        "text_encoder_2": clip_text(projection=True) if text else None,
        "tokenizer": clip_tokenizer() if text else None,
        "tokenizer_2": clip_tokenizer() if text else None,
        "unet": sdxl_unet(),
        "scheduler": euler(),
        "add_watermarker": False,
        **parts,
    }


SDXL_EMBEDS = embeddings(32, pooled_prompt_embeds=16)


@tiny("sdxl", inputs=SDXL_EMBEDS)
def _sdxl() -> DiffusionPipeline:
    return d.StableDiffusionXLPipeline(**sdxl_parts())


@tiny("sdxl-text", inputs=prompts)
def _sdxl_text() -> DiffusionPipeline:
    return d.StableDiffusionXLPipeline(**sdxl_parts(text=True))


@tiny("sdxl-refiner", inputs=together(SDXL_EMBEDS, an_image()), strength=0.99)
def _sdxl_refiner() -> DiffusionPipeline:
    unet = sdxl_unet(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=2,
        attention_head_dim=(1, 2, 2, 2),
        projection_class_embeddings_input_dim=16 + 5 * 8,
    )
    return d.StableDiffusionXLImg2ImgPipeline(**sdxl_parts(unet=unet, requires_aesthetics_score=True))


def kolors_parts() -> dict[str, Any]:
    """Return the parts of Kolors."""
    unet = sdxl_unet(encoder_hid_dim=24, encoder_hid_dim_type="text_proj")
    return no_text(unet=unet, scheduler=euler(), vae=kl_vae())


KOLORS_EMBEDS = embeddings(24, pooled_prompt_embeds=16)
add("kolors", KolorsPipeline, kolors_parts, inputs=KOLORS_EMBEDS)
