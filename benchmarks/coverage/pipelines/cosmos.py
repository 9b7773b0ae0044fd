"""Cosmos."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import diffusers as d
import torch
from diffusers import DiffusionPipeline
from torch import nn

from benchmarks.coverage.pipelines.parts import (
    HEADS,
    LATENT,
    PROMPT,
    embeddings,
    flow_solver,
    no_text,
    random_model,
)
from benchmarks.coverage.pipelines.registry import tiny
from benchmarks.coverage.pipelines.wan import wan_vae


class SafetyChecker(d.ModelMixin, d.ConfigMixin):
    """Stands for Cosmos' safety checker, which has large models of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))  # a pipeline asks each part for its device


def cosmos_transformer(**config: Any) -> Any:
    """Build the transformer of Cosmos."""
    return random_model(
        d.CosmosTransformer3DModel,
        **{
            **LATENT,
            **HEADS,
            "num_layers": 2,
            "mlp_ratio": 2,
            "text_embed_dim": 16,
            "adaln_lora_dim": 4,
            "max_size": (4, 16, 16),
            "concat_padding_mask": False,
            **config,
        },
    )


def edm_scheduler() -> Any:
    """Return the scheduler of Cosmos 1."""
    return d.EDMEulerScheduler(sigma_max=80, sigma_data=0.5, final_sigmas_type="sigma_min")


@tiny("cosmos", "CosmosTransformer3DModel", inputs=embeddings(16), height=64, width=64, num_frames=17)
def _cosmos() -> DiffusionPipeline:
    return d.CosmosTextToWorldPipeline(
        **no_text(transformer=cosmos_transformer(), scheduler=edm_scheduler(), safety_checker=SafetyChecker())
    )


class _ChatTokenizer:
    """Stands for Qwen's tokenizer with its chat template: a token for each character."""

    eos_token_id = 126

    def convert_tokens_to_ids(self, token: str) -> int:
        """Return the number of the only special token asked for."""
        return 127

    def apply_chat_template(self, conversation: list[dict[str, str]], **_: Any) -> SimpleNamespace:
        """Return the tokens of a conversation."""
        return SimpleNamespace(input_ids=[ord(a) % 126 for turn in conversation for a in turn["content"]])


@tiny(
    "cosmos3",
    "Cosmos3OmniTransformer",
    single=True,
    inputs=lambda batch: {"prompt": PROMPT, "negative_prompt": "blue"},
    height=32,
    width=32,
    num_frames=9,
    use_system_prompt=False,
    add_resolution_template=False,
    add_duration_template=False,
)
def _cosmos3() -> DiffusionPipeline:
    transformer = random_model(
        d.Cosmos3OmniTransformer,
        head_dim=16,
        hidden_size=32,
        intermediate_size=64,
        latent_channel=4,
        latent_patch_size=2,
        patch_latent_dim=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_hidden_layers=2,
        vocab_size=128,
        rope_axes_dim=(4, 2, 2),
    )
    scheduler = flow_solver(d.UniPCMultistepScheduler, 3.0)
    return d.Cosmos3OmniPipeline(
        transformer=transformer,
        text_tokenizer=_ChatTokenizer(),
        vae=wan_vae(),
        scheduler=scheduler,
        enable_safety_checker=False,
    )
