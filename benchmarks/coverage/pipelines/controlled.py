"""Stable Diffusion 1 and XL with ControlNets and adapters."""

from __future__ import annotations

from typing import Any

import diffusers as d

from benchmarks.coverage.pipelines.parts import an_image, images, masked_images, random_model, together
from benchmarks.coverage.pipelines.registry import add
from benchmarks.coverage.pipelines.stable_diffusion import SD_EMBEDS, sd_controlnet, sd_parts, sd_unet
from benchmarks.coverage.pipelines.stable_diffusion_xl import SDXL_EMBEDS, sdxl_parts, sdxl_unet

_CONTROL = an_image("control_image", seed=4)


def sdxl_controlnet(cls: Any = d.ControlNetModel, **config: Any) -> Any:
    """Build the ControlNet of Stable Diffusion XL."""
    return sd_controlnet(
        cls,
        **{
            "block_out_channels": (8, 16, 16),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "transformer_layers_per_block": (1, 2, 3),
            "attention_head_dim": (1, 2, 2),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 16 + 6 * 8,
            "cross_attention_dim": 32,
            **config,
        },
    )


def sd_control_parts(**parts: Any) -> dict[str, Any]:
    """Return the parts of Stable Diffusion 1 with a ControlNet."""
    return sd_parts(controlnet=sd_controlnet(), **parts)


def sdxl_control_parts(**parts: Any) -> dict[str, Any]:
    """Return the parts of Stable Diffusion XL with a ControlNet."""
    return sdxl_parts(controlnet=sdxl_controlnet(), **parts)


def _union_parts() -> dict[str, Any]:
    union = sdxl_controlnet(
        d.ControlNetUnionModel, num_control_type=2, num_trans_channel=8, num_proj_channel=8, num_trans_head=2
    )
    return sdxl_parts(controlnet=union)


for _key, _cls, _parts, _inputs in (
    ("sd-controlnet-img2img", d.StableDiffusionControlNetImg2ImgPipeline, sd_control_parts, an_image()),
    ("sd-controlnet-inpaint", d.StableDiffusionControlNetInpaintPipeline, sd_control_parts, masked_images),
):
    add(_key, _cls, _parts, inputs=together(SD_EMBEDS, _inputs, _CONTROL), height=32, width=32, strength=0.99)

add(
    "sdxl-controlnet",
    d.StableDiffusionXLControlNetPipeline,
    sdxl_control_parts,
    inputs=together(SDXL_EMBEDS, an_image()),
)
for _key, _cls, _inputs in (
    ("img2img", d.StableDiffusionXLControlNetImg2ImgPipeline, an_image()),
    ("inpaint", d.StableDiffusionXLControlNetInpaintPipeline, masked_images),
):
    add(
        f"sdxl-controlnet-{_key}",
        _cls,
        sdxl_control_parts,
        inputs=together(SDXL_EMBEDS, _inputs, _CONTROL),
        height=32,
        width=32,
        strength=0.99,
    )

_UNION = together(SDXL_EMBEDS, lambda batch: {"control_image": [images(batch, 32, seed=4)]})
add(
    "sdxl-controlnet-union",
    d.StableDiffusionXLControlNetUnionPipeline,
    _union_parts,
    inputs=_UNION,
    control_mode=[1],
    height=32,
    width=32,
)
for _key, _cls, _inputs in (
    ("img2img", d.StableDiffusionXLControlNetUnionImg2ImgPipeline, an_image()),
    ("inpaint", d.StableDiffusionXLControlNetUnionInpaintPipeline, masked_images),
):
    add(
        f"sdxl-controlnet-union-{_key}",
        _cls,
        _union_parts,
        inputs=together(_UNION, _inputs),
        control_mode=[1],
        height=32,
        width=32,
        strength=0.99,
    )


def _adapter_parts() -> dict[str, Any]:
    adapter = random_model(
        d.T2IAdapter,
        channels=[8, 16, 16],
        num_res_blocks=2,
        downscale_factor=4,
        adapter_type="full_adapter_xl",
    )
    parts = sdxl_parts(adapter=adapter)
    del parts["add_watermarker"]
    return parts


add(
    "sdxl-t2i-adapter",
    d.StableDiffusionXLAdapterPipeline,
    _adapter_parts,
    inputs=together(SDXL_EMBEDS, an_image()),
    height=32,
    width=32,
)


def _xs_adapter(unet: Any) -> Any:
    """Build what ControlNet-XS adds to a UNet."""
    return random_model(
        d.ControlNetXSAdapter.from_unet, unet, size_ratio=0.5, conditioning_embedding_out_channels=(8, 16)
    )


def _xs_parts() -> dict[str, Any]:
    unet = sd_unet()
    return sd_parts(unet=unet, controlnet=_xs_adapter(unet))


def _xs_xl_parts() -> dict[str, Any]:
    unet = sdxl_unet()
    return sdxl_parts(unet=unet, controlnet=_xs_adapter(unet))


add(
    "sd-controlnet-xs",
    d.StableDiffusionControlNetXSPipeline,
    _xs_parts,
    inputs=together(SD_EMBEDS, an_image()),
)
add(
    "sdxl-controlnet-xs",
    d.StableDiffusionXLControlNetXSPipeline,
    _xs_xl_parts,
    inputs=together(SDXL_EMBEDS, an_image()),
)

for _key, _cls, _parts, _inputs, _fixed in (
    (
        "sd-controlnet",
        d.StableDiffusionControlNetPAGPipeline,
        sd_control_parts,
        together(SD_EMBEDS, an_image()),
        {},
    ),
    (
        "sd-controlnet-inpaint",
        d.StableDiffusionControlNetPAGInpaintPipeline,
        sd_control_parts,
        together(SD_EMBEDS, masked_images, _CONTROL),
        {"strength": 0.99},
    ),
    (
        "sdxl-controlnet",
        d.StableDiffusionXLControlNetPAGPipeline,
        sdxl_control_parts,
        together(SDXL_EMBEDS, an_image()),
        {},
    ),
    (
        "sdxl-controlnet-img2img",
        d.StableDiffusionXLControlNetPAGImg2ImgPipeline,
        sdxl_control_parts,
        together(SDXL_EMBEDS, an_image(), _CONTROL),
        {"strength": 0.99},
    ),
):
    add(f"{_key}-pag", _cls, _parts, inputs=_inputs, height=32, width=32, **_fixed)
