"""Pipelines with priors: Stable unCLIP, unCLIP, Wuerstchen, Shap-E; and what combines several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers as d
import transformers
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from diffusers.pipelines.deprecated.wuerstchen.modeling_wuerstchen_diffnext import WuerstchenDiffNeXt
from diffusers.pipelines.deprecated.wuerstchen.modeling_wuerstchen_prior import WuerstchenPrior
from diffusers.pipelines.shap_e.renderer import ShapERenderer
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

from benchmarks.coverage.pipelines.cascade import cascade_decoder, cascade_prior
from benchmarks.coverage.pipelines.kandinsky import kandinsky_prior
from benchmarks.coverage.pipelines.kandinsky_tasks import (
    kandinsky21_parts,
    kandinsky22_parts,
    kandinsky_prior_parts,
)
from benchmarks.coverage.pipelines.parts import (
    an_image,
    clip_images,
    clip_text,
    clip_tokenizer,
    clip_vision,
    ddim,
    kl_vae,
    masked_pictures,
    only_prompts,
    pictures,
    prompts,
    randn,
    random_model,
    together,
)
from benchmarks.coverage.pipelines.registry import add
from benchmarks.coverage.pipelines.stable_diffusion import sd_unet


def _unclip_scheduler() -> Any:
    return d.UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0)


def _stable_unclip_parts() -> dict[str, Any]:
    unet = sd_unet(class_embed_type="projection", projection_class_embeddings_input_dim=32)
    return {
        "image_normalizer": random_model(StableUnCLIPImageNormalizer, embedding_dim=16),
        "image_noising_scheduler": d.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip_text(),
        "unet": unet,
        "scheduler": ddim(),
        "vae": kl_vae(),
    }


def _stable_unclip_prior_parts() -> dict[str, Any]:
    return _stable_unclip_parts() | {
        "prior_tokenizer": clip_tokenizer(),
        "prior_text_encoder": clip_text(projection=True),
        "prior": kandinsky_prior(),
        "prior_scheduler": _unclip_scheduler(),
    }


add(
    "stable-unclip",
    d.StableUnCLIPPipeline,
    _stable_unclip_prior_parts,
    inputs=prompts,
    prior_num_inference_steps=2,
)
add(
    "stable-unclip-img2img",
    d.StableUnCLIPImg2ImgPipeline,
    lambda: _stable_unclip_parts() | {"feature_extractor": clip_images(), "image_encoder": clip_vision()},
    inputs=together(prompts, an_image()),
)


def _decoder_unet() -> Any:
    return sd_unet(
        in_channels=3,
        out_channels=6,
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        layers_per_block=1,
        attention_head_dim=8,
        class_embed_type="identity",
        resnet_time_scale_shift="scale_shift",
    )


def _super_unet() -> Any:
    return random_model(
        d.UNet2DModel,
        sample_size=32,
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        in_channels=6,
        out_channels=3,
    )


def _unclip_parts() -> dict[str, Any]:
    scheduler = d.UnCLIPScheduler(
        variance_type="learned_range", prediction_type="epsilon", num_train_timesteps=1000
    )
    projection = random_model(
        UnCLIPTextProjModel, clip_embeddings_dim=16, time_embed_dim=32, cross_attention_dim=16
    )
    return {
        "decoder": _decoder_unet(),
        "text_encoder": clip_text(projection=True),
        "tokenizer": clip_tokenizer(),
        "text_proj": projection,
        "super_res_first": _super_unet(),
        "super_res_last": _super_unet(),
        "decoder_scheduler": scheduler,
        "super_res_scheduler": d.UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="epsilon"),
    }


def _decoder_steps(number: int) -> dict[str, Any]:
    return {"decoder_num_inference_steps": number, "super_res_num_inference_steps": 2}


add(
    "unclip",
    d.UnCLIPPipeline,
    lambda: _unclip_parts() | {"prior": kandinsky_prior(), "prior_scheduler": _unclip_scheduler()},
    inputs=only_prompts,
    steps_as=_decoder_steps,
    prior_num_inference_steps=2,
    output_type="pt",
)
add(
    "unclip-variation",
    d.UnCLIPImageVariationPipeline,
    lambda: _unclip_parts() | {"feature_extractor": clip_images(), "image_encoder": clip_vision()},
    inputs=an_image(),
    steps_as=_decoder_steps,
    output_type="pt",
)


def _wuerstchen_prior_parts() -> dict[str, Any]:
    prior = random_model(WuerstchenPrior, c_in=4, c=16, c_cond=16, c_r=16, depth=2, nhead=2)
    return {
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip_text(),
        "prior": prior,
        "scheduler": d.DDPMWuerstchenScheduler(),
    }


def _wuerstchen_decoder_parts() -> dict[str, Any]:
    decoder = random_model(
        WuerstchenDiffNeXt,
        c_cond=16,
        c_hidden=[16, 16, 16, 16],
        nhead=[-1, 2, 2, 2],
        blocks=[1, 1, 2, 1],
        level_config=["CT", "CTA", "CTA", "CTA"],
        c_r=16,
        clip_embd=16,
        inject_effnet=[False, True, True, True],
        effnet_embd=4,
    )
    vqgan = random_model(PaellaVQModel, bottleneck_blocks=1, num_vq_embeddings=2, embed_dim=4)
    return {
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip_text(),
        "decoder": decoder,
        "scheduler": d.DDPMWuerstchenScheduler(),
        "vqgan": vqgan,
        "latent_dim_scale": 4.0,
    }


add(
    "wuerstchen-prior",
    d.WuerstchenPriorPipeline,
    _wuerstchen_prior_parts,
    inputs=prompts,
    height=256,
    width=256,
    output_type="pt",
    guidance_scale=1.5,
)
add(
    "wuerstchen",
    d.WuerstchenDecoderPipeline,
    _wuerstchen_decoder_parts,
    inputs=together(prompts, lambda batch: {"image_embeddings": randn(batch, 4, 4, 4)}),
    guidance_scale=2.0,
    single=True,  # with more rows it repeats the text by their number squared
)


def _shap_e_parts() -> dict[str, Any]:
    prior = random_model(
        d.PriorTransformer,
        num_attention_heads=2,
        attention_head_dim=8,
        embedding_dim=16,
        num_embeddings=8,
        embedding_proj_dim=16,
        time_embed_dim=32,
        num_layers=2,
        clip_embed_dim=32,
        additional_embeddings=0,
        time_embed_act_fn="gelu",
        norm_in_type="layer",
        encoder_hid_proj_type=None,
        added_emb_type=None,
    )
    renderer = random_model(
        ShapERenderer,
        param_shapes=((8, 93), (8, 8), (8, 8), (8, 8)),
        d_latent=16,
        d_hidden=8,
        n_output=12,
        background=(0.1, 0.1, 0.1),
    )
    scheduler = d.HeunDiscreteScheduler(
        beta_schedule="exp",
        num_train_timesteps=1024,
        prediction_type="sample",
        use_karras_sigmas=False,
        clip_sample=True,
        clip_sample_range=1.0,
    )
    return {"prior": prior, "scheduler": scheduler, "shap_e_renderer": renderer}


add(
    "shap-e",
    d.ShapEPipeline,
    lambda: _shap_e_parts() | {"text_encoder": clip_text(projection=True), "tokenizer": clip_tokenizer()},
    inputs=only_prompts,
)


def _shap_e_image_parts() -> dict[str, Any]:
    encoder = clip_vision(transformers.CLIPVisionModel)
    return _shap_e_parts() | {"image_encoder": encoder, "image_processor": clip_images()}


add("shap-e-img2img", d.ShapEImg2ImgPipeline, _shap_e_image_parts, inputs=an_image())


def _prior(parts: dict[str, Any], prefix: str = "prior_") -> dict[str, Any]:
    return {prefix + name: part for name, part in parts.items()}


add(
    "wuerstchen-combined",
    d.WuerstchenCombinedPipeline,
    lambda: (
        {name: part for name, part in _wuerstchen_decoder_parts().items() if name != "latent_dim_scale"}
        | _prior(_wuerstchen_prior_parts())
    ),
    inputs=prompts,
    height=256,
    width=256,
    prior_num_inference_steps=2,
    single=True,  # with more rows it repeats the text by their number squared
)


def _cascade_parts() -> dict[str, Any]:
    """Return the parts of Stable Cascade's two stages together."""
    return {
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip_text(projection=True),
        "decoder": cascade_decoder(),
        "scheduler": d.DDPMWuerstchenScheduler(),
        "vqgan": None,
        "prior_prior": cascade_prior(),
        "prior_text_encoder": clip_text(projection=True),
        "prior_tokenizer": clip_tokenizer(),
        "prior_scheduler": d.DDPMWuerstchenScheduler(),
    }


