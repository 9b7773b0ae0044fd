"""Editing of images and what else has a pipeline of its own: aMUSEd, LongCat, Fibo, Versatile Diffusion."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
import transformers
from diffusers import DiffusionPipeline
from diffusers.pipelines.deprecated.paint_by_example import PaintByExampleImageEncoder
from diffusers.pipelines.deprecated.unidiffuser import UniDiffuserModel, UniDiffuserTextDecoder
from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel
from diffusers.pipelines.deprecated.vq_diffusion import LearnedClassifierFreeSamplingEmbeddings
from diffusers.pipelines.stable_diffusion import CLIPImageProjection

from benchmarks.coverage.pipelines.flux import flux_transformer
from benchmarks.coverage.pipelines.images import (
    amused_transformer,
    bria_fibo_parts,
    dreamlite_unet,
    longcat_transformer,
    tiny_vae,
)
from benchmarks.coverage.pipelines.parts import (
    PROMPT,
    TOKENS,
    an_image,
    clip_images,
    clip_text,
    clip_tokenizer,
    clip_vision,
    ddim,
    flow,
    flow_dynamic,
    generator,
    kl_vae,
    masked_images,
    movq_vae,
    no_text,
    only_prompts,
    pairs,
    pictures,
    prompts,
    randn,
    random_model,
    t5_text,
    t5_tokenizer,
    together,
    token_mask,
)
from benchmarks.coverage.pipelines.qwen import z_image_transformer
from benchmarks.coverage.pipelines.registry import add, tiny
from benchmarks.coverage.pipelines.stable_diffusion import SD_EMBEDS, sd_parts, sd_unet
from benchmarks.coverage.pipelines.stable_diffusion_xl import sdxl_parts

_SIDE = {"height": 32, "width": 32}


def _amused_parts() -> dict[str, Any]:
    return {
        "vqvae": movq_vae(),
        "tokenizer": None,
        "text_encoder": None,
        "transformer": amused_transformer(),
        "scheduler": d.AmusedScheduler(mask_token_id=39),
    }


_AMUSED = pairs(prompt_embeds=(16,), encoder_hidden_states=(TOKENS, 16))
add(
    "amused-img2img",
    d.AmusedImg2ImgPipeline,
    _amused_parts,
    inputs=together(_AMUSED, an_image()),
    strength=0.99,
)
add("amused-inpaint", d.AmusedInpaintPipeline, _amused_parts, inputs=together(_AMUSED, masked_images))


@tiny("dreamlite-mobile", single=True, inputs=lambda batch: {"prompt": PROMPT}, **_SIDE)
def _dreamlite_mobile() -> DiffusionPipeline:
    pipe = d.DreamLiteMobilePipeline(
        text_encoder=clip_text(),
        tokenizer=None,
        processor=None,
        vae=tiny_vae(),
        unet=dreamlite_unet(),
        scheduler=flow_dynamic(),
    )
    # It takes no embeddings.
    pipe.encode_prompt = lambda mode, prompts, **rest: (
        randn(len(prompts), TOKENS, 16),
        token_mask(len(prompts)),
    )
    return pipe


class _TextProcessor:
    """Stands for Qwen's processor, asked for a part of it."""

    image_processor = None


@tiny(
    "longcat-edit",
    single=True,
    inputs=lambda batch: {"prompt": PROMPT, "negative_prompt": "blue", "image": pictures(1)[0]},
)
def _longcat_edit() -> DiffusionPipeline:
    # It makes every image near 1024 pixels a side, which a VAE of a large scale factor makes small.
    vae = kl_vae(16, halvings=6, block_out_channels=(4,) * 7, shift_factor=0.0)
    pipe = d.LongCatImageEditPipeline(
        **no_text(transformer=longcat_transformer(), scheduler=flow_dynamic(), vae=vae),
        text_processor=_TextProcessor(),
    )
    # It wants words even where it is given embeddings.
    pipe._encode_prompt = lambda prompt, image: randn(1, TOKENS, 16, seed=len(prompt[0]))
    return pipe


add(
    "bria-fibo-edit",
    d.BriaFiboEditPipeline,
    bria_fibo_parts,
    inputs=lambda batch: {
        "prompt": [{"edit_instruction": PROMPT}] * batch,
        "negative_prompt": ["blue"] * batch,
        "image": pictures(1, side=64)[0],
    },
    height=64,
    width=64,
    _auto_resize=False,
)


