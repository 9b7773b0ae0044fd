"""UNets that work on pixels."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.parts import embeddings, random_model
from benchmarks.coverage.pipelines.registry import tiny
from benchmarks.coverage.pipelines.stable_diffusion import sd_unet


def pixel_unet(**config: Any) -> Any:
    """Build a UNet for pixels."""
    return random_model(
        d.UNet2DModel,
        **{
            "sample_size": 16,
            "block_out_channels": (8, 16, 16),
            "layers_per_block": 2,
            "norm_num_groups": 4,
            "attention_head_dim": 8,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            **config,
        },
    )


@tiny("ddim", "UNet2DModel", inputs=lambda batch: {"batch_size": batch}, output_type="np")
def _ddim_pipeline() -> DiffusionPipeline:
    return d.DDIMPipeline(pixel_unet(), d.DDIMScheduler())


@tiny("ddpm", inputs=lambda batch: {"batch_size": batch}, output_type="np")
def _ddpm() -> DiffusionPipeline:
    return d.DDPMPipeline(pixel_unet(), d.DDPMScheduler())


@tiny(
    "consistency",
    inputs=lambda batch: {"batch_size": batch, "class_labels": list(range(batch))},
    output_type="pt",
)
def _consistency() -> DiffusionPipeline:
    unet = random_model(
        d.UNet2DModel,
        sample_size=16,
        block_out_channels=(8, 16, 16),
        layers_per_block=2,
        norm_num_groups=4,
        attention_head_dim=8,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        resnet_time_scale_shift="scale_shift",
        downsample_type="resnet",
        upsample_type="resnet",
        num_class_embeds=10,
    )
    scheduler = d.CMStochasticIterativeScheduler(num_train_timesteps=40, sigma_min=0.002, sigma_max=80.0)
    return d.ConsistencyModelPipeline(unet=unet, scheduler=scheduler)


def if_unet(**config: Any) -> Any:
    """Build the UNet of DeepFloyd IF's first stage."""
    return sd_unet(
        **{
            "in_channels": 3,
            "out_channels": 6,
            "down_block_types": ("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * 3),
            "up_block_types": (*("SimpleCrossAttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "block_out_channels": (8, 16, 16, 16),
            "encoder_hid_dim": 16,
            "cross_attention_dim": 32,
            "attention_head_dim": 8,
            "act_fn": "gelu",
            "addition_embed_type": "text",
            "addition_embed_type_num_heads": 2,
            "cross_attention_norm": "group_norm",
            "resnet_time_scale_shift": "scale_shift",
            "time_embedding_act_fn": "gelu",
            **config,
        }
    )


def if_scheduler(**config: Any) -> Any:
    """Build the scheduler of DeepFloyd IF."""
    return d.DDPMScheduler(
        **{
            "beta_schedule": "squaredcos_cap_v2",
            "dynamic_thresholding_ratio": 0.95,
            "sample_max_value": 1.5,
            "thresholding": True,
            "variance_type": "learned_range",
            **config,
        }
    )


@tiny("if", inputs=embeddings(16), height=16, width=16, output_type="pt")
def _if() -> DiffusionPipeline:
    return d.IFPipeline(
        tokenizer=None,
        text_encoder=None,
        unet=if_unet(),
        scheduler=if_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
