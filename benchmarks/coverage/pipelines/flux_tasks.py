"""Flux, Flux 2 and Chroma put to other tasks."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.flux import (
    FLUX_EMBEDS,
    chroma_transformer,
    flux2_transformer,
    flux_transformer,
)
from benchmarks.coverage.pipelines.parts import (
    HEADS,
    MASKED,
    an_image,
    embeddings,
    flow,
    flow_dynamic,
    kl_vae,
    masked_images,
    masks,
    no_text,
    pictures,
    random_model,
    together,
)
from benchmarks.coverage.pipelines.registry import add, tiny

_SIDE = {"height": 32, "width": 32}
_IMAGE = an_image()
_CONTROL = an_image("control_image", seed=4)


def _parts(channels: int = 16, **parts: Any) -> dict[str, Any]:
    """Return the parts of Flux with a VAE, its transformer having so many channels in."""
    transformer = flux_transformer(in_channels=channels, out_channels=16)
    return no_text(
        2, transformer=transformer, scheduler=flow_dynamic(), vae=kl_vae(shift_factor=0.1), **parts
    )


def _controlnet_parts() -> dict[str, Any]:
    controlnet = random_model(
        d.FluxControlNetModel,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        **HEADS,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    return _parts(controlnet=controlnet)


for _key, _cls, _make, _more, _fixed in (
    ("inpaint", d.FluxInpaintPipeline, _parts, (masked_images,), {"strength": 0.75}),
    ("fill", d.FluxFillPipeline, lambda: _parts(16 + 16 + 16), (masked_images,), {}),
    ("kontext", d.FluxKontextPipeline, _parts, (_IMAGE,), {"_auto_resize": False, "max_area": 32 * 32}),
    (
        "kontext-inpaint",
        d.FluxKontextInpaintPipeline,
        _parts,
        (masked_images,),
        {"_auto_resize": False, "max_area": 32 * 32},
    ),
    ("control", d.FluxControlPipeline, lambda: _parts(32), (_CONTROL,), {}),
    (
        "control-img2img",
        d.FluxControlImg2ImgPipeline,
        lambda: _parts(32),
        (_IMAGE, _CONTROL),
        {"strength": 0.75},
    ),
    (
        "control-inpaint",
        d.FluxControlInpaintPipeline,
        lambda: _parts(32),
        (masked_images, _CONTROL),
        {"strength": 0.75},
    ),
    ("controlnet", d.FluxControlNetPipeline, _controlnet_parts, (_CONTROL,), {}),
    (
        "controlnet-img2img",
        d.FluxControlNetImg2ImgPipeline,
        _controlnet_parts,
        (_IMAGE, _CONTROL),
        {"strength": 0.75},
    ),
    (
        "controlnet-inpaint",
        d.FluxControlNetInpaintPipeline,
        _controlnet_parts,
        (masked_images, _CONTROL),
        {"strength": 0.75},
    ),
):
    add(f"flux-{_key}", _cls, _make, inputs=together(FLUX_EMBEDS, *_more), **_SIDE, **_fixed)


def _flux2_vae() -> Any:
    """Build the VAE of Flux 2, with a scale factor of 2."""
    return random_model(
        d.AutoencoderKLFlux2,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )


def _klein_parts() -> dict[str, Any]:
    return no_text(
        transformer=flux2_transformer(guidance_embeds=False), scheduler=flow_dynamic(), vae=_flux2_vae()
    )


add("flux2-klein", d.Flux2KleinPipeline, _klein_parts, inputs=embeddings(16), **_SIDE)
add(
    "flux2-klein-edit",
    d.Flux2KleinPipeline,
    _klein_parts,
    inputs=together(embeddings(16), lambda batch: {"image": pictures(1, side=64)}),
    **_SIDE,
)
add(
    "flux2-klein-inpaint",
    d.Flux2KleinInpaintPipeline,
    _klein_parts,
    inputs=together(embeddings(16), masked_images),
    **_SIDE,
)
add(
    "flux2-klein-kv",
    d.Flux2KleinKVPipeline,
    _klein_parts,
    inputs=together(embeddings(16, negative=False), lambda batch: {"image": pictures(1, side=64)}),
    **_SIDE,
)


def _chroma_parts() -> dict[str, Any]:
    return no_text(transformer=chroma_transformer(), scheduler=flow(), vae=kl_vae(shift_factor=0.1))


_CHROMA_EMBEDS = together(embeddings(16), masks(MASKED, dtype=torch.float))
add(
    "chroma-img2img", d.ChromaImg2ImgPipeline, _chroma_parts, inputs=together(_CHROMA_EMBEDS, _IMAGE), **_SIDE
)


@tiny("chroma-inpaint", inputs=together(_CHROMA_EMBEDS, masked_images), strength=0.75, **_SIDE)
def _chroma_inpaint() -> DiffusionPipeline:
    parts = _chroma_parts()
    parts["transformer"].register_to_config(guidance_embeds=False)  # the pipeline asks for it
    return d.ChromaInpaintPipeline(**parts)
