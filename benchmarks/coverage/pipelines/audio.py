"""Pipelines for sound."""

from __future__ import annotations

from typing import Any

import diffusers as d
import transformers
from diffusers import DiffusionPipeline
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepConditionEncoder
from diffusers.pipelines.stable_audio import StableAudioProjectionModel
from diffusers.pipelines.stable_audio_3.modeling_stable_audio_3 import StableAudio3DurationEmbedder

from benchmarks.coverage.pipelines.parts import (
    HEADS,
    LATENT,
    PROMPT,
    embeddings,
    masks,
    no_text,
    only_prompts,
    random_model,
    t5_tokenizer,
    together,
)
from benchmarks.coverage.pipelines.registry import add, tiny


def _oobleck() -> Any:
    """Build an autoencoder for audio."""
    return random_model(
        d.AutoencoderOobleck,
        encoder_hidden_size=8,
        downsampling_ratios=[1, 2],
        channel_multiples=[1, 2],
        decoder_channels=8,
        decoder_input_channels=4,
        audio_channels=2,
        sampling_rate=4,
    )


@tiny("stable-audio", "StableAudioDiTModel", inputs=together(embeddings(16), masks("attention_mask")))
def _stable_audio() -> DiffusionPipeline:
    transformer = random_model(
        d.StableAudioDiTModel,
        sample_size=16,
        **LATENT,
        num_layers=2,
        **HEADS,
        num_key_value_attention_heads=1,
        cross_attention_dim=16,
        cross_attention_input_dim=16,
        time_proj_dim=8,
        global_states_input_dim=32,
    )
    projection = random_model(
        StableAudioProjectionModel, text_encoder_dim=16, conditioning_dim=16, min_value=0, max_value=32
    )
    scheduler = d.EDMDPMSolverMultistepScheduler(prediction_type="v_prediction", sigma_data=1.0)
    parts = no_text(transformer=transformer, projection_model=projection, scheduler=scheduler)
    return d.StableAudioPipeline(**(parts | {"vae": _oobleck()}))


def stable_audio_3_transformer(**config: Any) -> Any:
    """Build the transformer of Stable Audio 3."""
    return random_model(
        d.StableAudio3DiTModel,
        **{
            "io_channels": 4,
            "embed_dim": 32,
            "depth": 2,
            "num_heads": 2,
            "cond_token_dim": 16,
            "global_cond_dim": 16,
            "local_add_cond_dim": 5,
            "timestep_features_dim": 16,
            "ff_mult": 2,
            "num_memory_tokens": 4,
            **config,
        },
    )


def stable_audio_3_vae(**config: Any) -> Any:
    """Build the autoencoder of Stable Audio 3."""
    return random_model(
        d.AutoencoderSAME,
        **{
            "patch_size": 2,
            "encoder_channels": 8,
            "encoder_c_mults": (2,),
            "encoder_strides": (2,),
            "encoder_transformer_depths": (1,),
            "latent_dim": 4,
            "dim_heads": 4,
            "ff_mult": 2,
            "sampling_rate": 64,
            **config,
        },
    )


def stable_audio_3_parts() -> dict[str, Any]:
    """Return the parts of Stable Audio 3 without text encoder."""
    scheduler = d.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0)
    embedder = random_model(StableAudio3DurationEmbedder, output_dim=16, fourier_dim=16)
    return no_text(
        transformer=stable_audio_3_transformer(),
        scheduler=scheduler,
        duration_embedder=embedder,
        vae=stable_audio_3_vae(),
    )


add(
    "stable-audio-3",
    d.StableAudio3Pipeline,
    stable_audio_3_parts,
    "StableAudio3DiTModel",
    inputs=together(embeddings(16), masks("encoder_attention_mask")),
    duration=1.0,
    guidance_scale=3.0,
)


@tiny(
    "dance-diffusion",
    "UNet1DModel",
    inputs=lambda batch: {"batch_size": batch},
    output_type=None,
    audio_length_in_s=4.0,
)
def _dance_diffusion() -> DiffusionPipeline:
    unet = random_model(
        d.UNet1DModel,
        block_out_channels=(32, 32, 64),
        time_embedding_dim=16,
        extra_in_channels=16,
        sample_size=64,
        sample_rate=16,
        use_timestep_embedding=False,
    )
    return d.DanceDiffusionPipeline(unet, d.IPNDMScheduler())


@tiny(
    "longcat-audio",
    "LongCatAudioDiTTransformer",
    inputs=only_prompts,
    audio_duration_s=0.5,
)
def _longcat_audio() -> DiffusionPipeline:
    transformer = random_model(
        d.LongCatAudioDiTTransformer, dit_dim=32, dit_depth=2, dit_heads=2, dit_text_dim=16, latent_dim=4
    )
    vae = random_model(
        d.LongCatAudioDiTVae,
        in_channels=1,
        channels=8,
        c_mults=[1, 2],
        strides=[2],
        latent_dim=4,
        encoder_latent_dim=8,
        downsampling_ratio=2,
        sample_rate=64,
    )
    config = transformers.UMT5Config(
        vocab_size=128, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    return d.LongCatAudioDiTPipeline(
        vae=vae,
        text_encoder=random_model(transformers.UMT5EncoderModel, config),
        tokenizer=t5_tokenizer(),
        transformer=transformer,
    )


@tiny(
    "ace-step",
    "AceStepTransformer1DModel",
    inputs=lambda batch: {"prompt": [PROMPT] * batch, "lyrics": ["hop"] * batch},
    audio_duration=8.0,
)
def _ace_step() -> DiffusionPipeline:
    common = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "sliding_window": 8,
    }
    transformer = random_model(
        d.AceStepTransformer1DModel,
        num_hidden_layers=2,
        in_channels=12,
        audio_acoustic_hidden_dim=4,
        **common,
    )
    encoder = random_model(
        AceStepConditionEncoder,
        text_hidden_dim=16,
        timbre_hidden_dim=4,
        num_lyric_encoder_hidden_layers=2,
        num_timbre_encoder_hidden_layers=2,
        **common,
    )
    config = transformers.Qwen3Config(
        vocab_size=128,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    return d.AceStepPipeline(
        vae=_oobleck(),
        text_encoder=random_model(transformers.Qwen3Model, config),
        tokenizer=t5_tokenizer(),
        transformer=transformer,
        condition_encoder=encoder,
        scheduler=d.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )
