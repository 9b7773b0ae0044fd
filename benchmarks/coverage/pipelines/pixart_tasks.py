"""Sana put to other tasks."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.parts import (
    LATENT,
    MASKED,
    an_image,
    embeddings,
    flow,
    images,
    masks,
    no_text,
    random_model,
    together,
)
from benchmarks.coverage.pipelines.pixart import (
    prx_transformer,
    sana_parts,
    sana_transformer,
    sana_video_transformer,
)
from benchmarks.coverage.pipelines.registry import add, tiny
from benchmarks.coverage.pipelines.wan import wan_vae


def _controlnet_parts() -> dict[str, Any]:
    controlnet = random_model(
        d.SanaControlNetModel,
        sample_size=8,
        **LATENT,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
    )
    return sana_parts(controlnet=controlnet, vae=_dc_vae())


def _dc_vae() -> Any:
    """Build Sana's autoencoder, with a scale factor of 4."""
    return random_model(
        d.AutoencoderDC,
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
    )


add(
    "sana-controlnet",
    d.SanaControlNetPipeline,
    _controlnet_parts,
    inputs=together(embeddings(16, mask=MASKED), an_image("control_image", side=64)),
    negative_prompt=None,
    height=64,
    width=64,
    use_resolution_binning=False,
)


@tiny(
    "sana-sprint-img2img",
    inputs=together(embeddings(16, mask=MASKED, negative=False), an_image()),
    height=32,
    width=32,
    strength=0.75,
    use_resolution_binning=False,
    intermediate_timesteps=None,
)
def _sana_sprint_img2img() -> DiffusionPipeline:
    transformer = sana_transformer(guidance_embeds=True, qk_norm="rms_norm_across_heads")
    scheduler = d.SCMScheduler(prediction_type="trigflow")
    return d.SanaSprintImg2ImgPipeline(**no_text(transformer=transformer, scheduler=scheduler, vae=_dc_vae()))


@tiny(
    "sana-i2v",
    inputs=together(embeddings(16, mask=MASKED), lambda batch: {"image": images(1, 64)}),
    negative_prompt=None,
    height=64,
    width=64,
    frames=9,
    use_resolution_binning=False,
)
def _sana_i2v() -> DiffusionPipeline:
    return d.SanaImageToVideoPipeline(
        **no_text(transformer=sana_video_transformer(), scheduler=flow(), vae=wan_vae())
    )


@tiny(
    "prx-pixel",
    single=True,
    inputs=together(embeddings(16), masks(MASKED, dtype=torch.bool)),
    height=32,
    width=32,
    use_resolution_binning=False,
    output_type="pt",
)
def _prx_pixel() -> DiffusionPipeline:
    transformer = prx_transformer(in_channels=3, patch_size=8)
    return d.PRXPixelPipeline(transformer=transformer, scheduler=flow(), text_encoder=None, tokenizer=None)
