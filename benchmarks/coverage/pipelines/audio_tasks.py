"""Sound: Stable Audio 3 put to other tasks, AudioLDM and its kin."""

from __future__ import annotations

from typing import Any

import diffusers as d
import transformers
from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2UNet2DConditionModel

from benchmarks.coverage.pipelines.audio import (
    stable_audio_3_parts,
)
from benchmarks.coverage.pipelines.parts import (
    TOKENS,
    ddim,
    embeddings,
    kl_vae,
    masks,
    pairs,
    randn,
    random_model,
    t5_text,
    together,
)
from benchmarks.coverage.pipelines.registry import add
from benchmarks.coverage.pipelines.stable_diffusion import sd_unet

_TEXT_3 = together(
    embeddings(16, negative=False),
    masks("encoder_attention_mask", negative=False),
    lambda batch: {"audio": randn(batch, 2, 64)},
)
add(
    "stable-audio-3-a2a",
    d.StableAudio3AudioToAudioPipeline,
    stable_audio_3_parts,
    inputs=_TEXT_3,
    duration=1.0,
)
add(
    "stable-audio-3-inpaint",
    d.StableAudio3InpaintPipeline,
    stable_audio_3_parts,
    inputs=_TEXT_3,
    duration=1.0,
    mask_start_seconds=0.25,
    mask_end_seconds=0.75,
)


def _vocoder(mels: int = 8) -> Any:
    config = transformers.SpeechT5HifiGanConfig(
        model_in_dim=mels,
        sampling_rate=16000,
        upsample_initial_channel=8,
        upsample_rates=[2, 2],
        upsample_kernel_sizes=[4, 4],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        normalize_before=False,
    )
    return random_model(transformers.SpeechT5HifiGan, config)


def _ldm_unet(**config: Any) -> Any:
    return sd_unet(
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **config,
    )


def _clap() -> Any:
    """Build the text encoder of AudioLDM."""
    config = transformers.ClapTextConfig(
        vocab_size=200,
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        projection_dim=16,
    )
    return random_model(transformers.ClapTextModelWithProjection, config)


def _ldm_vae() -> Any:
    return kl_vae(in_channels=1, out_channels=1)


def _audioldm_parts() -> dict[str, Any]:
    unet = _ldm_unet(
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=16,
        class_embeddings_concat=True,
        cross_attention_dim=(8, 16),
    )
    return {
        "vae": _ldm_vae(),
        "text_encoder": _clap(),
        "tokenizer": None,
        "unet": unet,
        "scheduler": ddim(),
        "vocoder": _vocoder(),
    }


add(
    "audioldm", d.AudioLDMPipeline, _audioldm_parts, inputs=pairs(prompt_embeds=(16,)), audio_length_in_s=0.01
)
add(
    "musicldm",
    d.MusicLDMPipeline,
    lambda: _audioldm_parts() | {"feature_extractor": None},
    inputs=pairs(prompt_embeds=(16,)),
    audio_length_in_s=0.01,
)


def _gpt2() -> Any:
    config = transformers.GPT2Config(vocab_size=128, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    return random_model(transformers.GPT2LMHeadModel, config)


def _audioldm2_parts() -> dict[str, Any]:
    unet = random_model(
        AudioLDM2UNet2DConditionModel,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=(None, 16, 16),
        attention_head_dim=8,
    )
    return {
        "vae": _ldm_vae(),
        "text_encoder": _clap(),
        "text_encoder_2": t5_text(),
        "projection_model": None,
        "language_model": _gpt2(),
        "tokenizer": None,
        "tokenizer_2": None,
        "feature_extractor": None,
        "unet": unet,
        "scheduler": ddim(),
        "vocoder": _vocoder(),
    }


add(
    "audioldm2",
    d.AudioLDM2Pipeline,
    _audioldm2_parts,
    inputs=together(
        pairs(prompt_embeds=(TOKENS, 16), generated_prompt_embeds=(5, 16)), masks("attention_mask")
    ),
    audio_length_in_s=0.01,
)
