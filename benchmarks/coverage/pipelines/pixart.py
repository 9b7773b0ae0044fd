"""PixArt, Sana, PRX and Lumina: transformers that attend to their text from outside or mix it in plainly."""

from __future__ import annotations

from typing import Any

import diffusers as d
import numpy as np
import torch
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.ltx import ltx2_vae
from benchmarks.coverage.pipelines.parts import (
    LATENT,
    MASKED,
    PROMPT,
    embeddings,
    flow,
    flow_solver,
    kl_vae,
    masks,
    no_text,
    pictures,
    random_model,
    t5_text,
    t5_tokenizer,
    together,
)
from benchmarks.coverage.pipelines.registry import add, tiny
from benchmarks.coverage.pipelines.wan import wan_vae


def pixart_transformer(**config: Any) -> Any:
    """Build the transformer of PixArt."""
    return random_model(
        d.PixArtTransformer2DModel,
        **{
            "sample_size": 8,
            "num_layers": 3,
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "cross_attention_dim": 24,
            "caption_channels": 16,
            "in_channels": 4,
            "out_channels": 8,
            **config,
        },
    )


@tiny(
    "pixart-alpha",
    "PixArtTransformer2DModel",
    inputs=embeddings(16, mask=MASKED),
    negative_prompt=None,
    height=64,
    width=64,
    use_resolution_binning=False,
)
def _pixart_alpha() -> DiffusionPipeline:
    # With 128 the pipeline gives the model the resolution and the aspect ratio.
    transformer = pixart_transformer(sample_size=128)
    return d.PixArtAlphaPipeline(
        **no_text(transformer=transformer, scheduler=d.DPMSolverMultistepScheduler())
    )


def pixart_parts() -> dict[str, Any]:
    """Return the parts of PixArt Sigma without text encoder and VAE."""
    return no_text(transformer=pixart_transformer(), scheduler=d.DPMSolverMultistepScheduler())


add(
    "pixart-sigma",
    d.PixArtSigmaPipeline,
    pixart_parts,
    inputs=embeddings(16, mask=MASKED),
    negative_prompt=None,
    use_resolution_binning=False,
)


@tiny(
    "pixart-sigma-text",
    inputs=lambda batch: {"prompt": [PROMPT] * batch, "negative_prompt": "blue"},
    use_resolution_binning=False,
    clean_caption=False,
    max_sequence_length=24,
)
def _pixart_sigma_text() -> DiffusionPipeline:
    return d.PixArtSigmaPipeline(
        transformer=pixart_transformer(),
        scheduler=d.DPMSolverMultistepScheduler(),
        vae=None,
        text_encoder=t5_text(),
        tokenizer=t5_tokenizer(),
    )


def sana_transformer(**config: Any) -> Any:
    """Build the transformer of Sana."""
    return random_model(
        d.SanaTransformer2DModel,
        **{
            "sample_size": 8,
            **LATENT,
            "num_layers": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 8,
            "cross_attention_dim": 16,
            "caption_channels": 16,
            **config,
        },
    )


def sana_parts(**parts: Any) -> dict[str, Any]:
    """Return the parts of Sana without text encoder and VAE."""
    scheduler = flow_solver(d.DPMSolverMultistepScheduler, 3.0)
    return no_text(transformer=sana_transformer(), scheduler=scheduler, **parts)


add(
    "sana",
    d.SanaPipeline,
    sana_parts,
    "SanaTransformer2DModel",
    inputs=embeddings(16, mask=MASKED),
    negative_prompt=None,
    height=256,
    width=256,
    use_resolution_binning=False,
)


@tiny(
    "sana-sprint",
    inputs=embeddings(16, mask=MASKED, negative=False),
    height=256,
    width=256,
    use_resolution_binning=False,
    intermediate_timesteps=None,
)
def _sana_sprint() -> DiffusionPipeline:
    transformer = sana_transformer(guidance_embeds=True, qk_norm="rms_norm_across_heads")
    return d.SanaSprintPipeline(
        **no_text(transformer=transformer, scheduler=d.SCMScheduler(prediction_type="trigflow"))
    )


