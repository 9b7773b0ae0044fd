"""The Hunyuan family: images and video."""

from __future__ import annotations

from typing import Any

import diffusers as d
import transformers
from diffusers import DiffusionPipeline
from diffusers.guiders import AdaptiveProjectedMixGuidance, ClassifierFreeGuidance

from benchmarks.coverage.pipelines.parts import (
    HEADS,
    LATENT,
    MASKED,
    TOKENS,
    VIDEO,
    an_image,
    embeddings,
    flow,
    no_text,
    random_model,
    together,
    two_embeddings,
)
from benchmarks.coverage.pipelines.registry import add, tiny


def hunyuandit_transformer(**config: Any) -> Any:
    """Build the transformer of HunyuanDiT."""
    return random_model(
        d.HunyuanDiT2DModel,
        **{
            "sample_size": 8,
            "num_layers": 4,
            "patch_size": 2,
            **HEADS,
            "hidden_size": 32,
            "in_channels": 4,
            "cross_attention_dim": 16,
            "cross_attention_dim_t5": 24,
            "pooled_projection_dim": 16,
            "text_len": TOKENS,
            "text_len_t5": 9,
            "activation_fn": "gelu-approximate",
            **config,
        },
    )


def hunyuandit_parts(**parts: Any) -> dict[str, Any]:
    """Return the parts of HunyuanDiT without text encoders and VAE."""
    scheduler = d.DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.018,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
    )
    return no_text(
        2,
        transformer=hunyuandit_transformer(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **parts,
    )


add(
    "hunyuandit",
    d.HunyuanDiTPipeline,
    hunyuandit_parts,
    "HunyuanDiT2DModel",
    inputs=two_embeddings(MASKED),
    height=64,
    width=64,
    use_resolution_binning=False,
)


def hunyuanimage_transformer(**config: Any) -> Any:
    """Build the transformer of HunyuanImage."""
    return random_model(
        d.HunyuanImageTransformer2DModel,
        **{
            **LATENT,
            **HEADS,
            "num_layers": 2,
            "num_single_layers": 2,
            "num_refiner_layers": 2,
            "text_embed_dim": 16,
            "text_embed_2_dim": 24,
            "rope_axes_dim": (8, 8),
            **config,
        },
    )


@tiny(
    "hunyuanimage",
    "HunyuanImageTransformer2DModel",
    inputs=two_embeddings("prompt_embeds_mask"),
    height=256,
    width=256,
)
def _hunyuanimage() -> DiffusionPipeline:
    guider = AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=2)
    parts = no_text(2, transformer=hunyuanimage_transformer(), scheduler=flow(shift=5.0))
    return d.HunyuanImagePipeline(**parts, guider=guider)


def hunyuanvideo_transformer(**config: Any) -> Any:
    """Build the transformer of HunyuanVideo."""
    return random_model(
        d.HunyuanVideoTransformer3DModel,
        **{
            **LATENT,
            **HEADS,
            "num_layers": 2,
            "num_single_layers": 2,
            "num_refiner_layers": 2,
            "text_embed_dim": 16,
            "pooled_projection_dim": 8,
            "rope_axes_dim": (4, 6, 6),
            **config,
        },
    )


@tiny(
    "hunyuanvideo",
    "HunyuanVideoTransformer3DModel",
    inputs=embeddings(16, mask=MASKED, negative=False, pooled_prompt_embeds=8),
    **VIDEO,
)
def _hunyuanvideo() -> DiffusionPipeline:
    return d.HunyuanVideoPipeline(
        **no_text(2, transformer=hunyuanvideo_transformer(), scheduler=flow(shift=7.0))
    )


def hunyuanvideo15_vae() -> Any:
    """Build the VAE of HunyuanVideo 1.5."""
    return random_model(
        d.AutoencoderKLHunyuanVideo15,
        latent_channels=4,
        block_out_channels=(16, 16),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )


def hunyuanvideo15_transformer(**config: Any) -> Any:
    """Build the transformer of HunyuanVideo 1.5."""
    return random_model(
        d.HunyuanVideo15Transformer3DModel,
        **{
            "in_channels": 9,
            "out_channels": 4,
            **HEADS,
            "num_layers": 2,
            "num_refiner_layers": 2,
            "text_embed_dim": 16,
            "text_embed_2_dim": 24,
            "image_embed_dim": 12,
            "rope_axes_dim": (4, 6, 6),
            "target_size": 16,
            "task_type": "t2v",
            **config,
        },
    )


@tiny(
    "hunyuanvideo15",
    "HunyuanVideo15Transformer3DModel",
    inputs=two_embeddings("prompt_embeds_mask"),
    height=32,
    width=32,
    num_frames=5,
)
def _hunyuanvideo15() -> DiffusionPipeline:
    parts = no_text(2, transformer=hunyuanvideo15_transformer(), scheduler=flow(shift=7.0))
    parts |= {"vae": hunyuanvideo15_vae(), "guider": ClassifierFreeGuidance(guidance_scale=6.0)}
    pipe = d.HunyuanVideo15Pipeline(**parts)
    pipe.vision_num_semantic_tokens = 9
    return pipe


def hunyuanvideo_vae(**config: Any) -> Any:
    """Build the VAE of HunyuanVideo."""
    return random_model(
        d.AutoencoderKLHunyuanVideo,
        **{
            "latent_channels": 4,
            "block_out_channels": (8, 8, 8, 8),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            **config,
        },
    )


def siglip() -> Any:
    """Build a SigLIP image encoder."""
    config = transformers.SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    return random_model(transformers.SiglipVisionModel, config)


def siglip_images() -> Any:
    """Return what prepares images for that encoder."""
    return transformers.SiglipImageProcessor(size={"height": 32, "width": 32})


@tiny(
    "framepack",
    "HunyuanVideoFramepackTransformer3DModel",
    inputs=together(
        embeddings(16, mask=MASKED, negative=False, pooled_prompt_embeds=8),
        an_image(),
    ),
    height=32,
    width=32,
    num_frames=9,
    latent_window_size=3,
)
def _framepack() -> DiffusionPipeline:
    transformer = random_model(
        d.HunyuanVideoFramepackTransformer3DModel,
        **LATENT,
        **HEADS,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=2,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(4, 6, 6),
        has_image_proj=True,
        image_proj_dim=16,
        has_clean_x_embedder=True,
    )
    parts = no_text(2, transformer=transformer, scheduler=flow(shift=7.0))
    parts |= {
        "vae": hunyuanvideo_vae(),
        "image_encoder": siglip(),
        "feature_extractor": siglip_images(),
    }
    return d.HunyuanVideoFramepackPipeline(**parts)
