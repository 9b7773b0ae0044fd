"""Stable Cascade."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.parts import (
    LATENT,
    clip_text,
    clip_tokenizer,
    prompts,
    randn,
    random_model,
    together,
)
from benchmarks.coverage.pipelines.registry import tiny


def _cascade_unet(**config: Any) -> Any:
    return random_model(
        d.StableCascadeUNet,
        **{
            **LATENT,
            "timestep_ratio_embedding_dim": 16,
            "conditioning_dim": 16,
            "block_out_channels": (16, 16),
            "num_attention_heads": (2, 2),
            "down_num_layers_per_block": (2, 2),
            "up_num_layers_per_block": (2, 2),
            "clip_text_pooled_in_channels": 16,
            **config,
        },
    )


def cascade_prior(**config: Any) -> Any:
    """Build the prior of Stable Cascade."""
    return _cascade_unet(
        **{"clip_text_in_channels": 16, "clip_image_in_channels": 16, "switch_level": (False,), **config}
    )


@tiny("cascade-prior", "StableCascadeUNet", inputs=prompts, height=256, width=256)
def _cascade_prior() -> DiffusionPipeline:
    return d.StableCascadePriorPipeline(
        tokenizer=clip_tokenizer(),
        text_encoder=clip_text(projection=True),
        prior=cascade_prior(),
        scheduler=d.DDPMWuerstchenScheduler(),
    )


def cascade_decoder(**config: Any) -> Any:
    """Build the decoder of Stable Cascade."""
    plain, attending = ("SDCascadeResBlock", "SDCascadeTimestepBlock"), ("SDCascadeAttnBlock",)
    return _cascade_unet(
        **{
            "patch_size": 2,
            "block_out_channels": (8, 16, 16, 16),
            "num_attention_heads": (-1, -1, 2, 2),
            "down_num_layers_per_block": (2, 2, 2, 2),
            "up_num_layers_per_block": (2, 2, 2, 2),
            "down_blocks_repeat_mappers": (1, 1, 1, 1),
            "up_blocks_repeat_mappers": (3, 3, 2, 2),
            "block_types_per_layer": (plain, plain, plain + attending, plain + attending),
            "dropout": (0, 0, 0.1, 0.1),
            "effnet_in_channels": 4,
            "timestep_conditioning_type": ("sca",),
            **config,
        }
    )


@tiny(
    "cascade",
    inputs=together(prompts, lambda batch: {"image_embeddings": randn(batch, 4, 3, 3)}),
    guidance_scale=2.0,
)
def _cascade() -> DiffusionPipeline:
    return d.StableCascadeDecoderPipeline(
        decoder=cascade_decoder(),
        tokenizer=clip_tokenizer(),
        text_encoder=clip_text(projection=True),
        scheduler=d.DDPMWuerstchenScheduler(),
        vqgan=None,
    )
