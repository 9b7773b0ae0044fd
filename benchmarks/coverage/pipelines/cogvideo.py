"""CogVideoX, ConsisID and CogView."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline
from diffusers.pipelines.consisid.pipeline_consisid import ConsisIDPipeline

from benchmarks.coverage.pipelines.parts import (
    HEADS,
    LATENT,
    TOKENS,
    VIDEO,
    embeddings,
    flow,
    images,
    no_text,
    randn,
    random_model,
    together,
)
from benchmarks.coverage.pipelines.registry import tiny


def cogvideox_transformer(**config: Any) -> Any:
    """Build the transformer of CogVideoX."""
    return random_model(
        d.CogVideoXTransformer3DModel,
        **{
            **HEADS,
            **LATENT,
            "time_embed_dim": 16,
            "text_embed_dim": 16,
            "num_layers": 2,
            "sample_width": 8,
            "sample_height": 8,
            "sample_frames": 9,
            "max_text_seq_length": TOKENS,
            **config,
        },
    )


def cogvideox_scheduler(cls: Any = d.CogVideoXDDIMScheduler) -> Any:
    """Return a scheduler of CogVideoX."""
    return cls(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")


@tiny("cogvideox", "CogVideoXTransformer3DModel", inputs=embeddings(16), **VIDEO)
def _cogvideox() -> DiffusionPipeline:
    transformer = cogvideox_transformer(use_rotary_positional_embeddings=True)
    scheduler = cogvideox_scheduler(d.CogVideoXDPMScheduler)
    return d.CogVideoXPipeline(**no_text(transformer=transformer, scheduler=scheduler))


@tiny("cogvideox-2b", inputs=embeddings(16), **VIDEO)
def _cogvideox_2b() -> DiffusionPipeline:
    return d.CogVideoXPipeline(
        **no_text(transformer=cogvideox_transformer(), scheduler=cogvideox_scheduler())
    )


def cogvideox_vae(**config: Any) -> Any:
    """Build the VAE of CogVideoX."""
    return random_model(
        d.AutoencoderKLCogVideoX,
        **{
            "down_block_types": ("CogVideoXDownBlock3D",) * 4,
            "up_block_types": ("CogVideoXUpBlock3D",) * 4,
            "block_out_channels": (8, 8, 8, 8),
            "latent_channels": 4,
            "layers_per_block": 1,
            "norm_num_groups": 2,
            **config,
        },
    )


@tiny(
    "consisid",
    "ConsisIDTransformer3DModel",
    inputs=together(
        embeddings(16),
        lambda batch: {
            "image": images(batch, 64),
            "id_vit_hidden": [randn(1, 3, 16, seed=seed) for seed in (30, 31)],
            "id_cond": randn(1, 16, seed=32),
        },
    ),
    **VIDEO,
)
def _consisid() -> DiffusionPipeline:
    transformer = random_model(
        d.ConsisIDTransformer3DModel,
        num_attention_heads=3,
        attention_head_dim=16,
        in_channels=8,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=16,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        max_text_seq_length=TOKENS,
        use_rotary_positional_embeddings=True,
        is_train_face=True,
        cross_attn_interval=2,
        cross_attn_dim_head=8,
        cross_attn_num_heads=2,
        LFE_id_dim=16,
        LFE_vit_dim=16,
        LFE_depth=4,
        LFE_dim_head=8,
        LFE_num_heads=2,
        LFE_num_id_token=2,
        LFE_num_querie=4,
        LFE_output_dim=32,
        LFE_ff_mult=1,
        LFE_num_scale=2,
    )
    parts = no_text(transformer=transformer, scheduler=cogvideox_scheduler(d.CogVideoXDPMScheduler))
    return ConsisIDPipeline(**(parts | {"vae": cogvideox_vae()}))


@tiny("cogview3", "CogView3PlusTransformer2DModel", inputs=embeddings(16), height=64, width=64)
def _cogview3() -> DiffusionPipeline:
    transformer = random_model(
        d.CogView3PlusTransformer2DModel,
        **LATENT,
        num_layers=2,
        **HEADS,
        text_embed_dim=16,
        time_embed_dim=16,
        condition_dim=8,
        pos_embed_max_size=16,
        sample_size=8,
    )
    return d.CogView3PlusPipeline(**no_text(transformer=transformer, scheduler=cogvideox_scheduler()))


def cogview4_transformer(**config: Any) -> Any:
    """Build the transformer of CogView 4."""
    return random_model(
        d.CogView4Transformer2DModel,
        **{
            **LATENT,
            "num_layers": 2,
            **HEADS,
            "text_embed_dim": 16,
            "time_embed_dim": 16,
            "condition_dim": 8,
            "sample_size": 8,
            "rope_axes_dim": (16, 16),
            **config,
        },
    )


def cogview4_scheduler(**config: Any) -> Any:
    """Return the scheduler of CogView 4."""
    return flow(
        **{
            "base_shift": 0.25,
            "max_shift": 0.75,
            "base_image_seq_len": 256,
            "use_dynamic_shifting": True,
            "time_shift_type": "linear",
            **config,
        }
    )


@tiny("cogview4", "CogView4Transformer2DModel", inputs=embeddings(16, 16), height=64, width=64)
def _cogview4() -> DiffusionPipeline:
    return d.CogView4Pipeline(**no_text(transformer=cogview4_transformer(), scheduler=cogview4_scheduler()))
