"""UNets for video."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline
from diffusers.pipelines.deprecated.i2vgen_xl.pipeline_i2vgen_xl import I2VGenXLPipeline

from benchmarks.coverage.pipelines.parts import (
    an_image,
    clip_images,
    clip_vision,
    ddim,
    embeddings,
    kl_vae,
    no_text,
    random_model,
    together,
)
from benchmarks.coverage.pipelines.registry import tiny


def unet3d(cls: Any, kind: str, **config: Any) -> Any:
    """Build a UNet for video."""
    return random_model(
        cls,
        **{
            "sample_size": 16,
            "block_out_channels": (32, 32, 32, 32),
            "down_block_types": (*(f"CrossAttnDownBlock{kind}",) * 3, f"DownBlock{kind}"),
            "up_block_types": (f"UpBlock{kind}", *(f"CrossAttnUpBlock{kind}",) * 3),
            "layers_per_block": 1,
            "cross_attention_dim": 16,
            **config,
        },
    )


@tiny(
    "svd",
    "UNetSpatioTemporalConditionModel",
    inputs=an_image(),
    height=32,
    width=32,
    num_frames=3,
)
def _svd() -> DiffusionPipeline:
    unet = unet3d(
        d.UNetSpatioTemporalConditionModel,
        "SpatioTemporal",
        num_attention_heads=2,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        num_frames=3,
    )
    vae = random_model(
        d.AutoencoderKLTemporalDecoder,
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        latent_channels=4,
        layers_per_block=1,
    )
    scheduler = d.EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    return d.StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=clip_vision(),
        unet=unet,
        scheduler=scheduler,
        feature_extractor=clip_images(),
    )


def text_to_video_unet(**config: Any) -> Any:
    """Build the UNet of ModelScope's text to video."""
    return unet3d(
        d.UNet3DConditionModel,
        "3D",
        **{
            "block_out_channels": (8, 16, 16, 16),
            "norm_num_groups": 4,
            "attention_head_dim": 8,
            "layers_per_block": 2,
            **config,
        },
    )


@tiny("text-to-video", "UNet3DConditionModel", inputs=embeddings(16), height=64, width=64, num_frames=3)
def _text_to_video() -> DiffusionPipeline:
    return d.TextToVideoSDPipeline(**no_text(unet=text_to_video_unet(), scheduler=ddim()))


def motion_unet(**config: Any) -> Any:
    """Build the UNet of AnimateDiff."""
    return unet3d(
        d.UNetMotionModel,
        "Motion",
        **{
            "block_out_channels": (8, 16, 16, 16),
            "norm_num_groups": 4,
            "num_attention_heads": 2,
            "motion_num_attention_heads": 2,
            **config,
        },
    )


@tiny("animatediff", "UNetMotionModel", inputs=embeddings(16), height=16, width=16, num_frames=3)
def _animatediff() -> DiffusionPipeline:
    scheduler = ddim(beta_schedule="linear")
    parts = no_text(unet=motion_unet(), motion_adapter=None, scheduler=scheduler)
    return d.AnimateDiffPipeline(**(parts | {"vae": kl_vae()}))


@tiny(
    "i2vgen-xl",
    "I2VGenXLUNet",
    inputs=together(embeddings(16), an_image()),
    height=32,
    width=32,
    num_frames=3,
)
def _i2vgen_xl() -> DiffusionPipeline:
    unet = unet3d(
        d.I2VGenXLUNet,
        "3D",
        block_out_channels=(8, 16, 16, 16),
        norm_num_groups=4,
        attention_head_dim=8,
        layers_per_block=2,
    )
    return I2VGenXLPipeline(
        vae=kl_vae(),
        text_encoder=None,
        tokenizer=None,
        image_encoder=clip_vision(),
        feature_extractor=clip_images(),
        unet=unet,
        scheduler=ddim(),
    )
