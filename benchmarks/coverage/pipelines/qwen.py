"""Qwen-Image, Z-Image and Nucleus."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import diffusers as d
import torch
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.parts import (
    HEADS,
    LATENT,
    TOKENS,
    embeddings,
    flow,
    flow_dynamic,
    masks,
    no_text,
    pairs,
    randn,
    random_model,
    together,
)
from benchmarks.coverage.pipelines.registry import tiny


def qwen_transformer(**config: Any) -> Any:
    """Build the transformer of Qwen-Image."""
    return random_model(
        d.QwenImageTransformer2DModel,
        **{
            "in_channels": 16,
            "out_channels": 4,
            "num_layers": 2,
            **HEADS,
            "joint_attention_dim": 16,
            "axes_dims_rope": (4, 6, 6),
            **config,
        },
    )


@tiny(
    "qwenimage",
    "QwenImageTransformer2DModel",
    inputs=embeddings(16, mask="prompt_embeds_mask"),
    height=64,
    width=64,
)
def _qwenimage() -> DiffusionPipeline:
    return d.QwenImagePipeline(**no_text(transformer=qwen_transformer(), scheduler=flow_dynamic()))


class Processor:
    """Stands for Qwen's processor, asked for the length of a system prompt and for the number of a token."""

    tokenizer = SimpleNamespace(encode=lambda text: [0])

    def apply_chat_template(self, *_: Any, **__: Any) -> list[list[int]]:
        """Return the tokens of a prompt."""
        return [[0]]


@tiny(
    "qwenimage21",
    "QwenImage21Transformer2DModel",
    inputs=together(pairs(prompt_embeds=(TOKENS, 16)), masks("prompt_embeds_mask", dtype=torch.bool)),
    height=64,
    width=64,
    true_cfg_scale=4.0,
)
def _qwenimage21() -> DiffusionPipeline:
    transformer = random_model(
        d.QwenImage21Transformer2DModel,
        **LATENT,
        num_layers=2,
        **HEADS,
        context_in_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    return d.QwenImage21Pipeline(
        scheduler=flow_dynamic(),
        vae=None,
        text_encoder=None,
        processor=Processor(),
        transformer=transformer,
    )


def captions(batch: int) -> dict[str, Any]:
    """Return lists of embeddings, one a row and each of its own length."""
    names = ("prompt_embeds", "negative_prompt_embeds")
    return {
        name: [randn(TOKENS + row, 16, seed=seed + row) for row in range(batch)]
        for name, seed in zip(names, (10, 20), strict=True)
    }


def z_image_transformer(**config: Any) -> Any:
    """Build the transformer of Z-Image."""
    return random_model(
        d.ZImageTransformer2DModel,
        **{
            "in_channels": 4,
            "dim": 32,
            "n_layers": 2,
            "n_refiner_layers": 2,
            "n_heads": 2,
            "n_kv_heads": 2,
            "cap_feat_dim": 16,
            "axes_dims": [4, 6, 6],
            "axes_lens": [128, 32, 32],
            **config,
        },
    )


@tiny("z_image", "ZImageTransformer2DModel", inputs=captions, height=64, width=64)
def _z_image() -> DiffusionPipeline:
    return d.ZImagePipeline(**no_text(transformer=z_image_transformer(), scheduler=flow()))


@tiny(
    "nucleus",
    "NucleusMoEImageTransformer2DModel",
    inputs=embeddings(16, mask="prompt_embeds_mask"),
    height=64,
    width=64,
)
def _nucleus() -> DiffusionPipeline:
    transformer = random_model(
        d.NucleusMoEImageTransformer2DModel,
        unset=("experts.gate_up_proj", "experts.down_proj"),
        in_channels=16,
        out_channels=4,
        num_layers=5,
        **HEADS,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
        mlp_ratio=8.0,
        num_experts=4,
        moe_intermediate_dim=16,
        capacity_factors=[2.0] * 5,
    )
    return d.NucleusMoEImagePipeline(
        transformer=transformer, scheduler=flow_dynamic(), vae=None, text_encoder=None, processor=None
    )
