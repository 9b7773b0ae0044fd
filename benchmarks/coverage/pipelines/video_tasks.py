"""Pipelines that make video out of images and videos: CogVideoX, HunyuanVideo, EasyAnimate, Motif, Cosmos."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from diffusers import DiffusionPipeline
from diffusers.guiders import AdaptiveProjectedGuidance, AdaptiveProjectedMixGuidance, ClassifierFreeGuidance

from benchmarks.coverage.pipelines.cogvideo import (
    cogvideox_scheduler,
    cogvideox_transformer,
    cogvideox_vae,
    cogview4_scheduler,
    cogview4_transformer,
)
from benchmarks.coverage.pipelines.cosmos import SafetyChecker, cosmos_transformer, edm_scheduler
from benchmarks.coverage.pipelines.hunyuan import (
    hunyuandit_parts,
    hunyuanimage_transformer,
    hunyuanvideo15_transformer,
    hunyuanvideo15_vae,
    hunyuanvideo_transformer,
    hunyuanvideo_vae,
    siglip,
    siglip_images,
)
from benchmarks.coverage.pipelines.parts import (
    HEADS,
    MASKED,
    TOKENS,
    VIDEO,
    Inputs,
    a_picture,
    a_video,
    an_image,
    clip_images,
    embeddings,
    flow,
    flow_solver,
    generator,
    kl_vae,
    no_text,
    pictures,
    random_model,
    together,
    two_embeddings,
)
from benchmarks.coverage.pipelines.registry import add, tiny
from benchmarks.coverage.pipelines.video import easyanimate_transformer, easyanimate_vae, motif_transformer
from benchmarks.coverage.pipelines.wan import wan_vae

_TEXT = embeddings(16)


def _cogvideox_parts(cls: Any = d.CogVideoXDPMScheduler, **config: Any) -> dict[str, Any]:
    transformer = cogvideox_transformer(use_rotary_positional_embeddings=True, **config)
    return no_text(transformer=transformer, scheduler=cogvideox_scheduler(cls), vae=cogvideox_vae())


add(
    "cogvideox-i2v",
    d.CogVideoXImageToVideoPipeline,
    lambda: _cogvideox_parts(in_channels=8),
    inputs=together(_TEXT, an_image(side=64)),
    **VIDEO,
)
add(
    "cogvideox-v2v",
    d.CogVideoXVideoToVideoPipeline,
    _cogvideox_parts,
    inputs=together(_TEXT, a_video()),
    single=True,
    height=64,
    width=64,
    strength=0.99,
)
add(
    "cogvideox-control",
    d.CogVideoXFunControlPipeline,
    lambda: _cogvideox_parts(d.CogVideoXDDIMScheduler, in_channels=8),
    inputs=together(_TEXT, a_video("control_video")),
    single=True,
    height=64,
    width=64,
)
add(
    "cogview4-control",
    d.CogView4ControlPipeline,
    lambda: no_text(
        transformer=cogview4_transformer(in_channels=8), scheduler=cogview4_scheduler(), vae=kl_vae()
    ),
    inputs=together(embeddings(16, 16), an_image("control_image")),
    height=32,
    width=32,
)


_HUNYUAN = embeddings(16, mask=MASKED, pooled_prompt_embeds=8)


def _hunyuan_parts(**config: Any) -> dict[str, Any]:
    return no_text(
        2, transformer=hunyuanvideo_transformer(**config), scheduler=flow(shift=7.0), vae=hunyuanvideo_vae()
    )


add(
    "hunyuanvideo-i2v",
    d.HunyuanVideoImageToVideoPipeline,
    lambda: (
        _hunyuan_parts(in_channels=9, image_condition_type="latent_concat")
        | {"image_processor": clip_images()}
    ),
    inputs=together(_HUNYUAN, an_image(side=64)),
    **VIDEO,
)
add(
    "hunyuanvideo-i2v-replace",
    d.HunyuanVideoImageToVideoPipeline,
    lambda: _hunyuan_parts(image_condition_type="token_replace") | {"image_processor": clip_images()},
    inputs=together(_HUNYUAN, an_image(side=64)),
    **VIDEO,
)
add(
    "hunyuan-skyreels-i2v",
    d.HunyuanSkyreelsImageToVideoPipeline,
    lambda: _hunyuan_parts(in_channels=8),
    inputs=together(_HUNYUAN, an_image(side=64)),
    **VIDEO,
)


@tiny(
    "hunyuanvideo15-i2v",
    inputs=together(two_embeddings("prompt_embeds_mask"), lambda batch: {"image": pictures(1)[0]}),
    single=True,
    num_frames=5,
)
def _hunyuanvideo15_i2v() -> DiffusionPipeline:
    transformer = hunyuanvideo15_transformer(image_embed_dim=16, task_type="i2v")
    pipe = d.HunyuanVideo15ImageToVideoPipeline(
        **no_text(2, transformer=transformer, scheduler=flow(shift=7.0), vae=hunyuanvideo15_vae()),
        guider=ClassifierFreeGuidance(guidance_scale=6.0),
        image_encoder=siglip(),
        feature_extractor=siglip_images(),
    )
    pipe.vision_num_semantic_tokens, pipe.vision_states_dim = 16, 16
    return pipe


def _hunyuanimage_vae() -> Any:
    return random_model(
        d.AutoencoderKLHunyuanImageRefiner,
        latent_channels=4,
        block_out_channels=(8, 8),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )


add(
    "hunyuanimage-refiner",
    d.HunyuanImageRefinerPipeline,
    lambda: no_text(
        transformer=hunyuanimage_transformer(
            in_channels=16,
            out_channels=8,
            patch_size=(1, 1, 1),
            rope_axes_dim=(4, 6, 6),
            text_embed_2_dim=None,
            guidance_embeds=True,
        ),
        scheduler=flow(shift=4.0),
        vae=_hunyuanimage_vae(),
        guider=AdaptiveProjectedMixGuidance(enabled=False),
    ),
    inputs=together(embeddings(16, mask="prompt_embeds_mask"), an_image()),
    height=32,
    width=32,
)
add(
    "hunyuandit-controlnet",
    d.HunyuanDiTControlNetPipeline,
    lambda: hunyuandit_parts() | {"vae": kl_vae(halvings=3), "controlnet": _hunyuandit_controlnet()},
    inputs=together(two_embeddings(MASKED), an_image("control_image", side=64)),
    height=64,
    width=64,
    use_resolution_binning=False,
)


def _hunyuandit_controlnet() -> Any:
    return random_model(
        d.HunyuanDiT2DControlNetModel,
        sample_size=8,
        transformer_num_layers=4,
        patch_size=2,
        **HEADS,
        hidden_size=32,
        in_channels=4,
        cross_attention_dim=16,
        cross_attention_dim_t5=24,
        pooled_projection_dim=16,
        text_len=TOKENS,
        text_len_t5=9,
        activation_fn="gelu-approximate",
    )


def _easyanimate_parts() -> dict[str, Any]:
    vae = easyanimate_vae()
    vae.register_to_config(cache_mag_vae=True)  # as checkpoints have it
    return no_text(transformer=easyanimate_transformer(in_channels=9), scheduler=flow(shift=5.0), vae=vae)


def _frames(name: str, channels: int = 3, seed: int = 2) -> Inputs:
    """Return as input a video as a tensor."""
    return lambda batch: {name: torch.rand(batch, channels, 9, 64, 64, generator=generator(seed))}


add(
    "easyanimate-inpaint",
    d.EasyAnimateInpaintPipeline,
    _easyanimate_parts,
    inputs=together(embeddings(16, mask=MASKED), _frames("video"), _frames("mask_video", 1, 3)),
    **VIDEO,
)


@tiny(
    "motif-i2v",
    inputs=together(embeddings(16, mask=MASKED), a_picture),
    single=True,
    prompt=None,
    **VIDEO,
)
def _motif_i2v() -> DiffusionPipeline:
    parts = no_text(
        transformer=motif_transformer(image_embed_dim=16), scheduler=flow(shift=7.0), vae=wan_vae()
    )
    return d.MotifVideoImage2VideoPipeline(
        **parts, guider=AdaptiveProjectedGuidance(), feature_extractor=None
    )


_COSMOS = {"height": 64, "width": 64, "num_frames": 9}


def _cosmos_parts(scheduler: Any, **config: Any) -> dict[str, Any]:
    # The pipelines ask the text encoder for its dtype.
    transformer = cosmos_transformer(concat_padding_mask=False, **config)
    return no_text(
        transformer=transformer, scheduler=scheduler, vae=wan_vae(), safety_checker=SafetyChecker()
    )


def _cosmos_vae() -> Any:
    return random_model(
        d.AutoencoderKLCosmos,
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(4,),
        resolution=64,
        num_layers=1,
    )


def _karras_flow() -> Any:
    return d.FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)


add(
    "cosmos-v2w",
    d.CosmosVideoToWorldPipeline,
    lambda: _cosmos_parts(edm_scheduler(), in_channels=5) | {"vae": _cosmos_vae()},
    inputs=together(_TEXT, a_picture),
    **_COSMOS,
)
add(
    "cosmos2-t2i",
    d.Cosmos2TextToImagePipeline,
    lambda: _cosmos_parts(_karras_flow()),
    inputs=_TEXT,
    height=64,
    width=64,
)
add(
    "cosmos2-v2w",
    d.Cosmos2VideoToWorldPipeline,
    lambda: _cosmos_parts(_karras_flow(), in_channels=5),
    inputs=together(_TEXT, a_picture),
    **_COSMOS,
)
add(
    "cosmos2.5",
    d.Cosmos2_5_PredictBasePipeline,
    lambda: _cosmos_parts(flow_solver(d.UniPCMultistepScheduler, 5.0), in_channels=5),
    inputs=_TEXT,
    **_COSMOS,
)
