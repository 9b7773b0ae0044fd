"""Stable Diffusion 3."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.parts import (
    HEADS,
    LATENT,
    clip_text,
    clip_tokenizer,
    embeddings,
    flow,
    no_text,
    prompts,
    random_model,
    t5_text,
    t5_tokenizer,
)
from benchmarks.coverage.pipelines.registry import add, tiny


def sd3_transformer(**config: Any) -> Any:
    """Build the transformer of Stable Diffusion 3."""
    return random_model(
        d.SD3Transformer2DModel,
        **{
            "sample_size": 8,
            "patch_size": 2,
            **LATENT,
            "num_layers": 3,
            **HEADS,
            "caption_projection_dim": 32,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 32,
            "pos_embed_max_size": 16,
            **config,
        },
    )


def sd3_parts(**parts: Any) -> dict[str, Any]:
    """Return the parts of Stable Diffusion 3 without text encoders and VAE."""
    return no_text(3, **{"transformer": sd3_transformer(), "scheduler": flow(), **parts})


SD3_EMBEDS = embeddings(32, pooled_prompt_embeds=32)
add("sd3", d.StableDiffusion3Pipeline, sd3_parts, "SD3Transformer2DModel", inputs=SD3_EMBEDS)


@tiny("sd3-text", inputs=prompts, max_sequence_length=24)
def _sd3_text() -> DiffusionPipeline:
    return d.StableDiffusion3Pipeline(
        transformer=sd3_transformer(),
        scheduler=flow(),
        vae=None,
        text_encoder=clip_text(projection=True),
        text_encoder_2=clip_text(projection=True),
        text_encoder_3=t5_text(32),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=t5_tokenizer(),
    )


@tiny("sd3.5", inputs=SD3_EMBEDS)
def _sd35() -> DiffusionPipeline:
    transformer = sd3_transformer(qk_norm="rms_norm", dual_attention_layers=(0, 1))
    return d.StableDiffusion3Pipeline(**sd3_parts(transformer=transformer))
