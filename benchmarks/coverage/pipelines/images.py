"""Other pipelines for images."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
import transformers
from diffusers import DiffusionPipeline

from benchmarks.coverage.pipelines.parts import (
    HEADS,
    LATENT,
    MASKED,
    PROMPT,
    TOKENS,
    clip_text,
    embeddings,
    flow,
    flow_dynamic,
    kl_vae,
    masks,
    movq_vae,
    no_text,
    only_prompts,
    pairs,
    pictures,
    prompts,
    randn,
    random_model,
    t5_tokenizer,
    together,
    token_mask,
)
from benchmarks.coverage.pipelines.qwen import captions
from benchmarks.coverage.pipelines.registry import add, tiny
from benchmarks.coverage.pipelines.wan import wan_vae


@tiny(
    "dit",
    "DiTTransformer2DModel",
    inputs=lambda batch: {"class_labels": list(range(1, batch + 1))},
    output_type="np",
)
def _dit() -> DiffusionPipeline:
    transformer = random_model(
        d.DiTTransformer2DModel,
        sample_size=8,
        num_layers=3,
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_embeds_ada_norm=1000,
    )
    return d.DiTPipeline(transformer, kl_vae(), d.DDIMScheduler(clip_sample=False))


@tiny("auraflow", "AuraFlowTransformer2DModel", inputs=embeddings(16, mask=MASKED), height=64, width=64)
def _auraflow() -> DiffusionPipeline:
    transformer = random_model(
        d.AuraFlowTransformer2DModel,
        sample_size=8,
        **LATENT,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        **HEADS,
        caption_projection_dim=32,
        joint_attention_dim=16,
        pos_embed_max_size=64,
    )
    return d.AuraFlowPipeline(**no_text(transformer=transformer, scheduler=flow(shift=1.73)))


def _llama_layers(batch: int) -> dict[str, Any]:
    """Return embeddings of two layers of a text encoder, the layer being the first dimension."""
    names = ("prompt_embeds_llama3", "negative_prompt_embeds_llama3")
    return {name: randn(2, batch, TOKENS, 24, seed=seed) for seed, name in enumerate(names, start=30)}


@tiny(
    "hidream",
    "HiDreamImageTransformer2DModel",
    inputs=together(pairs(prompt_embeds_t5=(TOKENS, 16), pooled_prompt_embeds=(16,)), _llama_layers),
    height=64,
    width=64,
)
def _hidream() -> DiffusionPipeline:
    transformer = random_model(
        d.HiDreamImageTransformer2DModel,
        patch_size=2,
        **LATENT,
        num_layers=2,
        num_single_layers=2,
        **HEADS,
        caption_channels=[16, 24],
        text_emb_dim=16,
        num_routed_experts=4,
        num_activated_experts=2,
        axes_dims_rope=(8, 4, 4),
        max_resolution=(16, 16),
        llama_layers=(0, 0, 1, 1),
    )
    pipe = d.HiDreamImagePipeline(**no_text(4, transformer=transformer, scheduler=flow()))
    pipe.default_sample_size = 8  # it makes every image this large
    return pipe


@tiny("ovis", "OvisImageTransformer2DModel", inputs=embeddings(16), negative_prompt=None, height=64, width=64)
def _ovis() -> DiffusionPipeline:
    transformer = random_model(
        d.OvisImageTransformer2DModel,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        num_single_layers=2,
        **HEADS,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    return d.OvisImagePipeline(**no_text(transformer=transformer, scheduler=flow_dynamic()))


def longcat_transformer(**config: Any) -> Any:
    """Build the transformer of LongCat-Image."""
    return random_model(
        d.LongCatImageTransformer2DModel,
        **{
            "in_channels": 64,
            "num_layers": 2,
            "num_single_layers": 2,
            **HEADS,
            "joint_attention_dim": 16,
            "pooled_projection_dim": 16,
            "axes_dims_rope": [4, 6, 6],
            **config,
        },
    )


@tiny(
    "longcat-image",
    "LongCatImageTransformer2DModel",
    inputs=prompts,
    height=64,
    width=64,
    enable_prompt_rewrite=False,
)
def _longcat_image() -> DiffusionPipeline:
    parts = no_text(transformer=longcat_transformer(), scheduler=flow_dynamic())
    pipe = d.LongCatImagePipeline(**parts, text_processor=None)
    # It wants words even where it is given embeddings.
    pipe._encode_prompt = lambda prompt: randn(len(prompt), TOKENS, 16, seed=len(prompt[0]))
    return pipe


@tiny(
    "krea2",
    "Krea2Transformer2DModel",
    inputs=together(pairs(prompt_embeds=(TOKENS, 2, 16)), masks("prompt_embeds_mask", dtype=torch.bool)),
    height=64,
    width=64,
)
def _krea2() -> DiffusionPipeline:
    transformer = random_model(
        d.Krea2Transformer2DModel,
        in_channels=16,
        num_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        attention_head_dim=16,
        intermediate_size=32,
        timestep_embed_dim=16,
        text_hidden_dim=16,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=1,
        text_intermediate_size=16,
        axes_dims_rope=(4, 6, 6),
    )
    return d.Krea2Pipeline(**no_text(transformer=transformer, scheduler=flow_dynamic()))


@tiny(
    "glm-image",
    "GlmImageTransformer2DModel",
    inputs=together(embeddings(16), lambda batch: {"prior_token_ids": torch.arange(16).repeat(batch, 1)}),
    height=64,
    width=64,
)
def _glm_image() -> DiffusionPipeline:
    transformer = random_model(
        d.GlmImageTransformer2DModel,
        **LATENT,
        num_layers=2,
        **HEADS,
        text_embed_dim=16,
        time_embed_dim=16,
        condition_dim=8,
        prior_vq_quantizer_codebook_size=32,
    )
    parts = no_text(transformer=transformer, scheduler=flow_dynamic())
    return d.GlmImagePipeline(**(parts | {"vae": None}), processor=None, vision_language_encoder=None)


@tiny("ernie-image", "ErnieImageTransformer2DModel", inputs=captions, height=128, width=128, use_pe=False)
def _ernie_image() -> DiffusionPipeline:
    transformer = random_model(
        d.ErnieImageTransformer2DModel,
        hidden_size=32,
        num_attention_heads=2,
        num_layers=2,
        ffn_hidden_size=64,
        in_channels=16,
        out_channels=16,
        text_in_dim=16,
        rope_axes_dim=(4, 6, 6),
    )
    return d.ErnieImagePipeline(**no_text(transformer=transformer, scheduler=flow()))


def dreamlite_unet(**config: Any) -> Any:
    """Build the UNet of DreamLite."""
    return random_model(
        d.DreamLiteUNetModel,
        **{
            "block_out_channels": (8, 16, 16),
            "cross_attention_dim": 16,
            "attention_head_dim": 8,
            "norm_num_groups": 4,
            "ff_mult": 2,
            **config,
        },
    )


def tiny_vae(**config: Any) -> Any:
    """Build a tiny autoencoder."""
    return random_model(
        d.AutoencoderTiny,
        **{
            "encoder_block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 8),
            "num_encoder_blocks": (1, 1),
            "num_decoder_blocks": (1, 1),
            **config,
        },
    )


@tiny(
    "dreamlite",
    "DreamLiteUNetModel",
    single=True,
    inputs=lambda batch: {"prompt": PROMPT},
    height=32,
    width=32,
)
def _dreamlite() -> DiffusionPipeline:
    # It takes no embeddings, and asks the text encoder only for its dtype when they come from elsewhere.
    pipe = d.DreamLitePipeline(
        text_encoder=clip_text(),
        tokenizer=None,
        processor=None,
        vae=tiny_vae(),
        unet=dreamlite_unet(),
        scheduler=flow_dynamic(),
    )
    pipe.encode_prompt = lambda mode, prompts, **rest: (
        randn(len(prompts), TOKENS, 16),
        token_mask(len(prompts)),
    )
    return pipe


@tiny(
    "ideogram4",
    "Ideogram4Transformer2DModel",
    inputs=only_prompts,
    height=64,
    width=64,
    guidance_scale=7.0,
    guidance_schedule=None,
    max_sequence_length=TOKENS,
)
def _ideogram4() -> DiffusionPipeline:
    transformer, unconditional = (
        random_model(
            d.Ideogram4Transformer2DModel,
            in_channels=16,
            num_layers=2,
            **HEADS,
            intermediate_size=32,
            adaln_dim=16,
            llm_features_dim=16,
            mrope_section=(4, 2, 2),
        )
        for _ in range(2)
    )
    parts = no_text(transformer=transformer, scheduler=flow(shift=1.0))
    pipe = d.Ideogram4Pipeline(**parts, unconditional_transformer=unconditional)

    def encode_prompt(prompt: list[str], grid_h: int, grid_w: int, **rest: Any) -> tuple[torch.Tensor, ...]:
        rows = len(prompt)
        embeds = torch.cat([randn(rows, TOKENS, 16), torch.zeros(rows, grid_h * grid_w, 16)], dim=1)
        embeds[:, :2] = 0.0  # padding is on the left
        ids = pipe._prepare_ids([TOKENS - 2] * rows, grid_h, grid_w, TOKENS, torch.device("cpu"))
        return embeds, *ids

    pipe.encode_prompt = encode_prompt  # it takes no embeddings
    return pipe


def _joyimage_transformer(cls: Any) -> Any:
    return random_model(
        cls,
        in_channels=4,
        hidden_size=32,
        num_attention_heads=2,
        text_dim=16,
        num_layers=2,
        rope_dim_list=[4, 6, 6],
    )


def _small_images(processor: Any) -> None:
    """Make an image processor keep 32 pixels a side, which has sizes near 1024 only."""
    processor.get_default_height_width = lambda image, *size: (32, 32)


@tiny(
    "joyimage",
    "JoyImageEditTransformer3DModel",
    inputs=together(embeddings(16, mask="prompt_embeds_mask"), lambda batch: {"image": pictures(batch)}),
)
def _joyimage() -> DiffusionPipeline:
    transformer = _joyimage_transformer(d.JoyImageEditTransformer3DModel)
    parts = no_text(transformer=transformer, scheduler=flow(), processor=None)
    pipe = d.JoyImageEditPipeline(**(parts | {"vae": wan_vae()}))
    _small_images(pipe.vae_image_processor)
    return pipe


@tiny(
    "joyimage-plus",
    "JoyImageEditPlusTransformer3DModel",
    inputs=lambda batch: {"prompt": [PROMPT] * batch, "images": [pictures(2)] * batch},
)
def _joyimage_plus() -> DiffusionPipeline:
    transformer = _joyimage_transformer(d.JoyImageEditPlusTransformer3DModel)
    parts = no_text(transformer=transformer, scheduler=flow(), processor=None)
    pipe = d.JoyImageEditPlusPipeline(**(parts | {"vae": wan_vae()}))
    _small_images(pipe.image_processor)
    # With images it wants words even where it is given embeddings.
    pipe.encode_prompt_multiple_images = lambda prompt, **rest: (
        randn(len(prompt), TOKENS, 16, seed=len(prompt[0])),
        token_mask(len(prompt)),
    )
    return pipe


def amused_transformer(**config: Any) -> Any:
    """Build the transformer of aMUSEd."""
    return random_model(
        d.UVit2DModel,
        **{
            "hidden_size": 16,
            "cond_embed_dim": 16,
            "micro_cond_encode_dim": 4,
            "micro_cond_embed_dim": 20,
            "encoder_hidden_size": 16,
            "vocab_size": 40,
            "codebook_size": 32,
            "in_channels": 16,
            "block_out_channels": 16,
            "num_res_blocks": 2,
            "block_num_heads": 2,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "sample_size": 16,
            **config,
        },
    )


@tiny(
    "amused",
    "UVit2DModel",
    inputs=pairs(prompt_embeds=(16,), encoder_hidden_states=(TOKENS, 16)),
    height=32,
    width=32,
)
def _amused() -> DiffusionPipeline:
    return d.AmusedPipeline(
        vqvae=movq_vae(),
        tokenizer=None,
        text_encoder=None,
        transformer=amused_transformer(),
        scheduler=d.AmusedScheduler(mask_token_id=39),
    )


@tiny("bria", "BriaTransformer2DModel", inputs=embeddings(16), height=64, width=64)
def _bria() -> DiffusionPipeline:
    transformer = random_model(
        d.BriaTransformer2DModel,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        **HEADS,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    parts = no_text(transformer=transformer, scheduler=flow_dynamic())
    return d.BriaPipeline(**(parts | {"vae": kl_vae(shift_factor=0.0)}))


def bria_fibo_transformer(**config: Any) -> Any:
    """Build the transformer of Bria's Fibo."""
    return random_model(
        d.BriaFiboTransformer2DModel,
        **{
            "in_channels": 4,
            "num_layers": 2,
            "num_single_layers": 2,
            **HEADS,
            "joint_attention_dim": 32,
            "text_encoder_dim": 16,
            "axes_dims_rope": [4, 6, 6],
            **config,
        },
    )


