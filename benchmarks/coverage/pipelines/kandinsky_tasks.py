"""The Kandinsky family put to other tasks, and its first version."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

from benchmarks.coverage.pipelines.hunyuan import hunyuanvideo_vae
from benchmarks.coverage.pipelines.kandinsky import (
    kandinsky2_scheduler,
    kandinsky3_parts,
    kandinsky5_transformer,
    kandinsky22_parts,
    kandinsky_prior_parts,
    kandinsky_unet,
    prompt_lengths,
)
from benchmarks.coverage.pipelines.parts import (
    TOKENS,
    a_picture,
    an_image,
    ddim,
    embeddings,
    flow,
    kl_vae,
    masked_images,
    masks,
    movq_vae,
    no_text,
    pairs,
    prompts,
    randn,
    random_model,
    t5_tokenizer,
    together,
)
from benchmarks.coverage.pipelines.registry import add, tiny

_EMBEDS = pairs(image_embeds=(16,))
_SIDE = {"height": 32, "width": 32}
_IMAGE = an_image()


def _hinted_22() -> dict[str, Any]:
    # A hint at 8 times the size of the latents.
    return kandinsky22_parts(in_channels=8, addition_embed_type="image_hint")


def _masked_pixels(batch: int) -> dict[str, Any]:
    given = masked_images(batch)
    return {"image": given["image"] * 2 - 1, "mask_image": given["mask_image"]}


_HINT = an_image("hint", side=128)
add(
    "kandinsky22-img2img",
    d.KandinskyV22Img2ImgPipeline,
    kandinsky22_parts,
    inputs=together(_EMBEDS, _IMAGE),
    strength=0.99,
    **_SIDE,
)
add(
    "kandinsky22-inpaint",
    d.KandinskyV22InpaintPipeline,
    lambda: kandinsky22_parts(in_channels=9),
    inputs=together(_EMBEDS, _masked_pixels),
    **_SIDE,
)
add(
    "kandinsky22-controlnet",
    d.KandinskyV22ControlnetPipeline,
    _hinted_22,
    inputs=together(_EMBEDS, _HINT),
    **_SIDE,
    output_type="pt",
)
add(
    "kandinsky22-controlnet-img2img",
    d.KandinskyV22ControlnetImg2ImgPipeline,
    _hinted_22,
    inputs=together(_EMBEDS, _IMAGE, _HINT),
    strength=0.99,
    **_SIDE,
    output_type="pt",
)


add(
    "kandinsky22-prior-emb2emb",
    d.KandinskyV22PriorEmb2EmbPipeline,
    kandinsky_prior_parts,
    inputs=together(prompts, lambda batch: {"image": randn(batch, 16)}),
    strength=0.99,
    output_type="pt",
)
add("kandinsky21-prior", d.KandinskyPriorPipeline, kandinsky_prior_parts, inputs=prompts, output_type="pt")


def kandinsky21_parts(in_channels: int = 4) -> dict[str, Any]:
    """Return the parts of Kandinsky 2.1."""
    config = MCLIPConfig(
        vocab_size=200,
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        transformerDimensions=16,
        numDims=16,
    )
    unet = kandinsky_unet(
        in_channels=in_channels,
        addition_embed_type="text_image",
        encoder_hid_dim_type="text_image_proj",
        cross_attention_dim=16,
    )
    tokenizer = t5_tokenizer()
    return {
        "text_encoder": random_model(MultilingualCLIP, config),
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": kandinsky2_scheduler(),
        "movq": movq_vae(),
    }


_WORDS = together(prompts, _EMBEDS)
add("kandinsky21", d.KandinskyPipeline, kandinsky21_parts, inputs=_WORDS, output_type="pt", **_SIDE)
add(
    "kandinsky21-img2img",
    d.KandinskyImg2ImgPipeline,
    lambda: kandinsky21_parts() | {"scheduler": ddim()},
    inputs=together(_WORDS, _IMAGE),
    strength=0.99,
    output_type="pt",
    **_SIDE,
)
add(
    "kandinsky21-inpaint",
    d.KandinskyInpaintPipeline,
    lambda: kandinsky21_parts(9),
    inputs=together(_WORDS, _masked_pixels),
    output_type="pt",
    **_SIDE,
)

add(
    "kandinsky3-img2img",
    d.Kandinsky3Img2ImgPipeline,
    kandinsky3_parts,
    inputs=together(embeddings(16), masks("attention_mask"), an_image(side=64)),
    strength=0.99,
)


def _parts_5(vae: Any, **config: Any) -> dict[str, Any]:
    return no_text(2, transformer=kandinsky5_transformer(**config), scheduler=flow(shift=5.0), vae=vae)


def _for_images(cls: Any, **config: Any) -> DiffusionPipeline:
    # The pipeline takes its latents to be an eighth of the image.
    pipe = cls(**_parts_5(kl_vae(halvings=3), **config))
    pipe.resolutions = [(64, 64)]  # it makes images of these sizes only
    return pipe


_KANDINSKY_5 = together(pairs(prompt_embeds_qwen=(TOKENS, 16), prompt_embeds_clip=(16,)), prompt_lengths)


@tiny("kandinsky5-t2i", inputs=_KANDINSKY_5, height=64, width=64)
def _kandinsky5_t2i() -> DiffusionPipeline:
    return _for_images(d.Kandinsky5T2IPipeline)


@tiny("kandinsky5-i2i", inputs=together(_KANDINSKY_5, a_picture), single=True, height=64, width=64)
def _kandinsky5_i2i() -> DiffusionPipeline:
    return _for_images(d.Kandinsky5I2IPipeline, visual_cond=True)


add(
    "kandinsky5-i2v",
    d.Kandinsky5I2VPipeline,
    lambda: _parts_5(hunyuanvideo_vae(), visual_cond=True),
    inputs=together(_KANDINSKY_5, a_picture),
    height=64,
    width=64,
    num_frames=17,  # with fewer than five latent frames it returns NaN
)
