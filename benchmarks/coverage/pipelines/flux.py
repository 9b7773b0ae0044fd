"""Flux, Flux 2 and Chroma."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.parts import (
    HEADS,
    MASKED,
    an_image,
    clip_text,
    clip_tokenizer,
    embeddings,
    flow,
    flow_dynamic,
    kl_vae,
    masks,
    no_text,
    only_prompts,
    random_model,
    t5_text,
    t5_tokenizer,
    together,
)
from benchmarks.coverage.pipelines.registry import tiny


def flux_transformer(**config: Any) -> Any:
    """Build the transformer of Flux."""
    return random_model(
        d.FluxTransformer2DModel,
        **{
            "in_channels": 16,
            "num_layers": 2,
            "num_single_layers": 2,
            **HEADS,
            "joint_attention_dim": 16,
            "pooled_projection_dim": 16,
            "guidance_embeds": True,
            "axes_dims_rope": (4, 6, 6),
            **config,
        },
    )


FLUX_EMBEDS = embeddings(16, negative=False, pooled_prompt_embeds=16)


@tiny("flux", "FluxTransformer2DModel", inputs=FLUX_EMBEDS, height=64, width=64)
def _flux() -> DiffusionPipeline:
    return d.FluxPipeline(**no_text(2, transformer=flux_transformer(), scheduler=flow_dynamic()))


@tiny(
    "flux-text",
    inputs=only_prompts,
    height=64,
    width=64,
    max_sequence_length=24,
)
def _flux_text() -> DiffusionPipeline:
    return d.FluxPipeline(
        transformer=flux_transformer(),
        scheduler=flow_dynamic(),
        vae=None,
        text_encoder=clip_text(),
        text_encoder_2=t5_text(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
    )


@tiny("flux-schnell", inputs=FLUX_EMBEDS, height=64, width=64, guidance_scale=0.0)
def _flux_schnell() -> DiffusionPipeline:
    transformer = flux_transformer(guidance_embeds=False)
    return d.FluxPipeline(**no_text(2, transformer=transformer, scheduler=flow(shift=1.0)))


@tiny(
    "flux-img2img",
    inputs=together(FLUX_EMBEDS, an_image()),
    height=32,
    width=32,
    strength=0.75,
)
def _flux_img2img() -> DiffusionPipeline:
    parts = no_text(2, transformer=flux_transformer(), scheduler=flow_dynamic())
    return d.FluxImg2ImgPipeline(**(parts | {"vae": kl_vae(shift_factor=0.1)}))


def flux2_transformer(**config: Any) -> Any:
    """Build the transformer of Flux 2."""
    return random_model(
        d.Flux2Transformer2DModel,
        **{
            "in_channels": 16,
            "num_layers": 2,
            "num_single_layers": 2,
            **HEADS,
            "joint_attention_dim": 16,
            "timestep_guidance_channels": 16,
            "axes_dims_rope": (4, 4, 4, 4),
            **config,
        },
    )


@tiny("flux2", "Flux2Transformer2DModel", inputs=embeddings(16, negative=False), height=64, width=64)
def _flux2() -> DiffusionPipeline:
    return d.Flux2Pipeline(**no_text(transformer=flux2_transformer(), scheduler=flow_dynamic()))


def chroma_transformer(**config: Any) -> Any:
    """Build the transformer of Chroma."""
    return random_model(
        d.ChromaTransformer2DModel,
        **{
            "in_channels": 16,
            "num_layers": 2,
            "num_single_layers": 2,
            **HEADS,
            "joint_attention_dim": 16,
            "axes_dims_rope": (4, 6, 6),
            "approximator_num_channels": 16,
            "approximator_hidden_dim": 32,
            "approximator_layers": 2,
            **config,
        },
    )


@tiny(
    "chroma",
    "ChromaTransformer2DModel",
    inputs=together(embeddings(16), masks(MASKED, dtype=torch.float)),
    height=64,
    width=64,
)
def _chroma() -> DiffusionPipeline:
    return d.ChromaPipeline(**no_text(transformer=chroma_transformer(), scheduler=flow()))
