"""UNets for video put to other tasks, and UNets for pixels: AnimateDiff, DeepFloyd IF and others."""

from __future__ import annotations

from typing import Any

import diffusers as d
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

from benchmarks.coverage.pipelines.parts import (
    PROMPT,
    Inputs,
    an_image,
    clip_text,
    clip_tokenizer,
    ddim,
    embeddings,
    images,
    kl_vae,
    masked_images,
    movq_vae,
    no_text,
    only_prompts,
    pictures,
    random_model,
    together,
)
from benchmarks.coverage.pipelines.pixels import if_scheduler, if_unet, pixel_unet
from benchmarks.coverage.pipelines.registry import add
from benchmarks.coverage.pipelines.stable_diffusion import sd_controlnet, sd_parts, sd_unet
from benchmarks.coverage.pipelines.stable_diffusion_xl import sdxl_parts
from benchmarks.coverage.pipelines.video_unets import motion_unet, text_to_video_unet

_TEXT = embeddings(16)
_SIZE = {"height": 16, "width": 16}


def _motion_parts(**parts: Any) -> dict[str, Any]:
    parts = {
        "unet": motion_unet(),
        "scheduler": ddim(beta_schedule="linear"),
        "vae": kl_vae(),
        "motion_adapter": None,
        **parts,
    }
    return no_text(**parts)


def _frames(name: str, seed: int = 2) -> Inputs:
    return lambda batch: {name: pictures(3, side=16)}


