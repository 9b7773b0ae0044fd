"""Wan and what has its transformer: SkyReels, AnyFlow, Helios, ChronoEdit."""

from __future__ import annotations

from typing import Any

import diffusers as d
import transformers
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.parts import (
    LATENT,
    VIDEO,
    clip_images,
    clip_vision,
    embeddings,
    flow,
    flow_solver,
    images,
    no_text,
    pictures,
    random_model,
    together,
)
from benchmarks.coverage.pipelines.registry import tiny

WAN = {
    **LATENT,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
}
"""What the transformers of Wan's family have in common."""


def wan_transformer(**config: Any) -> Any:
    """Build the transformer of Wan."""
    return random_model(d.WanTransformer3DModel, **{**WAN, "rope_max_seq_len": 32, **config})


def wan_vae() -> Any:
    """Build Wan's VAE, with its scale factors of 4 in time and 8 in space."""
    return random_model(
        d.AutoencoderKLWan,
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


@tiny("wan", "WanTransformer3DModel", inputs=embeddings(16), **VIDEO)
def _wan() -> DiffusionPipeline:
    scheduler = flow_solver(d.UniPCMultistepScheduler, 3.0)
    return d.WanPipeline(**no_text(transformer=wan_transformer(), scheduler=scheduler))


@tiny("wan22", inputs=embeddings(16), **VIDEO)
def _wan22() -> DiffusionPipeline:
    scheduler = flow_solver(d.UniPCMultistepScheduler, 3.0)
    experts = {"transformer": wan_transformer(), "transformer_2": wan_transformer(ffn_dim=48)}
    return d.WanPipeline(**no_text(**experts, scheduler=scheduler), boundary_ratio=0.85)


@tiny("wan-i2v", inputs=together(embeddings(16), lambda batch: {"image": images(1, 32)}), **VIDEO)
def _wan_i2v() -> DiffusionPipeline:
    transformer = wan_transformer(in_channels=12, image_dim=16, added_kv_proj_dim=24)
    parts = no_text(transformer=transformer, scheduler=flow(shift=5.0))
    parts |= {"vae": wan_vae(), "image_encoder": clip_vision(), "image_processor": clip_images()}
    return d.WanImageToVideoPipeline(**parts)


@tiny("wan-vace", "WanVACETransformer3DModel", single=True, inputs=embeddings(16), **VIDEO)
def _wan_vace() -> DiffusionPipeline:
    transformer = random_model(
        d.WanVACETransformer3DModel,
        num_attention_heads=2,
        attention_head_dim=12,
        **LATENT,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=3,
        rope_max_seq_len=32,
        vace_layers=[0, 2],
        vace_in_channels=72,
    )
    parts = no_text(transformer=transformer, scheduler=flow(shift=5.0))
    return d.WanVACEPipeline(**(parts | {"vae": wan_vae()}))


def _animated(batch: int) -> dict[str, Any]:
    """Return a person, and the poses and faces of a video."""
    return {"image": pictures(1)[0], "pose_video": pictures(9), "face_video": pictures(9, side=16)}


@tiny(
    "wan-animate",
    "WanAnimateTransformer3DModel",
    single=True,
    inputs=together(embeddings(16), _animated),
    height=32,
    width=32,
    segment_frame_length=9,
    guidance_scale=2.0,
)
def _wan_animate() -> DiffusionPipeline:
    transformer = random_model(
        d.WanAnimateTransformer3DModel,
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=12,
        latent_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        image_dim=16,
        rope_max_seq_len=32,
        motion_encoder_channel_sizes={"4": 16, "8": 16, "16": 16},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )
    parts = no_text(transformer=transformer, scheduler=flow(shift=5.0))
    processor = transformers.CLIPImageProcessor(crop_size=32, size=32)
    parts |= {"vae": wan_vae(), "image_encoder": clip_vision(), "image_processor": processor}
    return d.WanAnimatePipeline(**parts)


def skyreels_transformer(**config: Any) -> Any:
    """Build the transformer of SkyReels 2."""
    return random_model(d.SkyReelsV2Transformer3DModel, **{**WAN, "rope_max_seq_len": 32, **config})


@tiny("skyreels", "SkyReelsV2Transformer3DModel", inputs=embeddings(16), **VIDEO)
def _skyreels() -> DiffusionPipeline:
    scheduler = flow_solver(d.UniPCMultistepScheduler, 8.0)
    return d.SkyReelsV2Pipeline(**no_text(transformer=skyreels_transformer(), scheduler=scheduler))


@tiny("anyflow", "AnyFlowTransformer3DModel", inputs=embeddings(16, negative=False), **VIDEO)
def _anyflow() -> DiffusionPipeline:
    transformer = random_model(d.AnyFlowTransformer3DModel, **WAN, rope_max_seq_len=32)
    scheduler = d.FlowMapEulerDiscreteScheduler(num_train_timesteps=1000, shift=5.0)
    return d.AnyFlowPipeline(**no_text(transformer=transformer, scheduler=scheduler))


@tiny("anyflow-far", "AnyFlowFARTransformer3DModel", inputs=embeddings(16, negative=False), **VIDEO)
def _anyflow_far() -> DiffusionPipeline:
    transformer = random_model(
        d.AnyFlowFARTransformer3DModel, **WAN, rope_max_seq_len=32, chunk_partition=(1, 1, 1)
    )
    scheduler = d.FlowMapEulerDiscreteScheduler(num_train_timesteps=1000, shift=5.0)
    return d.AnyFlowFARPipeline(**no_text(transformer=transformer, scheduler=scheduler))


def helios_parts(**config: Any) -> dict[str, Any]:
    """Return the parts of Helios without text encoder, its scheduler set so."""
    transformer = random_model(d.HeliosTransformer3DModel, **WAN, rope_dim=(4, 4, 4))
    scheduler = d.HeliosScheduler(use_dynamic_shifting=True, **config)
    return no_text(transformer=transformer, scheduler=scheduler, vae=wan_vae())


@tiny("helios", "HeliosTransformer3DModel", inputs=embeddings(16), **VIDEO)
def _helios() -> DiffusionPipeline:
    return d.HeliosPipeline(**helios_parts(stage_range=[0, 1], stages=1))


@tiny(
    "chronoedit",
    "ChronoEditTransformer3DModel",
    inputs=together(embeddings(16), lambda batch: {"image": images(1, 32)}),
    height=64,
    width=64,
    num_frames=5,
)
def _chronoedit() -> DiffusionPipeline:
    transformer = random_model(
        d.ChronoEditTransformer3DModel,
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=12,
        out_channels=4,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
        image_dim=16,
        added_kv_proj_dim=24,
    )
    parts = no_text(transformer=transformer, scheduler=flow(shift=5.0))
    parts |= {"vae": wan_vae(), "image_encoder": clip_vision(), "image_processor": clip_images()}
    return d.ChronoEditPipeline(**parts)