add(
    "cascade-combined",
    d.StableCascadeCombinedPipeline,
    _cascade_parts,
    inputs=prompts,
    height=256,
    width=256,
    prior_num_inference_steps=2,
)
_SMALL = {"height": 32, "width": 32, "prior_num_inference_steps": 2}


def _with_prior(parts: Callable[..., dict[str, Any]], **config: Any) -> Callable[[], dict[str, Any]]:
    """Return what makes these parts of Kandinsky and those of its prior."""
    return lambda: parts(**config) | {f"prior_{name}": part for name, part in kandinsky_prior_parts().items()}


for _key, _first, _second, _inputs, _config, _fixed in (
    ("", d.KandinskyCombinedPipeline, d.KandinskyV22CombinedPipeline, prompts, {}, {}),
    (
        "-img2img",
        d.KandinskyImg2ImgCombinedPipeline,
        d.KandinskyV22Img2ImgCombinedPipeline,
        together(prompts, lambda batch: {"image": pictures(batch)}),
        {},
        {"strength": 0.99},
    ),
    (
        "-inpaint",
        d.KandinskyInpaintCombinedPipeline,
        d.KandinskyV22InpaintCombinedPipeline,
        together(prompts, masked_pictures),
        {"in_channels": 9},
        {},
    ),
):
    add(
        f"kandinsky21{_key}-combined",
        _first,
        _with_prior(kandinsky21_parts, **_config),
        inputs=_inputs,
        output_type="pt",
        **_SMALL,
        **_fixed,
    )
    add(
        f"kandinsky22{_key}-combined",
        _second,
        _with_prior(kandinsky22_parts, **_config),
        inputs=_inputs,
        **_SMALL,
        **_fixed,
    )