def sana_video_transformer(**config: Any) -> Any:
    """Build the transformer of Sana for video."""
    return random_model(
        d.SanaVideoTransformer3DModel,
        **{
            **LATENT,
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "num_layers": 2,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 12,
            "cross_attention_dim": 24,
            "caption_channels": 16,
            "sample_size": 8,
            "rope_max_seq_len": 32,
            **config,
        },
    )


@tiny(
    "sana-video",
    "SanaVideoTransformer3DModel",
    inputs=embeddings(16, mask=MASKED),
    negative_prompt=None,
    height=64,
    width=64,
    frames=9,
    use_resolution_binning=False,
)
def _sana_video() -> DiffusionPipeline:
    scheduler = flow_solver(d.DPMSolverMultistepScheduler, 8.0)
    parts = no_text(transformer=sana_video_transformer(), scheduler=scheduler)
    return d.SanaVideoPipeline(**(parts | {"vae": wan_vae()}))


@tiny(
    "sana-wm",
    "SanaWMTransformer3DModel",
    single=True,
    inputs=together(
        embeddings(16, mask=MASKED),
        lambda batch: {"prompt": PROMPT, "image": pictures(1)[0], "c2w": np.stack([np.eye(4)] * 17)},
    ),
    intrinsics=[16.0, 16.0, 16.0, 16.0],
    height=32,
    width=32,
    num_frames=17,
)
def _sana_wm() -> DiffusionPipeline:
    transformer = random_model(
        d.SanaWMTransformer3DModel,
        in_channels=4,
        num_layers=4,
        hidden_size=32,
        num_attention_heads=2,
        softmax_every_n=2,
        linear_head_dim=16,
        chunk_plucker_channels=12,
        chunk_plucker_post_attn_blocks=4,
        caption_channels=16,
    )
    parts = no_text(transformer=transformer, scheduler=flow())
    return d.SanaWMPipeline(**(parts | {"vae": ltx2_vae()}))


def prx_transformer(**config: Any) -> Any:
    """Build the transformer of PRX."""
    return random_model(
        d.PRXTransformer2DModel,
        **{
            "in_channels": 4,
            "context_in_dim": 16,
            "hidden_size": 32,
            "mlp_ratio": 2.0,
            "num_heads": 2,
            "depth": 2,
            "axes_dim": [8, 8],
            **config,
        },
    )


@tiny(
    "prx",
    "PRXTransformer2DModel",
    single=True,
    inputs=together(embeddings(16), masks(MASKED, dtype=torch.bool)),
    height=32,
    width=32,
    use_resolution_binning=False,
)
def _prx() -> DiffusionPipeline:
    return d.PRXPipeline(**(no_text(transformer=prx_transformer(), scheduler=flow()) | {"vae": kl_vae()}))


@tiny("lumina", "LuminaNextDiT2DModel", inputs=embeddings(16, mask=MASKED), height=64, width=64)
def _lumina() -> DiffusionPipeline:
    transformer = random_model(
        d.LuminaNextDiT2DModel,
        unset=("pad_token",),
        sample_size=8,
        hidden_size=32,
        num_layers=2,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        cross_attention_dim=16,
    )
    return d.LuminaPipeline(**no_text(transformer=transformer, scheduler=flow()))


@tiny("lumina2", "Lumina2Transformer2DModel", inputs=embeddings(16, mask=MASKED), height=64, width=64)
def _lumina2() -> DiffusionPipeline:
    transformer = random_model(
        d.Lumina2Transformer2DModel,
        sample_size=8,
        in_channels=4,
        hidden_size=32,
        num_layers=2,
        num_refiner_layers=2,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 6, 6),
        axes_lens=(32, 16, 16),
        cap_feat_dim=16,
    )
    return d.Lumina2Pipeline(**no_text(transformer=transformer, scheduler=flow(shift=6.0)))