def _fill_parts() -> dict[str, Any]:
    transformer = flux_transformer(in_channels=16 + 16 + 16, out_channels=16)
    return {
        "transformer": transformer,
        "scheduler": flow_dynamic(),
        "vae": kl_vae(shift_factor=0.1),
        "text_encoder": clip_text(),
        "text_encoder_2": t5_text(),
        "tokenizer": clip_tokenizer(),
        "tokenizer_2": t5_tokenizer(),
        "resolution": 32,
    }


def _examples(batch: int) -> dict[str, Any]:
    """Return a task shown by an example, and an image to do the same with."""
    first, second, third = pictures(3)
    return {"task_prompt": "see", "content_prompt": "do", "image": [[first, second], [third, None]]}


add(
    "visualcloze",
    d.VisualClozeGenerationPipeline,
    _fill_parts,
    inputs=_examples,
    single=True,
    max_sequence_length=24,
)


@tiny(
    "visualcloze-combined",
    inputs=_examples,
    single=True,
    max_sequence_length=24,
    upsampling_height=32,
    upsampling_width=32,
)
def _visualcloze_combined() -> DiffusionPipeline:
    pipe = d.VisualClozePipeline(**_fill_parts())
    for inner in (pipe.generation_pipe, pipe.upsampling_pipe):
        inner.set_progress_bar_config(disable=True)
    return pipe


def _omni_parts() -> dict[str, Any]:
    config = transformers.Siglip2VisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_patches=16,
        patch_size=8,
    )
    return no_text(
        transformer=z_image_transformer(siglip_feat_dim=16),
        scheduler=flow(),
        vae=kl_vae(shift_factor=0.1).to(torch.bfloat16),  # the pipeline makes its images so
        siglip=random_model(transformers.Siglip2VisionModel, config),
        siglip_processor=transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16),
    )


def _around_images(batch: int) -> dict[str, Any]:
    """Return an image, and what is said before it, of it and after it."""
    names = ("prompt_embeds", "negative_prompt_embeds")
    return {
        "image": pictures(1, side=64),
        **{
            name: [[randn(size, 16, seed=seed) for size in (3, TOKENS, 2)]] * batch
            for seed, name in enumerate(names)
        },
    }


add(
    "z_image-omni",
    d.ZImageOmniPipeline,
    _omni_parts,
    inputs=_around_images,
    **_SIDE,
)


def _example_parts() -> dict[str, Any]:
    return {
        "vae": kl_vae(),
        "image_encoder": clip_vision(PaintByExampleImageEncoder, layers=4, proj_size=16),
        "unet": sd_unet(in_channels=9),
        "scheduler": ddim(),
        "safety_checker": None,
        "feature_extractor": clip_images(),
    }


add(
    "paint-by-example",
    d.PaintByExamplePipeline,
    _example_parts,
    inputs=together(masked_images, an_image("example_image", seed=5)),
    **_SIDE,
)


def _gligen_parts() -> dict[str, Any]:
    return sd_parts(
        text=True,
        unet=sd_unet(attention_type="gated-text-image"),
        processor=clip_images(),
        image_encoder=clip_vision(),
        image_project=random_model(CLIPImageProjection, hidden_size=16),
    )


add(
    "sd-gligen-text-image",
    d.StableDiffusionGLIGENTextImagePipeline,
    _gligen_parts,
    inputs=prompts,
    gligen_phrases=["fox"],
    gligen_images=pictures(1),
    gligen_boxes=[[0.1, 0.2, 0.5, 0.6]],
)
add(
    "sd-diffedit",
    d.StableDiffusionDiffEditPipeline,
    lambda: sd_parts(inverse_scheduler=d.DDIMInverseScheduler()),
    inputs=together(
        SD_EMBEDS, lambda batch: {"mask_image": masked_images(batch)["mask_image"][:, 0, ::2, ::2]}
    ),
    single=True,
    inpaint_strength=1.0,
    steps_as=lambda number: {"num_inference_steps": number, "image_latents": randn(1, number, 4, 16, 16)},
)
add(
    "sd-pix2pix-zero",
    d.StableDiffusionPix2PixZeroPipeline,
    lambda: sd_parts(
        text=True, inverse_scheduler=d.DDIMInverseScheduler(), caption_generator=None, caption_processor=None
    ),
    inputs=lambda batch: {
        "prompt": [PROMPT] * batch,
        "source_embeds": randn(1, 77, 16),
        "target_embeds": randn(1, 77, 16, seed=3),
    },
    single=True,
)


def _image_unet() -> Any:
    return sd_unet(layers_per_block=1)


