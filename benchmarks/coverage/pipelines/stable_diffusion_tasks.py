"""Stable Diffusion put to other tasks, and guided in other ways."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers import DiffusionPipeline
from diffusers.pipelines.kolors.pipeline_kolors_img2img import KolorsImg2ImgPipeline

from benchmarks.coverage.pipelines.parts import (
    PROMPT,
    an_image,
    clip_images,
    clip_vision,
    ddim,
    embeddings,
    images,
    kl_vae,
    masked_images,
    no_text,
    prompts,
    randn,
    together,
)
from benchmarks.coverage.pipelines.registry import add, tiny
from benchmarks.coverage.pipelines.stable_diffusion import (
    SD_EMBEDS,
    lcm_scheduler,
    lcm_unet,
    sd_parts,
    sd_unet,
)
from benchmarks.coverage.pipelines.stable_diffusion_xl import (
    KOLORS_EMBEDS,
    SDXL_EMBEDS,
    kolors_parts,
    sdxl_parts,
    sdxl_unet,
)

_SIDE = {"height": 32, "width": 32}
_IMAGE = an_image()


add(
    "sdxl-inpaint",
    d.StableDiffusionXLInpaintPipeline,
    lambda: sdxl_parts(unet=sdxl_unet(in_channels=9)),
    inputs=together(SDXL_EMBEDS, masked_images),
    strength=0.99,
    **_SIDE,
)


@tiny("kolors-img2img", inputs=together(prompts, an_image()), strength=0.99)
def _kolors_img2img() -> DiffusionPipeline:
    pipe = KolorsImg2ImgPipeline(**kolors_parts())
    names = (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    )
    # It leaves the pooled embeddings that it is given aside.
    pipe.encode_prompt = lambda prompt, **rest: tuple(KOLORS_EMBEDS(len(prompt))[name] for name in names)
    return pipe


add(
    "lcm-img2img",
    d.LatentConsistencyModelImg2ImgPipeline,
    lambda: sd_parts(unet=lcm_unet(), scheduler=lcm_scheduler()),
    inputs=together(embeddings(16, negative=False), _IMAGE),
)
add(
    "sd-instruct-pix2pix",
    d.StableDiffusionInstructPix2PixPipeline,
    lambda: sd_parts(unet=sd_unet(in_channels=8)),
    inputs=together(SD_EMBEDS, _IMAGE),
)
add(
    "sdxl-instruct-pix2pix",
    d.StableDiffusionXLInstructPix2PixPipeline,
    lambda: sdxl_parts(unet=sdxl_unet(in_channels=8)),
    inputs=together(SDXL_EMBEDS, _IMAGE),
    **_SIDE,
)


def _upscale_parts() -> dict[str, Any]:
    unet = sd_unet(in_channels=7, num_class_embeds=1000)
    return no_text(
        vae=kl_vae(),
        unet=unet,
        low_res_scheduler=d.DDPMScheduler(),
        scheduler=ddim(prediction_type="v_prediction"),
    )


add(
    "sd-upscale",
    d.StableDiffusionUpscalePipeline,
    _upscale_parts,
    inputs=together(SD_EMBEDS, an_image(side=16)),
)


def _latent_upscale_parts() -> dict[str, Any]:
    unet = sd_unet(
        in_channels=8,
        out_channels=5,
        block_out_channels=(32, 32, 64, 64),
        down_block_types=("KDownBlock2D", *("KCrossAttnDownBlock2D",) * 3),
        up_block_types=(*("KCrossAttnUpBlock2D",) * 3, "KUpBlock2D"),
        layers_per_block=1,
        only_cross_attention=False,
        mid_block_type=None,
        act_fn="gelu",
        attention_head_dim=8,
        conv_in_kernel=1,
        conv_out_kernel=1,
        norm_num_groups=None,
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier",
        timestep_post_act="gelu",
        time_cond_proj_dim=128 + 16,
    )
    return no_text(vae=kl_vae(), unet=unet, scheduler=d.EulerDiscreteScheduler(prediction_type="sample"))


add(
    "sd-latent-upscale",
    d.StableDiffusionLatentUpscalePipeline,
    _latent_upscale_parts,
    inputs=together(
        embeddings(16, pooled_prompt_embeds=16), lambda batch: {"image": randn(batch, 4, 16, 16)}
    ),
)


def _depth_parts() -> dict[str, Any]:
    return no_text(
        vae=kl_vae(),
        unet=sd_unet(in_channels=5),
        scheduler=ddim(),
        depth_estimator=None,
        feature_extractor=None,
    )


add(
    "sd-depth2img",
    d.StableDiffusionDepth2ImgPipeline,
    _depth_parts,
    inputs=together(SD_EMBEDS, _IMAGE, lambda batch: {"depth_map": images(batch, 16)[:, 0]}),
    strength=0.99,
)


def _variation_parts() -> dict[str, Any]:
    parts = sd_parts(image_encoder=clip_vision(), feature_extractor=clip_images())
    return {name: part for name, part in parts.items() if name not in ("text_encoder", "tokenizer")}


add("sd-image-variation", d.StableDiffusionImageVariationPipeline, _variation_parts, inputs=_IMAGE, **_SIDE)
add(
    "sd-ldm3d",
    d.StableDiffusionLDM3DPipeline,
    lambda: sd_parts(image_encoder=None, vae=kl_vae(in_channels=6, out_channels=6)),
    inputs=SD_EMBEDS,
    output_type="np",
)
add(
    "sd-panorama",
    d.StableDiffusionPanoramaPipeline,
    sd_parts,
    inputs=SD_EMBEDS,
    single=True,
    height=32,
    width=144,
)
add("sd-sag", d.StableDiffusionSAGPipeline, sd_parts, inputs=SD_EMBEDS)
add("sd-safe", d.StableDiffusionPipelineSafe, lambda: sd_parts(text=True), inputs=prompts)
add(
    "sd-gligen",
    d.StableDiffusionGLIGENPipeline,
    lambda: sd_parts(text=True, unet=sd_unet(attention_type="gated")),
    inputs=prompts,
    gligen_phrases=["fox"],
    gligen_boxes=[[0.1, 0.2, 0.5, 0.6]],
)
add(
    "sd-attend-and-excite",
    d.StableDiffusionAttendAndExcitePipeline,
    lambda: sd_parts(text=True),
    inputs=together(prompts, lambda batch: {"token_indices": [[2]] * batch}),
    max_iter_to_alter=2,
    thresholds={},
    attn_res=(8, 8),
)
add(
    "sd-semantic",
    d.SemanticStableDiffusionPipeline,
    lambda: sd_parts(text=True),
    inputs=prompts,
    editing_prompt=["hat"],
    edit_warmup_steps=1,
)
add(
    "sd-cycle",
    d.CycleDiffusionPipeline,
    lambda: sd_parts(text=True),
    inputs=together(lambda batch: {"prompt": [PROMPT] * batch, "source_prompt": ["a dog"] * batch}, _IMAGE),
    strength=0.99,
    eta=0.1,
)
add(
    "sd-inpaint-legacy",
    d.StableDiffusionInpaintPipelineLegacy,
    sd_parts,
    inputs=together(SD_EMBEDS, masked_images),
    strength=0.99,
)
add("sd-model-editing", d.StableDiffusionModelEditingPipeline, lambda: sd_parts(text=True), inputs=prompts)
add(
    "sd-paradigms",
    d.StableDiffusionParadigmsPipeline,
    lambda: sd_parts(scheduler=d.DDIMParallelScheduler(clip_sample=False, set_alpha_to_one=False)),
    inputs=SD_EMBEDS,
    parallel=3,
)
add("alt-diffusion", d.AltDiffusionPipeline, sd_parts, inputs=SD_EMBEDS)
add(
    "alt-diffusion-img2img",
    d.AltDiffusionImg2ImgPipeline,
    sd_parts,
    inputs=together(SD_EMBEDS, _IMAGE),
    strength=0.99,
)