def bria_fibo_parts() -> dict[str, Any]:
    """Return the parts of Bria's Fibo."""
    config = transformers.SmolLM3Config(
        vocab_size=128,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    return {
        "transformer": bria_fibo_transformer(),
        "scheduler": flow_dynamic(),
        "vae": wan_vae(),
        "text_encoder": random_model(transformers.SmolLM3ForCausalLM, config),
        "tokenizer": t5_tokenizer(),
    }


add(
    "bria-fibo",
    d.BriaFiboPipeline,
    bria_fibo_parts,
    "BriaFiboTransformer2DModel",
    inputs=prompts,
    height=128,
    width=128,
)


@tiny(
    "bria-fibo2",
    "BriaFibo2Transformer2DModel",
    inputs=together(pairs(prompt_embeds=(3, TOKENS, 16)), masks("prompt_embeds_mask", dtype=torch.bool)),
    height=64,
    width=64,
)
def _bria_fibo2() -> DiffusionPipeline:
    transformer = random_model(
        d.BriaFibo2Transformer2DModel,
        in_channels=4,
        dim=32,
        n_layers=3,
        n_heads=2,
        cap_feat_dim=16,
        injection_layer_ids=(0, 2),
        min_num_gist_tokens=4,
        max_num_gist_tokens=8,
        gist_step=4,
        gist_min_text_len=4,
        gist_max_text_len=16,
        axes_dims=(4, 6, 6),
        axes_lens=(128, 32, 32),
    )
    return d.BriaFibo2Pipeline(
        transformer=transformer, scheduler=flow_dynamic(), vae=None, text_encoder=None, processor=None
    )