def _text_unet() -> Any:
    kinds = ("CrossAttnDownBlockFlat",) * 3
    return random_model(
        UNetFlatConditionModel,
        sample_size=16,
        block_out_channels=(8, 16, 16, 16),
        down_block_types=(*kinds, "DownBlockFlat"),
        up_block_types=("UpBlockFlat", *("CrossAttnUpBlockFlat",) * 3),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=16,
    )


def _versatile(*names: str) -> dict[str, Any]:
    parts = {
        "tokenizer": clip_tokenizer(),
        "image_feature_extractor": clip_images(),
        "text_encoder": clip_text(projection=True),
        "image_encoder": clip_vision(),
        "image_unet": _image_unet(),
        "text_unet": _text_unet(),
        "vae": kl_vae(),
        "scheduler": ddim(),
    }
    return {name: parts[name] for name in names or parts}


def _picture_list(batch: int) -> dict[str, Any]:
    return {"image": pictures(batch)}


add(
    "versatile-text",
    d.VersatileDiffusionTextToImagePipeline,
    lambda: _versatile("tokenizer", "text_encoder", "image_unet", "text_unet", "vae", "scheduler"),
    inputs=prompts,
    **_SIDE,
)
add(
    "versatile-variation",
    d.VersatileDiffusionImageVariationPipeline,
    lambda: _versatile("image_feature_extractor", "image_encoder", "image_unet", "vae", "scheduler"),
    inputs=_picture_list,
    **_SIDE,
)


def _unidiffuser_parts() -> dict[str, Any]:
    unet = random_model(
        UniDiffuserModel,
        text_dim=16,
        clip_img_dim=16,
        num_text_tokens=77,
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        sample_size=16,
        patch_size=2,
        activation_fn="gelu",
        num_embeds_ada_norm=1000,
        norm_type="layer_norm",
        use_data_type_embedding=True,
    )
    decoder = random_model(
        UniDiffuserTextDecoder,
        prefix_length=77,
        prefix_inner_dim=16,
        prefix_hidden_dim=16,
        vocab_size=200,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_inner=32,
    )
    return {
        "vae": kl_vae(),
        "text_encoder": clip_text(),
        "image_encoder": clip_vision(),
        "clip_image_processor": clip_images(),
        "clip_tokenizer": clip_tokenizer(),
        "text_decoder": decoder,
        "text_tokenizer": None,
        "unet": unet,
        "scheduler": d.DPMSolverMultistepScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        ),
    }


add(
    "unidiffuser",
    d.UniDiffuserPipeline,
    _unidiffuser_parts,
    inputs=only_prompts,
    **_SIDE,
)


def _vq_parts() -> dict[str, Any]:
    transformer = random_model(
        d.Transformer2DModel,
        attention_bias=True,
        cross_attention_dim=16,
        attention_head_dim=16,
        num_attention_heads=1,
        num_vector_embeds=12,
        num_embeds_ada_norm=100,
        norm_num_groups=4,
        sample_size=8,
        activation_fn="geglu-approximate",
        num_layers=2,
    )
    return {
        "vqvae": movq_vae(norm_type="group"),
        "text_encoder": clip_text(),
        "tokenizer": clip_tokenizer(),
        "transformer": transformer,
        "scheduler": d.VQDiffusionScheduler(num_vec_classes=12),
        "learned_classifier_free_sampling_embeddings": LearnedClassifierFreeSamplingEmbeddings(
            learnable=False
        ),
    }


add(
    "vq-diffusion",
    d.VQDiffusionPipeline,
    _vq_parts,
    inputs=only_prompts,
    output_type="np",
)


def _inverted(pipe: DiffusionPipeline) -> DiffusionPipeline:
    """Return a pipeline that edits an image, its latents of six steps prepared."""
    pipe.set_progress_bar_config(disable=True)
    pipe.invert(pictures(1)[0], num_inversion_steps=6, skip=0.0, generator=generator(0))
    return pipe


def _ledits_scheduler() -> Any:
    return d.DPMSolverMultistepScheduler(
        algorithm_type="sde-dpmsolver++",
        solver_order=2,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
    )


_EDIT = {"editing_prompt": ["hat"], "single": True, "steps_as": lambda number: {}}


@tiny("sd-ledits", inputs=lambda batch: {}, **_EDIT)
def _sd_ledits() -> DiffusionPipeline:
    return _inverted(d.LEditsPPPipelineStableDiffusion(**sd_parts(text=True, scheduler=_ledits_scheduler())))


@tiny("sdxl-ledits", inputs=lambda batch: {}, **_EDIT)
def _sdxl_ledits() -> DiffusionPipeline:
    return _inverted(
        d.LEditsPPPipelineStableDiffusionXL(**sdxl_parts(text=True, scheduler=_ledits_scheduler()))
    )