def _sparse() -> Any:
    return random_model(
        d.SparseControlNetModel,
        in_channels=4,
        conditioning_channels=3,
        block_out_channels=(8, 16, 16, 16),
        down_block_types=(*("CrossAttnDownBlockMotion",) * 3, "DownBlockMotion"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=8,
        motion_num_attention_heads=2,
        conditioning_embedding_out_channels=(8, 16),
        use_simplified_condition_embedding=False,
    )


def _motion_controlnet() -> Any:
    return sd_controlnet(layers_per_block=1)


add(
    "animatediff-controlnet",
    d.AnimateDiffControlNetPipeline,
    lambda: _motion_parts(controlnet=_motion_controlnet()),
    inputs=together(_TEXT, _frames("conditioning_frames")),
    single=True,
    num_frames=3,
    **_SIZE,
)
add(
    "animatediff-v2v",
    d.AnimateDiffVideoToVideoPipeline,
    _motion_parts,
    inputs=together(_TEXT, _frames("video")),
    single=True,
    strength=0.99,
    **_SIZE,
)
add(
    "animatediff-v2v-controlnet",
    d.AnimateDiffVideoToVideoControlNetPipeline,
    lambda: _motion_parts(controlnet=_motion_controlnet()),
    inputs=together(_TEXT, _frames("video"), _frames("conditioning_frames")),
    single=True,
    strength=0.99,
    **_SIZE,
)
add("animatediff-pag", d.AnimateDiffPAGPipeline, _motion_parts, inputs=_TEXT, num_frames=3, **_SIZE)
add(
    "animatediff-sparse",
    d.AnimateDiffSparseControlNetPipeline,
    lambda: _motion_parts(controlnet=_sparse()),
    inputs=together(_TEXT, lambda batch: {"conditioning_frames": pictures(1, side=16)}),
    single=True,
    num_frames=3,
    **_SIZE,
)


def _motion_xl_parts() -> dict[str, Any]:
    unet = motion_unet(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownBlockMotion", "CrossAttnDownBlockMotion", "CrossAttnDownBlockMotion"),
        up_block_types=("CrossAttnUpBlockMotion", "CrossAttnUpBlockMotion", "UpBlockMotion"),
        transformer_layers_per_block=(1, 2, 3),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
    )
    return no_text(2, unet=unet, scheduler=ddim(beta_schedule="linear"), vae=kl_vae(), motion_adapter=None)


add(
    "animatediff-sdxl",
    d.AnimateDiffSDXLPipeline,
    _motion_xl_parts,
    inputs=embeddings(16, pooled_prompt_embeds=16),
    num_frames=3,
    **_SIZE,
)
add(
    "pia",
    d.PIAPipeline,
    lambda: _motion_parts(unet=motion_unet(in_channels=9)),
    inputs=together(_TEXT, an_image(side=16)),
    single=True,
    num_frames=3,
    **_SIZE,
)
add(
    "video-to-video",
    d.VideoToVideoSDPipeline,
    lambda: no_text(unet=text_to_video_unet(), scheduler=ddim(), vae=kl_vae()),
    inputs=together(_TEXT, lambda batch: {"video": pictures(3)}),
    single=True,
    strength=0.99,
)
add(
    "text-to-video-zero",
    d.TextToVideoZeroPipeline,
    lambda: sd_parts(text=True),
    inputs=lambda batch: {"prompt": PROMPT},
    single=True,
    video_length=2,
    t0=2,
    t1=4,
)
add(
    "text-to-video-zero-sdxl",
    d.TextToVideoZeroSDXLPipeline,
    lambda: sdxl_parts(text=True),
    inputs=lambda batch: {"prompt": PROMPT},
    single=True,
    video_length=2,
    t0=2,
    t1=4,
)


def _if_parts(channels: int = 3, **parts: Any) -> dict[str, Any]:
    more = {"class_embed_type": "timestep"} if channels > 3 else {}
    return {
        "tokenizer": None,
        "text_encoder": None,
        "unet": if_unet(in_channels=channels, **more),
        "scheduler": if_scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        "watermarker": None,
        "requires_safety_checker": False,
        **parts,
    }


def _super_parts() -> dict[str, Any]:
    return _if_parts(6, image_noising_scheduler=d.DDPMScheduler(beta_schedule="squaredcos_cap_v2"))


def _pixels(batch: int) -> dict[str, Any]:
    return {"image": images(batch, 16) * 2 - 1}


def _masked_pixels(batch: int) -> dict[str, Any]:
    return {**_pixels(batch), "mask_image": masked_images(batch)["mask_image"][:, :, :16, :16]}


def _small(inputs: Inputs) -> Inputs:
    """Return as input also a smaller image, and the others as those it is enlarged to."""
    return lambda batch: {
        **inputs(batch),
        "original_image": inputs(batch)["image"],
        "image": images(batch, 8) * 2 - 1,
    }


add(
    "if-img2img",
    d.IFImg2ImgPipeline,
    _if_parts,
    inputs=together(_TEXT, _pixels),
    strength=0.99,
    output_type="pt",
)
add(
    "if-inpaint",
    d.IFInpaintingPipeline,
    _if_parts,
    inputs=together(_TEXT, _masked_pixels),
    strength=0.99,
    output_type="pt",
)
add(
    "if-super",
    d.IFSuperResolutionPipeline,
    _super_parts,
    inputs=together(_TEXT, lambda batch: {"image": images(batch, 8) * 2 - 1}),
    output_type="pt",
    **_SIZE,
)
add(
    "if-img2img-super",
    d.IFImg2ImgSuperResolutionPipeline,
    _super_parts,
    inputs=together(_TEXT, _small(_pixels)),
    strength=0.99,
    output_type="pt",
)
add(
    "if-inpaint-super",
    d.IFInpaintingSuperResolutionPipeline,
    _super_parts,
    inputs=together(_TEXT, _small(_masked_pixels)),
    strength=0.99,
    output_type="pt",
)


def _rows(batch: int) -> dict[str, Any]:
    return {"batch_size": batch}


add(
    "pndm",
    d.PNDMPipeline,
    lambda: {"unet": pixel_unet(), "scheduler": d.PNDMScheduler()},
    inputs=_rows,
    output_type="np",
)
add(
    "score-sde-ve",
    d.ScoreSdeVePipeline,
    lambda: {"unet": pixel_unet(), "scheduler": d.ScoreSdeVeScheduler()},
    inputs=_rows,
    output_type="np",
)
add(
    "karras-ve",
    d.KarrasVePipeline,
    lambda: {"unet": pixel_unet(), "scheduler": d.KarrasVeScheduler()},
    inputs=_rows,
    output_type="np",
)
add(
    "repaint",
    d.RePaintPipeline,
    lambda: {"unet": pixel_unet(), "scheduler": d.RePaintScheduler()},
    inputs=lambda batch: {name: value[:, :, :16, :16] for name, value in masked_images(batch).items()},
    jump_length=2,
    jump_n_sample=2,
    output_type="np",
)


def _latent_pixels(channels: int = 4, **config: Any) -> dict[str, Any]:
    return {
        "vqvae": movq_vae(norm_type="group", latent_channels=channels, vq_embed_dim=channels),
        "unet": pixel_unet(**{"in_channels": channels, "out_channels": channels, **config}),
        "scheduler": ddim(),
    }


add("ldm", d.LDMPipeline, _latent_pixels, inputs=_rows, output_type="np")
add(
    "ldm-super",
    d.LDMSuperResolutionPipeline,
    lambda: _latent_pixels(3, in_channels=6),
    inputs=an_image(side=16),
    output_type="np",
)


def _ldm_text_parts() -> dict[str, Any]:
    bert = random_model(
        LDMBertModel,
        LDMBertConfig(
            vocab_size=200,
            d_model=16,
            encoder_layers=2,
            encoder_ffn_dim=32,
            encoder_attention_heads=2,
            head_dim=8,
        ),
    )
    return {
        "vqvae": kl_vae(),
        "bert": bert,
        "tokenizer": clip_tokenizer(),
        "unet": sd_unet(),
        "scheduler": ddim(),
    }


add(
    "ldm-text",
    d.LDMTextToImagePipeline,
    _ldm_text_parts,
    inputs=only_prompts,
    guidance_scale=3.0,
    output_type="np",
    height=32,
    width=32,
)


def _marigold_parts(predictions: int = 1, **parts: Any) -> dict[str, Any]:
    unet = sd_unet(in_channels=4 + 4 * predictions, out_channels=4 * predictions)
    return {
        "unet": unet,
        "vae": kl_vae(),
        "scheduler": ddim(prediction_type="v_prediction", timestep_spacing="trailing"),
        "text_encoder": clip_text(),
        "tokenizer": clip_tokenizer(),
        "default_denoising_steps": 4,
        "default_processing_resolution": 0,
        **parts,
    }


_MARIGOLD = {"output_type": "np", "processing_resolution": 0}
add(
    "marigold-depth",
    d.MarigoldDepthPipeline,
    lambda: _marigold_parts(prediction_type="depth"),
    inputs=an_image(),
    batch_size=2,
    **_MARIGOLD,
)
add(
    "marigold-normals",
    d.MarigoldNormalsPipeline,
    lambda: _marigold_parts(prediction_type="normals"),
    inputs=an_image(),
    batch_size=2,
    **_MARIGOLD,
)
add(
    "marigold-intrinsics",
    d.MarigoldIntrinsicsPipeline,
    lambda: _marigold_parts(
        2, prediction_type="intrinsics", target_properties={"target_names": ["albedo", "material"]}
    ),
    inputs=an_image(),
    batch_size=2,
    **_MARIGOLD,
)
