"""LTX-Video, without and with sound."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline
from diffusers.pipelines.ltx2 import LTX2TextConnectors

from benchmarks.coverage.pipelines.parts import (
    HEADS,
    LATENT,
    MASKED,
    VIDEO,
    embeddings,
    flow_dynamic,
    no_text,
    random_model,
)
from benchmarks.coverage.pipelines.registry import tiny


def ltx_transformer(**config: Any) -> Any:
    """Build the transformer of LTX-Video."""
    return random_model(
        d.LTXVideoTransformer3DModel,
        **{
            "in_channels": 8,
            "out_channels": 8,
            **HEADS,
            "cross_attention_dim": 32,
            "num_layers": 2,
            "caption_channels": 16,
            **config,
        },
    )


@tiny("ltx", "LTXVideoTransformer3DModel", inputs=embeddings(16, mask=MASKED), **VIDEO)
def _ltx() -> DiffusionPipeline:
    return d.LTXPipeline(**no_text(transformer=ltx_transformer(), scheduler=flow_dynamic()))


def ltx2_vae() -> Any:
    """Build the VAE of LTX 2."""
    return random_model(
        d.AutoencoderKLLTX2Video,
        latent_channels=4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_residual=(False,),
        upsample_factor=(1,),
    )


def ltx2_transformer(**config: Any) -> Any:
    """Build the transformer of LTX 2."""
    return random_model(
        d.LTX2VideoTransformer3DModel,
        **{
            **LATENT,
            **HEADS,
            "cross_attention_dim": 32,
            "audio_in_channels": 4,
            "audio_out_channels": 4,
            "audio_num_attention_heads": 2,
            "audio_attention_head_dim": 8,
            "audio_cross_attention_dim": 16,
            "num_layers": 2,
            "caption_channels": 16,
            "rope_type": "split",
            **config,
        },
    )


def ltx2_connectors(**config: Any) -> Any:
    """Build what takes LTX 2's text to its transformer."""
    return random_model(
        LTX2TextConnectors,
        **{
            "caption_channels": 16,
            "text_proj_in_factor": 2,
            "video_connector_num_attention_heads": 2,
            "video_connector_attention_head_dim": 8,
            "video_connector_num_layers": 1,
            "video_connector_num_learnable_registers": None,
            "audio_connector_num_attention_heads": 2,
            "audio_connector_attention_head_dim": 8,
            "audio_connector_num_layers": 1,
            "audio_connector_num_learnable_registers": None,
            "connector_rope_base_seq_len": 32,
            "rope_type": "split",
            **config,
        },
    )


def ltx2_audio_vae(**config: Any) -> Any:
    """Build the VAE of LTX 2 for sound."""
    return random_model(
        d.AutoencoderKLLTX2Audio,
        **{
            "base_channels": 4,
            "ch_mult": (1,),
            "num_res_blocks": 1,
            "latent_channels": 2,
            "mel_bins": 8,
            **config,
        },
    )


@tiny(
    "ltx2",
    "LTX2VideoTransformer3DModel",
    inputs=embeddings(32, mask=MASKED),
    spatio_temporal_guidance_blocks=[1],
    frame_rate=24.0,
    **VIDEO,
)
def _ltx2() -> DiffusionPipeline:
    parts = no_text(transformer=ltx2_transformer(), scheduler=flow_dynamic())
    parts |= {"vae": ltx2_vae(), "audio_vae": ltx2_audio_vae()}
    return d.LTX2Pipeline(**parts, connectors=ltx2_connectors(), vocoder=None)
