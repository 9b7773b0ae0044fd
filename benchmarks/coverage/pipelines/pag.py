"""Pipelines with perturbed-attention guidance: further rows in every call, with other self-attention."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers.pipelines.pag.pipeline_pag_kolors import KolorsPAGPipeline

from benchmarks.coverage.pipelines.hunyuan import hunyuandit_parts
from benchmarks.coverage.pipelines.parts import (
    MASKED,
    an_image,
    embeddings,
    kl_vae,
    masked_images,
    together,
    two_embeddings,
)
from benchmarks.coverage.pipelines.pixart import pixart_parts, sana_parts
from benchmarks.coverage.pipelines.registry import add
from benchmarks.coverage.pipelines.stable_diffusion import SD_EMBEDS, sd_parts
from benchmarks.coverage.pipelines.stable_diffusion_3 import SD3_EMBEDS, sd3_parts
from benchmarks.coverage.pipelines.stable_diffusion_xl import (
    KOLORS_EMBEDS,
    SDXL_EMBEDS,
    kolors_parts,
    sdxl_parts,
)

_NONE: dict[str, Any] = {}
_STRONG = {"strength": 0.99}


for _key, _cls, _parts, _inputs, _fixed in (
    ("sd", d.StableDiffusionPAGPipeline, sd_parts, SD_EMBEDS, _NONE),
    ("sd-img2img", d.StableDiffusionPAGImg2ImgPipeline, sd_parts, together(SD_EMBEDS, an_image()), _STRONG),
    (
        "sd-inpaint",
        d.StableDiffusionPAGInpaintPipeline,
        sd_parts,
        together(SD_EMBEDS, masked_images),
        {"height": 32, "width": 32},
    ),
    ("sdxl", d.StableDiffusionXLPAGPipeline, sdxl_parts, SDXL_EMBEDS, _NONE),
    (
        "sdxl-img2img",
        d.StableDiffusionXLPAGImg2ImgPipeline,
        sdxl_parts,
        together(SDXL_EMBEDS, an_image()),
        _STRONG,
    ),
    (
        "sdxl-inpaint",
        d.StableDiffusionXLPAGInpaintPipeline,
        sdxl_parts,
        together(SDXL_EMBEDS, masked_images),
        {"height": 32, "width": 32},
    ),
    ("kolors", KolorsPAGPipeline, kolors_parts, KOLORS_EMBEDS, _NONE),
    ("sd3", d.StableDiffusion3PAGPipeline, sd3_parts, SD3_EMBEDS, _NONE),
    (
        "sd3-img2img",
        d.StableDiffusion3PAGImg2ImgPipeline,
        lambda: sd3_parts(vae=kl_vae(shift_factor=0.0)),
        together(SD3_EMBEDS, an_image()),
        {**_STRONG, "height": 32, "width": 32},
    ),
    (
        "pixart-sigma",
        d.PixArtSigmaPAGPipeline,
        pixart_parts,
        embeddings(16, mask=MASKED),
        {"use_resolution_binning": False, "negative_prompt": None},
    ),
    (
        "sana",
        d.SanaPAGPipeline,
        sana_parts,
        embeddings(16, mask=MASKED),
        {"use_resolution_binning": False, "negative_prompt": None, "height": 256, "width": 256},
    ),
    (
        "hunyuandit",
        d.HunyuanDiTPAGPipeline,
        hunyuandit_parts,
        two_embeddings(MASKED),
        {"use_resolution_binning": False, "height": 64, "width": 64},
    ),
):
    add(f"{_key}-pag", _cls, _parts, inputs=_inputs, **_fixed)
