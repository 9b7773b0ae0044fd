"""Qwen-Image and Z-Image put to other tasks."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.parts import (
    HEADS,
    PROMPT,
    an_image,
    clip_text,
    embeddings,
    flow,
    flow_dynamic,
    kl_vae,
    masked_images,
    masked_pictures,
    no_text,
    pictures,
    random_model,
    together,
)
from benchmarks.coverage.pipelines.qwen import captions, qwen_transformer, z_image_transformer
from benchmarks.coverage.pipelines.registry import add, tiny

_SIDE = {"height": 32, "width": 32}
_IMAGE = an_image()
_CONTROL = an_image("control_image", seed=4)
_QWEN = embeddings(16, mask="prompt_embeds_mask")
_EDITED = together(_QWEN, lambda batch: {"image": pictures(1)[0]})


def _qwen_vae(halvings: int = 1) -> Any:
    """Build Qwen-Image's VAE, with a scale factor of two to the power of `halvings`."""
    return random_model(
        d.AutoencoderKLQwenImage,
        base_dim=1,
        z_dim=4,
        dim_mult=[1] + [2] * halvings,
        num_res_blocks=1,
        temperal_downsample=[False] * halvings,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def _parts(**parts: Any) -> dict[str, Any]:
    return no_text(
        **{"transformer": qwen_transformer(), "scheduler": flow_dynamic(), "vae": _qwen_vae(), **parts}
    )


def _edit_parts(**parts: Any) -> dict[str, Any]:
    # These make every image near 1024 pixels a side, which a VAE of a large scale factor makes small.
    return _parts(**{"processor": None, "vae": _qwen_vae(6), **parts})


def _controlnet_parts(more: int = 0) -> dict[str, Any]:
    controlnet = random_model(
        d.QwenImageControlNetModel,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        **HEADS,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
        extra_condition_channels=more,
    )
    return _parts(controlnet=controlnet)


def _control_masked(batch: int) -> dict[str, Any]:
    given = masked_images(batch)
    return {"control_image": given["image"], "control_mask": given["mask_image"]}


add(
    "qwenimage-img2img",
    d.QwenImageImg2ImgPipeline,
    _parts,
    inputs=together(_QWEN, _IMAGE),
    strength=0.75,
    **_SIDE,
)
add(
    "qwenimage-inpaint",
    d.QwenImageInpaintPipeline,
    _parts,
    inputs=together(_QWEN, masked_images),
    strength=0.75,
    **_SIDE,
)
add(
    "qwenimage-controlnet",
    d.QwenImageControlNetPipeline,
    _controlnet_parts,
    inputs=together(_QWEN, _CONTROL),
    **_SIDE,
)
add(
    "qwenimage-controlnet-inpaint",
    d.QwenImageControlNetInpaintPipeline,
    lambda: _controlnet_parts(4),
    inputs=together(_QWEN, _control_masked),
    **_SIDE,
)
add("qwenimage-edit", d.QwenImageEditPipeline, _edit_parts, inputs=_EDITED, height=512, width=512)
add(
    "qwenimage-edit-plus",
    d.QwenImageEditPlusPipeline,
    _edit_parts,
    inputs=_EDITED,
    single=True,
    height=512,
    width=512,
)
add(
    "qwenimage-edit-inpaint",
    d.QwenImageEditInpaintPipeline,
    _edit_parts,
    inputs=together(_QWEN, masked_pictures),
    strength=0.75,
    height=512,
    width=512,
)


def _layered_parts() -> dict[str, Any]:
    transformer = qwen_transformer(use_layer3d_rope=True, use_additional_t_cond=True)
    return _edit_parts(transformer=transformer) | {"text_encoder": clip_text()}  # asked for its dtype


@tiny("qwenimage-layered", inputs=_EDITED, layers=2, single=True, output_type="pt")
def _qwen_layered() -> DiffusionPipeline:
    pipe = d.QwenImageLayeredPipeline(**_layered_parts())
    pipe.get_image_caption = lambda image, **rest: PROMPT  # which it wants even where it is given embeddings
    return pipe


def _z_parts(**parts: Any) -> dict[str, Any]:
    return no_text(transformer=z_image_transformer(), scheduler=flow(), vae=kl_vae(shift_factor=0.1), **parts)


def _z_controlnet_parts(channels: int = 4) -> dict[str, Any]:
    controlnet = random_model(
        d.ZImageControlNetModel,
        control_layers_places=[0],
        control_refiner_layers_places=[0],
        control_in_dim=channels,
        dim=32,
        n_refiner_layers=2,
        n_heads=2,
        n_kv_heads=2,
    )
    return _z_parts(controlnet=controlnet)


add(
    "z_image-img2img",
    d.ZImageImg2ImgPipeline,
    _z_parts,
    inputs=together(captions, _IMAGE),
    strength=0.75,
    **_SIDE,
)
add(
    "z_image-inpaint",
    d.ZImageInpaintPipeline,
    _z_parts,
    inputs=together(captions, masked_images),
    strength=0.75,
    **_SIDE,
)
add(
    "z_image-controlnet",
    d.ZImageControlNetPipeline,
    _z_controlnet_parts,
    inputs=together(captions, _CONTROL),
    **_SIDE,
)
add(
    "z_image-controlnet-inpaint",
    d.ZImageControlNetInpaintPipeline,
    lambda: _z_controlnet_parts(9),
    inputs=together(captions, masked_images, _CONTROL),
    **_SIDE,
)
