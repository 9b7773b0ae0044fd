"""Stable Diffusion 3 put to other tasks."""

from __future__ import annotations

from typing import Any

import diffusers as d

from benchmarks.coverage.pipelines.parts import (
    HEADS,
    LATENT,
    an_image,
    kl_vae,
    masked_images,
    random_model,
    together,
)
from benchmarks.coverage.pipelines.registry import add
from benchmarks.coverage.pipelines.stable_diffusion_3 import SD3_EMBEDS, sd3_parts, sd3_transformer

_SIDE = {"height": 32, "width": 32, "strength": 0.99}


def _sd3_vae() -> Any:
    return kl_vae(shift_factor=0.06)


def _controlnet(**config: Any) -> Any:
    return random_model(
        d.SD3ControlNetModel,
        **{
            "sample_size": 8,
            "patch_size": 2,
            **LATENT,
            "num_layers": 1,
            **HEADS,
            "caption_projection_dim": 32,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 32,
            "pos_embed_max_size": 16,
            **config,
        },
    )


add(
    "sd3-img2img",
    d.StableDiffusion3Img2ImgPipeline,
    lambda: sd3_parts(vae=_sd3_vae()),
    inputs=together(SD3_EMBEDS, an_image()),
    **_SIDE,
)
add(
    "sd3-inpaint",
    d.StableDiffusion3InpaintPipeline,
    # It takes a VAE of 16 channels only.
    lambda: sd3_parts(
        vae=kl_vae(16, shift_factor=0.06), transformer=sd3_transformer(in_channels=16, out_channels=16)
    ),
    inputs=together(SD3_EMBEDS, masked_images),
    **_SIDE,
)
add(
    "sd3-controlnet",
    d.StableDiffusion3ControlNetPipeline,
    lambda: sd3_parts(vae=_sd3_vae(), controlnet=_controlnet()),
    inputs=together(SD3_EMBEDS, an_image("control_image")),
    height=32,
    width=32,
)
add(
    "sd3-controlnet-inpaint",
    d.StableDiffusion3ControlNetInpaintingPipeline,
    lambda: sd3_parts(vae=_sd3_vae(), controlnet=_controlnet(extra_conditioning_channels=1)),
    inputs=together(
        SD3_EMBEDS,
        lambda batch: {
            f"control_{name.removesuffix('_image')}": value for name, value in masked_images(batch).items()
        },
    ),
    height=32,
    width=32,
)
