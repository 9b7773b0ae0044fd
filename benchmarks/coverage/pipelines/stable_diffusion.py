"""Stable Diffusion 1 and 2 and their kin."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.parts import (
    TOKENS,
    an_image,
    clip_text,
    clip_tokenizer,
    ddim,
    embeddings,
    kl_vae,
    masked_images,
    prompts,
    randn,
    random_model,
    together,
)
from benchmarks.coverage.pipelines.registry import tiny

SD = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")


def sd_unet(**config: Any) -> Any:
    """Build the UNet of Stable Diffusion 1."""
    return random_model(
        d.UNet2DConditionModel,
        **{
            "sample_size": 16,
            "block_out_channels": (8, 16, 16, 16),
            "down_block_types": SD,
            "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
            "layers_per_block": 2,
            "norm_num_groups": 4,
            "attention_head_dim": 2,
            "cross_attention_dim": 16,
            **config,
        },
    )


def sd_parts(*, text: bool = False, **parts: Any) -> dict[str, Any]:
    """Return the parts of Stable Diffusion 1, with text encoder or without."""
    return {
        "vae": kl_vae(),
        "text_encoder": clip_text() if text else None,
        "tokenizer": clip_tokenizer() if text else None,
        "unet": sd_unet(),
        "scheduler": ddim(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
        **parts,
    }


SD_EMBEDS = embeddings(16)


@tiny("sd", "UNet2DConditionModel", inputs=SD_EMBEDS)
def _sd() -> DiffusionPipeline:
    return d.StableDiffusionPipeline(**sd_parts())


@tiny("sd-text", inputs=prompts)
def _sd_text() -> DiffusionPipeline:
    return d.StableDiffusionPipeline(**sd_parts(text=True))


@tiny("sd-img2img", inputs=together(SD_EMBEDS, an_image()), strength=0.99)
def _sd_img2img() -> DiffusionPipeline:
    return d.StableDiffusionImg2ImgPipeline(**sd_parts())


@tiny("sd-inpaint", inputs=together(SD_EMBEDS, masked_images), height=32, width=32)
def _sd_inpaint() -> DiffusionPipeline:
    return d.StableDiffusionInpaintPipeline(**sd_parts(unet=sd_unet(in_channels=9)))


def sd_controlnet(cls: Any = d.ControlNetModel, **config: Any) -> Any:
    """Build the ControlNet of Stable Diffusion 1."""
    return random_model(
        cls,
        **{
            "block_out_channels": (8, 16, 16, 16),
            "down_block_types": SD,
            "layers_per_block": 2,
            "norm_num_groups": 4,
            "attention_head_dim": 2,
            "cross_attention_dim": 16,
            "conditioning_embedding_out_channels": (8, 16),  # halves the image once, as the VAE does
            **config,
        },
    )


@tiny("sd-controlnet", inputs=together(SD_EMBEDS, an_image()))
def _sd_controlnet() -> DiffusionPipeline:
    return d.StableDiffusionControlNetPipeline(**sd_parts(controlnet=sd_controlnet()))


@tiny("sd-t2i-adapter", inputs=together(SD_EMBEDS, an_image()))
def _sd_t2i_adapter() -> DiffusionPipeline:
    adapter = random_model(
        d.T2IAdapter,
        channels=[8, 16, 16, 16],
        num_res_blocks=2,
        downscale_factor=2,
        adapter_type="full_adapter",
    )
    return d.StableDiffusionAdapterPipeline(**sd_parts(adapter=adapter))


def lcm_unet(**config: Any) -> Any:
    """Build the UNet of a latent consistency model."""
    return sd_unet(**{"time_cond_proj_dim": 16, **config})


def lcm_scheduler(**config: Any) -> Any:
    """Return the scheduler of a latent consistency model."""
    return d.LCMScheduler(
        **{
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "set_alpha_to_one": True,
            **config,
        }
    )


@tiny("lcm", inputs=lambda batch: {"prompt_embeds": randn(batch, TOKENS, 16)})
def _lcm() -> DiffusionPipeline:
    return d.LatentConsistencyModelPipeline(**sd_parts(unet=lcm_unet(), scheduler=lcm_scheduler()))
