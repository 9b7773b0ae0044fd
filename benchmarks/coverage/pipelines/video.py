"""Other pipelines for video."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline
from diffusers.guiders import AdaptiveProjectedGuidance

from benchmarks.coverage.pipelines.parts import (
    HEADS,
    LATENT,
    MASKED,
    TOKENS,
    VIDEO,
    ddim,
    embeddings,
    euler,
    flow,
    no_text,
    random_model,
)
from benchmarks.coverage.pipelines.registry import tiny
from benchmarks.coverage.pipelines.wan import wan_vae


@tiny("mochi", "MochiTransformer3DModel", inputs=embeddings(16, mask=MASKED), **VIDEO)
def _mochi() -> DiffusionPipeline:
    transformer = random_model(
        d.MochiTransformer3DModel,
        **HEADS,
        num_layers=3,
        pooled_projection_dim=16,
        in_channels=4,
        text_embed_dim=16,
        time_embed_dim=16,
        max_sequence_length=TOKENS,
    )
    return d.MochiPipeline(**no_text(transformer=transformer, scheduler=flow()))


@tiny(
    "allegro", "AllegroTransformer3DModel", inputs=embeddings(16, mask=MASKED), negative_prompt=None, **VIDEO
)
def _allegro() -> DiffusionPipeline:
    transformer = random_model(
        d.AllegroTransformer3DModel,
        num_attention_heads=2,
        attention_head_dim=24,
        **LATENT,
        num_layers=2,
        cross_attention_dim=48,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        caption_channels=16,
    )
    return d.AllegroPipeline(**no_text(transformer=transformer, scheduler=euler()))


@tiny(
    "latte",
    "LatteTransformer3DModel",
    inputs=embeddings(16),
    negative_prompt=None,
    height=64,
    width=64,
    video_length=4,
)
def _latte() -> DiffusionPipeline:
    transformer = random_model(
        d.LatteTransformer3DModel,
        sample_size=8,
        num_layers=2,
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=12,
        caption_channels=16,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=24,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        video_length=4,
    )
    return d.LattePipeline(**no_text(transformer=transformer, scheduler=ddim(beta_schedule="linear")))


def easyanimate_transformer(**config: Any) -> Any:
    """Build the transformer of EasyAnimate."""
    return random_model(
        d.EasyAnimateTransformer3DModel,
        **{
            **HEADS,
            **LATENT,
            "patch_size": 2,
            "sample_width": 8,
            "sample_height": 8,
            "num_layers": 2,
            "mmdit_layers": 2,
            "time_embed_dim": 16,
            "add_norm_text_encoder": True,
            "text_embed_dim": 16,
            **config,
        },
    )


def easyanimate_vae(**config: Any) -> Any:
    """Build the VAE of EasyAnimate."""
    kinds = ("Spatial", "SpatialTemporal", "SpatialTemporal", "SpatialTemporal")
    return random_model(
        d.AutoencoderKLMagvit,
        **{
            "latent_channels": 4,
            "block_out_channels": (8, 8, 8, 8),
            "down_block_types": tuple(f"{kind}DownBlock3D" for kind in kinds),
            "up_block_types": tuple(f"{kind}UpBlock3D" for kind in kinds),
            "layers_per_block": 1,
            "norm_num_groups": 2,
            "spatial_group_norm": False,
            **config,
        },
    )


@tiny("easyanimate", "EasyAnimateTransformer3DModel", inputs=embeddings(16, mask=MASKED), **VIDEO)
def _easyanimate() -> DiffusionPipeline:
    parts = no_text(transformer=easyanimate_transformer(), scheduler=flow(shift=5.0))
    return d.EasyAnimatePipeline(**(parts | {"vae": easyanimate_vae()}))


def motif_transformer(**config: Any) -> Any:
    """Build the transformer of Motif-Video."""
    return random_model(
        d.MotifVideoTransformer3DModel,
        **{
            "in_channels": 9,
            "out_channels": 4,
            **HEADS,
            "num_layers": 2,
            "num_single_layers": 2,
            "num_decoder_layers": 1,
            "text_embed_dim": 16,
            "rope_axes_dim": (4, 6, 6),
            "enable_text_cross_attention_dual": True,
            "enable_text_cross_attention_single": True,
            **config,
        },
    )


@tiny("motif", "MotifVideoTransformer3DModel", inputs=embeddings(16, mask=MASKED), **VIDEO)
def _motif() -> DiffusionPipeline:
    parts = no_text(transformer=motif_transformer(), scheduler=flow(shift=7.0))
    return d.MotifVideoPipeline(**(parts | {"vae": wan_vae(), "guider": AdaptiveProjectedGuidance()}))
