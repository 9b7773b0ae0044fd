"""The Kandinsky family: UNets for images, transformers for video."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.parts import (
    TOKENS,
    VIDEO,
    clip_images,
    clip_text,
    clip_tokenizer,
    clip_vision,
    embeddings,
    flow,
    images,
    masks,
    movq_vae,
    no_text,
    pairs,
    prompts,
    random_model,
    together,
)
from benchmarks.coverage.pipelines.registry import add, tiny
from benchmarks.coverage.pipelines.stable_diffusion import sd_unet


def kandinsky_unet(**config: Any) -> Any:
    """Build a UNet of Kandinsky 2."""
    return sd_unet(
        **{
            "out_channels": 8,
            "block_out_channels": (8, 16, 16, 16),
            "down_block_types": ("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * 3),
            "up_block_types": (*("SimpleCrossAttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "encoder_hid_dim": 16,
            "attention_head_dim": 8,
            "resnet_time_scale_shift": "scale_shift",
            **config,
        }
    )


def kandinsky2_scheduler() -> Any:
    """Return the scheduler of Kandinsky 2."""
    return d.DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, clip_sample=True, clip_sample_range=2.0, prediction_type="epsilon"
    )


def kandinsky22_parts(**config: Any) -> dict[str, Any]:
    """Return the parts of Kandinsky 2.2."""
    unet = kandinsky_unet(**{"addition_embed_type": "image", "encoder_hid_dim_type": "image_proj", **config})
    return {"unet": unet, "scheduler": kandinsky2_scheduler(), "movq": movq_vae()}


add(
    "kandinsky22",
    d.KandinskyV22Pipeline,
    kandinsky22_parts,
    inputs=pairs(image_embeds=(16,)),
    height=32,
    width=32,
)


def kandinsky_prior(**config: Any) -> Any:
    """Build the prior of Kandinsky 2."""
    return random_model(
        d.PriorTransformer,
        **{"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "embedding_dim": 16, **config},
    )


def kandinsky_prior_parts() -> dict[str, Any]:
    """Return the parts of Kandinsky 2's prior."""
    scheduler = d.UnCLIPScheduler(
        variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
    )
    return {
        "prior": kandinsky_prior(),
        "image_encoder": clip_vision(),
        "text_encoder": clip_text(projection=True),
        "tokenizer": clip_tokenizer(),
        "scheduler": scheduler,
        "image_processor": clip_images(),
    }


add(
    "kandinsky-prior",
    d.KandinskyV22PriorPipeline,
    kandinsky_prior_parts,
    "PriorTransformer",
    inputs=prompts,
    output_type="pt",
)


def kandinsky3_unet(**config: Any) -> Any:
    """Build the UNet of Kandinsky 3."""
    return random_model(
        d.Kandinsky3UNet,
        **{
            "time_embedding_dim": 16,
            "groups": 4,
            "attention_head_dim": 4,
            "layers_per_block": 2,
            "block_out_channels": (8, 16, 16, 16),
            "cross_attention_dim": 16,
            "encoder_hid_dim": 16,
            **config,
        },
    )


def kandinsky3_parts() -> dict[str, Any]:
    """Return the parts of Kandinsky 3 without text encoder."""
    return {
        "tokenizer": None,
        "text_encoder": None,
        "unet": kandinsky3_unet(),
        "scheduler": d.DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=True),
        "movq": movq_vae(),
    }


add(
    "kandinsky3",
    d.Kandinsky3Pipeline,
    kandinsky3_parts,
    "Kandinsky3UNet",
    inputs=together(embeddings(16), masks("attention_mask")),
    height=128,
    width=128,
)


def prompt_lengths(batch: int) -> dict[str, Any]:
    """Return the places where each row's tokens begin and end in all of them."""
    ends = torch.arange(batch + 1, dtype=torch.int32) * TOKENS
    return {"prompt_cu_seqlens": ends, "negative_prompt_cu_seqlens": ends}


def kandinsky5_transformer(**config: Any) -> Any:
    """Build the transformer of Kandinsky 5."""
    return random_model(
        d.Kandinsky5Transformer3DModel,
        **{
            "in_visual_dim": 4,
            "out_visual_dim": 4,
            "in_text_dim": 16,
            "in_text_dim2": 16,
            "time_dim": 16,
            "model_dim": 32,
            "ff_dim": 64,
            "num_text_blocks": 2,
            "num_visual_blocks": 2,
            "axes_dims": (4, 6, 6),
            **config,
        },
    )


@tiny(
    "kandinsky5",
    "Kandinsky5Transformer3DModel",
    inputs=together(pairs(prompt_embeds_qwen=(TOKENS, 16), prompt_embeds_clip=(16,)), prompt_lengths),
    **VIDEO,
)
def _kandinsky5() -> DiffusionPipeline:
    return d.Kandinsky5T2VPipeline(
        **no_text(2, transformer=kandinsky5_transformer(), scheduler=flow(shift=5.0))
    )


@tiny(
    "kandinsky6",
    "Kandinsky6Transformer3DModel",
    inputs=pairs(prompt_embeds=(TOKENS, 16), pooled_prompt_embeds=(16,)),
    **VIDEO,
)
def _kandinsky6() -> DiffusionPipeline:
    transformer = random_model(
        d.Kandinsky6Transformer3DModel,
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=16,
        time_dim=16,
        model_dim=32,
        ff_dim=64,
        num_text_blocks=2,
        num_visual_blocks=2,
        axes_dims=(4, 6, 6),
        in_audio_dim=4,
        out_audio_dim=4,
    )
    audio_vae = random_model(
        d.MMAudioVAE, mel_bins=8, latent_channels=4, hidden_channels=8, channel_multipliers=(1, 2)
    )
    vocoder = random_model(
        d.MMAudioVocoder,
        num_mels=8,
        upsample_initial_channel=8,
        upsample_rates=(2,),
        upsample_kernel_sizes=(4,),
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3, 5),),
    )
    parts = no_text(2, transformer=transformer, scheduler=flow(shift=5.0))
    return d.Kandinsky6TI2VAPipeline(**parts, audio_vae=audio_vae, vocoder=vocoder)


@tiny(
    "kandinsky6-sr",
    "Kandinsky6SRTransformer3DModel",
    single=True,  # it runs its loop once for every row
    inputs=lambda batch: {"video": torch.stack([images(5, 64)] * batch)},
    output_type="pt",
    resolution_scale=2,
)
def _kandinsky6_sr() -> DiffusionPipeline:
    transformer = random_model(
        d.Kandinsky6SRTransformer3DModel,
        in_visual_dim=4,
        out_visual_dim=4,
        time_dim=16,
        model_dim=32,
        ff_dim=64,
        num_visual_blocks=2,
        axes_dims=(4, 6, 6),
        tile_sizes=((128, 128),),
    )
    vae = random_model(
        d.Kandinsky6SRVAE,
        latent_channels=4,
        encoder_block_out_channels=(8,) * 5,
        decoder_block_out_channels=(8,) * 5,
        layers_per_block=1,
    )
    return d.Kandinsky6SRPipeline(transformer=transformer, vae=vae, scheduler=flow(shift=5.0))
