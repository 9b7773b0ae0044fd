"""Tiny stock diffusers pipelines with random weights, one or more per denoiser class.

Each denoiser has the block types of the real model at a small width, and each pipeline runs through its own
`__call__`, so a denoiser sees the masks, pooled embeddings and position ids that it sees in real use. Nothing
is downloaded. Text embeddings come from a fixed generator where the pipeline takes them; elsewhere, and where
the key ends in "-text", tiny text encoders and tokenizers make them.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers as d
import numpy as np
import torch
import transformers
from diffusers import DiffusionPipeline
from diffusers.guiders import AdaptiveProjectedGuidance, AdaptiveProjectedMixGuidance, ClassifierFreeGuidance
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepConditionEncoder
from diffusers.pipelines.consisid.pipeline_consisid import ConsisIDPipeline
from diffusers.pipelines.deprecated.i2vgen_xl.pipeline_i2vgen_xl import I2VGenXLPipeline
from diffusers.pipelines.kolors.pipeline_kolors import KolorsPipeline
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from diffusers.pipelines.stable_audio import StableAudioProjectionModel
from diffusers.pipelines.stable_audio_3.modeling_stable_audio_3 import StableAudio3DurationEmbedder
from diffusers.utils.pil_utils import numpy_to_pil
from torch import nn

Inputs = Callable[[int], dict[str, Any]]  # of the number of rows


@dataclass(frozen=True)
class Tiny:
    """A tiny pipeline.

    Attributes:
        build: Makes the pipeline afresh, always with the same weights.
        call: Runs it: pipeline, steps, batch (1), seed (0); more keywords go to the pipeline. Returns
            the latents, or where the pipeline cannot give them, what it makes of them.
    """

    build: Callable[[], DiffusionPipeline]
    call: Callable[..., torch.Tensor]


PIPELINES: dict[str, Tiny] = {}
DENOISERS: dict[str, str] = {}
"""Denoiser class name -> key of the first pipeline that has it."""
LEFT_OUT: dict[str, str] = {
    "Flux3Transformer2DModel": "modular pipeline only",
    "MiniMaxH3Transformer3DModel": "modular pipeline only",
    "MiniMaxMusic3Transformer1DModel": "modular pipeline only",
    "WanAnimate2Transformer3DModel": "modular pipeline only",
    "OmniGenTransformer2DModel": "OmniGenPipeline needs torchvision",
    "SanaWMLTX2RefinerTransformer3DModel": "refines finished latents by blocks, with Gemma 3 as text encoder",
    "T5FilmDecoder": "SpectrogramDiffusionPipeline needs note_seq",
    "RFD4ProteinaTransformer": "makes proteins: two noisy inputs, each with a scheduler of its own",
    "DreamLiteTransformer2DModel": "a block of UNets",
    "DualTransformer2DModel": "a block of UNets",
    "Transformer2DModel": "a block of UNets",
    "TransformerTemporalModel": "a block of UNets",
    "MotionAdapter": "a part of UNetMotionModel",
    "MiniMaxMusic3RVQDepthDecoder": "not a denoiser: it writes tokens one by one",
}
"""Class name in `diffusers.models.transformers` or `unets` -> why no pipeline here has it."""

SINGLE: set[str] = set()
"""Keys of the pipelines that make one row, whatever the batch."""

TOKENS = 7
PROMPT = "a small red fox"
_MASKED = "prompt_attention_mask"
_HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}
_LATENT = {"in_channels": 4, "out_channels": 4}
SD = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")


def _tiny(
    key: str, *denoisers: str, inputs: Inputs, single: bool = False, **fixed: Any
) -> Callable[[Callable[[], DiffusionPipeline]], Callable[[], DiffusionPipeline]]:
    """Register the decorated builder.

    Args:
        denoisers: Class names of the denoisers that no earlier pipeline has.
        inputs: Arguments of the call that depend on the batch.
        single: Whether the pipeline makes one row only.
        fixed: Other arguments of the call.
    """
    settings = {"output_type": "latent", **fixed}

    def register(make: Callable[[], DiffusionPipeline]) -> Callable[[], DiffusionPipeline]:
        def build() -> DiffusionPipeline:
            with warnings.catch_warnings():
                # Some pipelines and models of diffusers still use what it or torch has deprecated.
                warnings.simplefilter("ignore", FutureWarning)
                pipe = make()
            pipe.set_progress_bar_config(disable=True)
            return pipe

        def call(
            pipe: DiffusionPipeline, steps: int, batch: int = 1, seed: int = 0, **extra: Any
        ) -> torch.Tensor:
            arguments = {"num_inference_steps": steps, "generator": _generator(seed), **settings}
            arguments |= {**inputs(1 if single else batch), **extra}
            arguments = {name: value for name, value in arguments.items() if name != "output_type" or value}
            with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
                warnings.filterwarnings("ignore", "In CPU autocast")  # Mochi's position embedding
                warnings.filterwarnings("ignore", "flex_attention called without")  # AnyFlow's by chunks
                torch.manual_seed(seed)  # some pipelines encode their image without the generator
                return _tensor(pipe(**arguments))

        PIPELINES[key] = Tiny(build, call)
        if single:
            SINGLE.add(key)
        for name in denoisers:
            DENOISERS.setdefault(name, key)
        return make

    return register


def _tensor(output: Any) -> torch.Tensor:
    """Return the first field of a pipeline's output as one tensor."""
    while not isinstance(output, torch.Tensor | np.ndarray):
        first = output[0]
        if isinstance(output, list) and len(output) > 1:
            return torch.stack([_tensor(item) for item in output])
        output = first
    return torch.as_tensor(output)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _model(cls: Callable[..., nn.Module], *args: Any, unset: tuple[str, ...] = (), **config: Any) -> Any:
    """Build a model with fixed random weights in eval mode; its class leaves `unset` as memory has it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = cls(*args, **config).eval()
        for name, parameter in model.named_parameters():
            if name.endswith(unset):
                nn.init.normal_(parameter, std=0.2)
        # Many start with gates or outputs of zero: without noise no block would matter.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    return model


def _randn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=_generator(seed))


def _image(batch: int, side: int, seed: int = 2) -> torch.Tensor:
    """Return images in [0, 1]."""
    return torch.rand(batch, 3, side, side, generator=_generator(seed))


def _pictures(number: int, side: int = 32) -> list[Any]:
    """Return images for the pipelines that take no tensors."""
    return numpy_to_pil(_image(number, side).permute(0, 2, 3, 1).numpy())


def _embeds(
    width: int, tokens: int = TOKENS, *, mask: str = "", negative: bool = True, **others: int
) -> Inputs:
    """Return the inputs of most text-to-image calls: embeddings for and against.

    Args:
        width: Of the embeddings.
        mask: Name of the attention mask, which hides the last two tokens of the embeddings.
        negative: Whether there are embeddings against.
        others: Further embeddings, one vector a row: their names without `negative_`, and widths.
    """
    vectors = {name: (size,) for name, size in others.items()}
    embeds = _pairs(negative=negative, prompt_embeds=(tokens, width), **vectors)
    return _with(embeds, _masks(mask, tokens, negative=negative)) if mask else embeds


def _masks(
    name: str, tokens: int = TOKENS, *, negative: bool = True, dtype: torch.dtype = torch.long
) -> Inputs:
    """Return as inputs attention masks for and against."""
    names = [name, f"negative_{name}"][: 1 + negative]
    return lambda batch: {name: _mask(batch, tokens).to(dtype) for name in names}


def _pairs(*, negative: bool = True, **shapes: tuple[int, ...]) -> Inputs:
    """Return as inputs tensors of these shapes, one a row, and others named `negative_`."""
    prefixes = ("", "negative_")[: 1 + negative]
    names = [(prefix + name, shape) for prefix in prefixes for name, shape in shapes.items()]
    return lambda batch: {
        name: _randn(batch, *shape, seed=seed) for seed, (name, shape) in enumerate(names, start=10)
    }


def _mask(batch: int, tokens: int = TOKENS) -> torch.Tensor:
    """Return an attention mask that hides the last two tokens."""
    return (torch.arange(tokens) < tokens - 2).long().repeat(batch, 1)


def _with(inputs: Inputs, more: Inputs) -> Inputs:
    """Return the two inputs together."""
    return lambda batch: {**inputs(batch), **more(batch)}


def _prompt(batch: int) -> dict[str, Any]:
    """Return inputs that are words."""
    return {"prompt": [PROMPT] * batch, "negative_prompt": ["blue"] * batch}


def _vae(channels: int = 4, **config: Any) -> Any:
    """Build a VAE with a scale factor of 2."""
    return _model(
        d.AutoencoderKL,
        **{
            "block_out_channels": (8, 8),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "layers_per_block": 1,
            "latent_channels": channels,
            "norm_num_groups": 4,
            "sample_size": 16,
            "force_upcast": False,
            **config,
        },
    )


def _clip_tokenizer() -> Any:
    """Build a CLIP tokenizer that knows single letters."""
    letters = [chr(code) for code in range(33, 127)]
    words = [
        *letters,
        *(letter + "</w>" for letter in letters),
        "fo",
        "fox</w>",
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
        Path(folder, "merges.txt").write_text("#version: 0.2\nf o\nfo x</w>\n")
        return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def _clip(width: int = 16, *, projection: bool = False) -> Any:
    """Build a CLIP text encoder for that tokenizer."""
    config = transformers.CLIPTextConfig(
        vocab_size=200,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_attention_heads=2,
        num_hidden_layers=2,
        bos_token_id=190,
        eos_token_id=191,
        pad_token_id=191,
    )
    cls = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return _model(cls, config)


def _clip_vision() -> Any:
    """Build a CLIP image encoder."""
    config = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    return _model(transformers.CLIPVisionModelWithProjection, config)


def _clip_images() -> Any:
    """Return what prepares images in [0, 1] for that encoder."""
    return transformers.CLIPImageProcessor(crop_size=32, size=32, do_rescale=False)


def _t5_tokenizer() -> Any:
    """Build a T5 tokenizer that knows single letters."""
    letters = [chr(code) for code in range(33, 127)]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((a, -4.0) for a in letters)]
    return transformers.T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=512)


def _t5(width: int = 16) -> Any:
    """Build a T5 encoder for that tokenizer."""
    config = transformers.T5Config(
        vocab_size=128,
        d_model=width,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return _model(transformers.T5EncoderModel, config)


def _ddim(**config: Any) -> Any:
    """Return Stable Diffusion's DDIM scheduler."""
    return d.DDIMScheduler(
        **{
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
            **config,
        }
    )


def _euler() -> Any:
    """Return Stable Diffusion XL's Euler scheduler."""
    return d.EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        timestep_spacing="leading",
    )


# Stable Diffusion and its kin.


def _unet(**config: Any) -> Any:
    """Build the UNet of Stable Diffusion 1."""
    return _model(
        d.UNet2DConditionModel,
        **{
            "sample_size": 16,
            "block_out_channels": (8, 16, 16, 16),
            "down_block_types": SD,
            "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
            "layers_per_block": 2,
            "norm_num_groups": 4,
            "attention_head_dim": 2,
            "cross_attention_dim": 16,
            **config,
        },
    )


def _unet_xl(**config: Any) -> Any:
    """Build the UNet of Stable Diffusion XL."""
    return _unet(
        **{
            "block_out_channels": (8, 16, 16),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 3),
            "attention_head_dim": (1, 2, 2),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 16 + 6 * 8,
            "cross_attention_dim": 32,
            **config,
        }
    )


def _sd_parts(*, text: bool = False, **parts: Any) -> dict[str, Any]:
    return {
        "vae": _vae(),
        "text_encoder": _clip() if text else None,
        "tokenizer": _clip_tokenizer() if text else None,
        "unet": _unet(),
        "scheduler": _ddim(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
        **parts,
    }


def _sdxl_parts(*, text: bool = False, **parts: Any) -> dict[str, Any]:
    return {
        "vae": _vae(),
        "text_encoder": _clip() if text else None,
        "text_encoder_2": _clip(projection=True) if text else None,
        "tokenizer": _clip_tokenizer() if text else None,
        "tokenizer_2": _clip_tokenizer() if text else None,
        "unet": _unet_xl(),
        "scheduler": _euler(),
        "add_watermarker": False,
        **parts,
    }


_SD_EMBEDS = _embeds(16)
_SDXL_EMBEDS = _embeds(32, pooled_prompt_embeds=16)


@_tiny("sd", "UNet2DConditionModel", inputs=_SD_EMBEDS)
def _sd() -> DiffusionPipeline:
    return d.StableDiffusionPipeline(**_sd_parts())


@_tiny("sd-text", inputs=_prompt)
def _sd_text() -> DiffusionPipeline:
    return d.StableDiffusionPipeline(**_sd_parts(text=True))


@_tiny("sdxl", inputs=_SDXL_EMBEDS)
def _sdxl() -> DiffusionPipeline:
    return d.StableDiffusionXLPipeline(**_sdxl_parts())


@_tiny("sdxl-text", inputs=_prompt)
def _sdxl_text() -> DiffusionPipeline:
    return d.StableDiffusionXLPipeline(**_sdxl_parts(text=True))


@_tiny("sdxl-refiner", inputs=_with(_SDXL_EMBEDS, lambda batch: {"image": _image(batch, 32)}), strength=0.99)
def _sdxl_refiner() -> DiffusionPipeline:
    unet = _unet_xl(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=2,
        attention_head_dim=(1, 2, 2, 2),
        projection_class_embeddings_input_dim=16 + 5 * 8,
    )
    return d.StableDiffusionXLImg2ImgPipeline(**_sdxl_parts(unet=unet, requires_aesthetics_score=True))


@_tiny("sd-img2img", inputs=_with(_SD_EMBEDS, lambda batch: {"image": _image(batch, 32)}), strength=0.99)
def _sd_img2img() -> DiffusionPipeline:
    return d.StableDiffusionImg2ImgPipeline(**_sd_parts())


def _masked(batch: int) -> dict[str, Any]:
    return {"image": _image(batch, 32), "mask_image": (_image(batch, 32, seed=3)[:, :1] > 0.5).float()}


@_tiny("sd-inpaint", inputs=_with(_SD_EMBEDS, _masked), height=32, width=32)
def _sd_inpaint() -> DiffusionPipeline:
    return d.StableDiffusionInpaintPipeline(**_sd_parts(unet=_unet(in_channels=9)))


@_tiny("sd-controlnet", inputs=_with(_SD_EMBEDS, lambda batch: {"image": _image(batch, 32)}))
def _sd_controlnet() -> DiffusionPipeline:
    controlnet = _model(
        d.ControlNetModel,
        block_out_channels=(8, 16, 16, 16),
        down_block_types=SD,
        layers_per_block=2,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=16,
        conditioning_embedding_out_channels=(8, 16),  # halves the image once, as the VAE does
    )
    return d.StableDiffusionControlNetPipeline(**_sd_parts(controlnet=controlnet))


@_tiny("sd-t2i-adapter", inputs=_with(_SD_EMBEDS, lambda batch: {"image": _image(batch, 32)}))
def _sd_t2i_adapter() -> DiffusionPipeline:
    adapter = _model(
        d.T2IAdapter,
        channels=[8, 16, 16, 16],
        num_res_blocks=2,
        downscale_factor=2,
        adapter_type="full_adapter",
    )
    return d.StableDiffusionAdapterPipeline(**_sd_parts(adapter=adapter))


@_tiny(
    "dit",
    "DiTTransformer2DModel",
    inputs=lambda batch: {"class_labels": list(range(1, batch + 1))},
    output_type="np",
)
def _dit() -> DiffusionPipeline:
    transformer = _model(
        d.DiTTransformer2DModel,
        sample_size=8,
        num_layers=3,
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_embeds_ada_norm=1000,
    )
    return d.DiTPipeline(transformer, _vae(), d.DDIMScheduler(clip_sample=False))


def _unet_pixels() -> Any:
    return _model(
        d.UNet2DModel,
        sample_size=16,
        block_out_channels=(8, 16, 16),
        layers_per_block=2,
        norm_num_groups=4,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )


@_tiny("ddim", "UNet2DModel", inputs=lambda batch: {"batch_size": batch}, output_type="np")
def _ddim_pipeline() -> DiffusionPipeline:
    return d.DDIMPipeline(_unet_pixels(), d.DDIMScheduler())


@_tiny("ddpm", inputs=lambda batch: {"batch_size": batch}, output_type="np")
def _ddpm() -> DiffusionPipeline:
    return d.DDPMPipeline(_unet_pixels(), d.DDPMScheduler())


@_tiny("lcm", inputs=lambda batch: {"prompt_embeds": _randn(batch, TOKENS, 16)})
def _lcm() -> DiffusionPipeline:
    scheduler = d.LCMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", set_alpha_to_one=True
    )
    unet = _unet(time_cond_proj_dim=16)
    return d.LatentConsistencyModelPipeline(**_sd_parts(unet=unet, scheduler=scheduler))


# Transformers for images.


def _no_text(number: int = 1, **parts: Any) -> dict[str, Any]:
    """Return the parts of a pipeline that has neither a VAE nor a number of text encoders."""
    ends = ["", *(f"_{place}" for place in range(2, number + 1))]
    names = [name + end for end in ends for name in ("text_encoder", "tokenizer")]
    return {"vae": None, **dict.fromkeys(names), **parts}


def _flow(**config: Any) -> Any:
    """Return the flow-matching scheduler of most transformers."""
    return d.FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **config})


def _flow_dynamic() -> Any:
    """Return the flow-matching scheduler whose shift follows the number of tokens."""
    return _flow(use_dynamic_shifting=True)


def _flow_solver(cls: Any, shift: float) -> Any:
    """Return a multistep solver set for flow matching."""
    return cls(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)


def _sd3_transformer(**config: Any) -> Any:
    return _model(
        d.SD3Transformer2DModel,
        **{
            "sample_size": 8,
            "patch_size": 2,
            **_LATENT,
            "num_layers": 3,
            **_HEADS,
            "caption_projection_dim": 32,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 32,
            "pos_embed_max_size": 16,
            **config,
        },
    )


@_tiny("sd3", "SD3Transformer2DModel", inputs=_embeds(32, pooled_prompt_embeds=32))
def _sd3() -> DiffusionPipeline:
    return d.StableDiffusion3Pipeline(**_no_text(3, transformer=_sd3_transformer(), scheduler=_flow()))


@_tiny("sd3-text", inputs=_prompt, max_sequence_length=24)
def _sd3_text() -> DiffusionPipeline:
    return d.StableDiffusion3Pipeline(
        transformer=_sd3_transformer(),
        scheduler=_flow(),
        vae=None,
        text_encoder=_clip(projection=True),
        text_encoder_2=_clip(projection=True),
        text_encoder_3=_t5(32),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        tokenizer_3=_t5_tokenizer(),
    )


@_tiny("sd3.5", inputs=_embeds(32, pooled_prompt_embeds=32))
def _sd35() -> DiffusionPipeline:
    transformer = _sd3_transformer(qk_norm="rms_norm", dual_attention_layers=(0, 1))
    return d.StableDiffusion3Pipeline(**_no_text(3, transformer=transformer, scheduler=_flow()))


def _flux_transformer(**config: Any) -> Any:
    return _model(
        d.FluxTransformer2DModel,
        **{
            "in_channels": 16,
            "num_layers": 2,
            "num_single_layers": 2,
            **_HEADS,
            "joint_attention_dim": 16,
            "pooled_projection_dim": 16,
            "guidance_embeds": True,
            "axes_dims_rope": (4, 6, 6),
            **config,
        },
    )


_FLUX_EMBEDS = _embeds(16, negative=False, pooled_prompt_embeds=16)


@_tiny("flux", "FluxTransformer2DModel", inputs=_FLUX_EMBEDS, height=64, width=64)
def _flux() -> DiffusionPipeline:
    return d.FluxPipeline(**_no_text(2, transformer=_flux_transformer(), scheduler=_flow_dynamic()))


@_tiny(
    "flux-text",
    inputs=lambda batch: {"prompt": [PROMPT] * batch},
    height=64,
    width=64,
    max_sequence_length=24,
)
def _flux_text() -> DiffusionPipeline:
    return d.FluxPipeline(
        transformer=_flux_transformer(),
        scheduler=_flow_dynamic(),
        vae=None,
        text_encoder=_clip(),
        text_encoder_2=_t5(),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_t5_tokenizer(),
    )


@_tiny("flux-schnell", inputs=_FLUX_EMBEDS, height=64, width=64, guidance_scale=0.0)
def _flux_schnell() -> DiffusionPipeline:
    transformer = _flux_transformer(guidance_embeds=False)
    return d.FluxPipeline(**_no_text(2, transformer=transformer, scheduler=_flow(shift=1.0)))


@_tiny(
    "flux-img2img",
    inputs=_with(_FLUX_EMBEDS, lambda batch: {"image": _image(batch, 32)}),
    height=32,
    width=32,
    strength=0.75,
)
def _flux_img2img() -> DiffusionPipeline:
    parts = _no_text(2, transformer=_flux_transformer(), scheduler=_flow_dynamic())
    return d.FluxImg2ImgPipeline(**(parts | {"vae": _vae(shift_factor=0.1)}))


def _pixart_transformer(**config: Any) -> Any:
    return _model(
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


@_tiny(
    "pixart-alpha",
    "PixArtTransformer2DModel",
    inputs=_embeds(16, mask=_MASKED),
    negative_prompt=None,
    height=64,
    width=64,
    use_resolution_binning=False,
)
def _pixart_alpha() -> DiffusionPipeline:
    # With 128 the pipeline gives the model the resolution and the aspect ratio.
    transformer = _pixart_transformer(sample_size=128)
    return d.PixArtAlphaPipeline(
        **_no_text(transformer=transformer, scheduler=d.DPMSolverMultistepScheduler())
    )


@_tiny("pixart-sigma", inputs=_embeds(16, mask=_MASKED), negative_prompt=None, use_resolution_binning=False)
def _pixart_sigma() -> DiffusionPipeline:
    return d.PixArtSigmaPipeline(
        **_no_text(transformer=_pixart_transformer(), scheduler=d.DPMSolverMultistepScheduler())
    )


@_tiny(
    "pixart-sigma-text",
    inputs=lambda batch: {"prompt": [PROMPT] * batch, "negative_prompt": "blue"},
    use_resolution_binning=False,
    clean_caption=False,
    max_sequence_length=24,
)
def _pixart_sigma_text() -> DiffusionPipeline:
    return d.PixArtSigmaPipeline(
        transformer=_pixart_transformer(),
        scheduler=d.DPMSolverMultistepScheduler(),
        vae=None,
        text_encoder=_t5(),
        tokenizer=_t5_tokenizer(),
    )


def _sana_transformer(**config: Any) -> Any:
    return _model(
        d.SanaTransformer2DModel,
        **{
            "sample_size": 8,
            **_LATENT,
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


@_tiny(
    "sana",
    "SanaTransformer2DModel",
    inputs=_embeds(16, mask=_MASKED),
    negative_prompt=None,
    height=256,
    width=256,
    use_resolution_binning=False,
)
def _sana() -> DiffusionPipeline:
    scheduler = _flow_solver(d.DPMSolverMultistepScheduler, 3.0)
    return d.SanaPipeline(**_no_text(transformer=_sana_transformer(), scheduler=scheduler))


@_tiny(
    "sana-sprint",
    inputs=_embeds(16, mask=_MASKED, negative=False),
    height=256,
    width=256,
    use_resolution_binning=False,
    intermediate_timesteps=None,
)
def _sana_sprint() -> DiffusionPipeline:
    transformer = _sana_transformer(guidance_embeds=True, qk_norm="rms_norm_across_heads")
    return d.SanaSprintPipeline(
        **_no_text(transformer=transformer, scheduler=d.SCMScheduler(prediction_type="trigflow"))
    )


def _two_embeds(mask: str) -> Inputs:
    """Return the inputs of a pipeline with two text encoders, each with its own mask."""
    first, second = _embeds(16, mask=mask), _embeds(24, 9, mask=mask)
    return lambda batch: first(batch) | {f"{name}_2": value for name, value in second(batch).items()}


@_tiny(
    "hunyuandit",
    "HunyuanDiT2DModel",
    inputs=_two_embeds(_MASKED),
    height=64,
    width=64,
    use_resolution_binning=False,
)
def _hunyuandit() -> DiffusionPipeline:
    transformer = _model(
        d.HunyuanDiT2DModel,
        sample_size=8,
        num_layers=4,
        patch_size=2,
        **_HEADS,
        hidden_size=32,
        in_channels=4,
        cross_attention_dim=16,
        cross_attention_dim_t5=24,
        pooled_projection_dim=16,
        text_len=TOKENS,
        text_len_t5=9,
        activation_fn="gelu-approximate",
    )
    scheduler = d.DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.018,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
    )
    return d.HunyuanDiTPipeline(
        **_no_text(2, transformer=transformer, scheduler=scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@_tiny("auraflow", "AuraFlowTransformer2DModel", inputs=_embeds(16, mask=_MASKED), height=64, width=64)
def _auraflow() -> DiffusionPipeline:
    transformer = _model(
        d.AuraFlowTransformer2DModel,
        sample_size=8,
        **_LATENT,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        **_HEADS,
        caption_projection_dim=32,
        joint_attention_dim=16,
        pos_embed_max_size=64,
    )
    return d.AuraFlowPipeline(**_no_text(transformer=transformer, scheduler=_flow(shift=1.73)))


@_tiny("lumina2", "Lumina2Transformer2DModel", inputs=_embeds(16, mask=_MASKED), height=64, width=64)
def _lumina2() -> DiffusionPipeline:
    transformer = _model(
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
    return d.Lumina2Pipeline(**_no_text(transformer=transformer, scheduler=_flow(shift=6.0)))


@_tiny(
    "qwenimage",
    "QwenImageTransformer2DModel",
    inputs=_embeds(16, mask="prompt_embeds_mask"),
    height=64,
    width=64,
)
def _qwenimage() -> DiffusionPipeline:
    transformer = _model(
        d.QwenImageTransformer2DModel,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        **_HEADS,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    return d.QwenImagePipeline(**_no_text(transformer=transformer, scheduler=_flow_dynamic()))


# Transformers and UNets for video.

_VIDEO = {"height": 64, "width": 64, "num_frames": 9}
_WAN = {
    **_LATENT,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
}
"""What the transformers of Wan's family have in common."""


def _wan_transformer(**config: Any) -> Any:
    return _model(d.WanTransformer3DModel, **{**_WAN, "rope_max_seq_len": 32, **config})


@_tiny("wan", "WanTransformer3DModel", inputs=_embeds(16), **_VIDEO)
def _wan() -> DiffusionPipeline:
    scheduler = _flow_solver(d.UniPCMultistepScheduler, 3.0)
    return d.WanPipeline(**_no_text(transformer=_wan_transformer(), scheduler=scheduler))


def _cogvideox_transformer(**config: Any) -> Any:
    return _model(
        d.CogVideoXTransformer3DModel,
        **{
            **_HEADS,
            **_LATENT,
            "time_embed_dim": 16,
            "text_embed_dim": 16,
            "num_layers": 2,
            "sample_width": 8,
            "sample_height": 8,
            "sample_frames": 9,
            "max_text_seq_length": TOKENS,
            **config,
        },
    )


def _cogvideox_scheduler(cls: Any = d.CogVideoXDDIMScheduler) -> Any:
    return cls(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")


@_tiny("cogvideox", "CogVideoXTransformer3DModel", inputs=_embeds(16), **_VIDEO)
def _cogvideox() -> DiffusionPipeline:
    transformer = _cogvideox_transformer(use_rotary_positional_embeddings=True)
    scheduler = _cogvideox_scheduler(d.CogVideoXDPMScheduler)
    return d.CogVideoXPipeline(**_no_text(transformer=transformer, scheduler=scheduler))


@_tiny("cogvideox-2b", inputs=_embeds(16), **_VIDEO)
def _cogvideox_2b() -> DiffusionPipeline:
    return d.CogVideoXPipeline(
        **_no_text(transformer=_cogvideox_transformer(), scheduler=_cogvideox_scheduler())
    )


@_tiny("ltx", "LTXVideoTransformer3DModel", inputs=_embeds(16, mask=_MASKED), **_VIDEO)
def _ltx() -> DiffusionPipeline:
    transformer = _model(
        d.LTXVideoTransformer3DModel,
        in_channels=8,
        out_channels=8,
        **_HEADS,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=16,
    )
    return d.LTXPipeline(**_no_text(transformer=transformer, scheduler=_flow_dynamic()))


@_tiny(
    "hunyuanvideo",
    "HunyuanVideoTransformer3DModel",
    inputs=_embeds(16, mask=_MASKED, negative=False, pooled_prompt_embeds=8),
    **_VIDEO,
)
def _hunyuanvideo() -> DiffusionPipeline:
    transformer = _model(
        d.HunyuanVideoTransformer3DModel,
        **_LATENT,
        **_HEADS,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=2,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(4, 6, 6),
    )
    return d.HunyuanVideoPipeline(**_no_text(2, transformer=transformer, scheduler=_flow(shift=7.0)))


def _unet3d(cls: Any, kind: str, **config: Any) -> Any:
    """Build a UNet for video."""
    return _model(
        cls,
        **{
            "sample_size": 16,
            "block_out_channels": (32, 32, 32, 32),
            "down_block_types": (*(f"CrossAttnDownBlock{kind}",) * 3, f"DownBlock{kind}"),
            "up_block_types": (f"UpBlock{kind}", *(f"CrossAttnUpBlock{kind}",) * 3),
            "layers_per_block": 1,
            "cross_attention_dim": 16,
            **config,
        },
    )


@_tiny(
    "svd",
    "UNetSpatioTemporalConditionModel",
    inputs=lambda batch: {"image": _image(batch, 32)},
    height=32,
    width=32,
    num_frames=3,
)
def _svd() -> DiffusionPipeline:
    unet = _unet3d(
        d.UNetSpatioTemporalConditionModel,
        "SpatioTemporal",
        num_attention_heads=2,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        num_frames=3,
    )
    vae = _model(
        d.AutoencoderKLTemporalDecoder,
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        latent_channels=4,
        layers_per_block=1,
    )
    scheduler = d.EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    return d.StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=_clip_vision(),
        unet=unet,
        scheduler=scheduler,
        feature_extractor=_clip_images(),
    )


@_tiny("text-to-video", "UNet3DConditionModel", inputs=_embeds(16), height=64, width=64, num_frames=3)
def _text_to_video() -> DiffusionPipeline:
    unet = _unet3d(
        d.UNet3DConditionModel,
        "3D",
        block_out_channels=(8, 16, 16, 16),
        norm_num_groups=4,
        attention_head_dim=8,
        layers_per_block=2,
    )
    return d.TextToVideoSDPipeline(**_no_text(unet=unet, scheduler=_ddim()))


@_tiny("mochi", "MochiTransformer3DModel", inputs=_embeds(16, mask=_MASKED), **_VIDEO)
def _mochi() -> DiffusionPipeline:
    transformer = _model(
        d.MochiTransformer3DModel,
        **_HEADS,
        num_layers=3,
        pooled_projection_dim=16,
        in_channels=4,
        text_embed_dim=16,
        time_embed_dim=16,
        max_sequence_length=TOKENS,
    )
    return d.MochiPipeline(**_no_text(transformer=transformer, scheduler=_flow()))


@_tiny(
    "allegro", "AllegroTransformer3DModel", inputs=_embeds(16, mask=_MASKED), negative_prompt=None, **_VIDEO
)
def _allegro() -> DiffusionPipeline:
    transformer = _model(
        d.AllegroTransformer3DModel,
        num_attention_heads=2,
        attention_head_dim=24,
        **_LATENT,
        num_layers=2,
        cross_attention_dim=48,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        caption_channels=16,
    )
    return d.AllegroPipeline(**_no_text(transformer=transformer, scheduler=_euler()))


@_tiny(
    "latte",
    "LatteTransformer3DModel",
    inputs=_embeds(16),
    negative_prompt=None,
    height=64,
    width=64,
    video_length=4,
)
def _latte() -> DiffusionPipeline:
    transformer = _model(
        d.LatteTransformer3DModel,
        sample_size=8,
        num_layers=2,
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=12,
        caption_channels=16,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=24,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        video_length=4,
    )
    return d.LattePipeline(**_no_text(transformer=transformer, scheduler=_ddim(beta_schedule="linear")))


@_tiny("easyanimate", "EasyAnimateTransformer3DModel", inputs=_embeds(16, mask=_MASKED), **_VIDEO)
def _easyanimate() -> DiffusionPipeline:
    transformer = _model(
        d.EasyAnimateTransformer3DModel,
        **_HEADS,
        **_LATENT,
        patch_size=2,
        sample_width=8,
        sample_height=8,
        num_layers=2,
        mmdit_layers=2,
        time_embed_dim=16,
        add_norm_text_encoder=True,
        text_embed_dim=16,
    )
    kinds = ("Spatial", "SpatialTemporal", "SpatialTemporal", "SpatialTemporal")
    vae = _model(
        d.AutoencoderKLMagvit,
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        down_block_types=tuple(f"{kind}DownBlock3D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock3D" for kind in kinds),
        layers_per_block=1,
        norm_num_groups=2,
        spatial_group_norm=False,
    )
    parts = _no_text(transformer=transformer, scheduler=_flow(shift=5.0))
    return d.EasyAnimatePipeline(**(parts | {"vae": vae}))


@_tiny("skyreels", "SkyReelsV2Transformer3DModel", inputs=_embeds(16), **_VIDEO)
def _skyreels() -> DiffusionPipeline:
    transformer = _model(d.SkyReelsV2Transformer3DModel, **_WAN, rope_max_seq_len=32)
    scheduler = _flow_solver(d.UniPCMultistepScheduler, 8.0)
    return d.SkyReelsV2Pipeline(**_no_text(transformer=transformer, scheduler=scheduler))


class _SafetyChecker(d.ModelMixin, d.ConfigMixin):
    """Stands for Cosmos' safety checker, which has large models of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))  # a pipeline asks each part for its device


@_tiny("cosmos", "CosmosTransformer3DModel", inputs=_embeds(16), height=64, width=64, num_frames=17)
def _cosmos() -> DiffusionPipeline:
    transformer = _model(
        d.CosmosTransformer3DModel,
        **_LATENT,
        **_HEADS,
        num_layers=2,
        mlp_ratio=2,
        text_embed_dim=16,
        adaln_lora_dim=4,
        max_size=(4, 16, 16),
        concat_padding_mask=False,  # with it the model needs torchvision
    )
    scheduler = d.EDMEulerScheduler(sigma_max=80, sigma_data=0.5, final_sigmas_type="sigma_min")
    return d.CosmosTextToWorldPipeline(
        **_no_text(transformer=transformer, scheduler=scheduler, safety_checker=_SafetyChecker())
    )


@_tiny(
    "consisid",
    "ConsisIDTransformer3DModel",
    inputs=_with(
        _embeds(16),
        lambda batch: {
            "image": _image(batch, 64),
            "id_vit_hidden": [_randn(1, 3, 16, seed=seed) for seed in (30, 31)],
            "id_cond": _randn(1, 16, seed=32),
        },
    ),
    **_VIDEO,
)
def _consisid() -> DiffusionPipeline:
    transformer = _model(
        d.ConsisIDTransformer3DModel,
        num_attention_heads=3,
        attention_head_dim=16,
        in_channels=8,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=16,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        max_text_seq_length=TOKENS,
        use_rotary_positional_embeddings=True,
        is_train_face=True,
        cross_attn_interval=2,
        cross_attn_dim_head=8,
        cross_attn_num_heads=2,
        LFE_id_dim=16,
        LFE_vit_dim=16,
        LFE_depth=4,
        LFE_dim_head=8,
        LFE_num_heads=2,
        LFE_num_id_token=2,
        LFE_num_querie=4,
        LFE_output_dim=32,
        LFE_ff_mult=1,
        LFE_num_scale=2,
    )
    vae = _model(
        d.AutoencoderKLCogVideoX,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    parts = _no_text(transformer=transformer, scheduler=_cogvideox_scheduler(d.CogVideoXDPMScheduler))
    return ConsisIDPipeline(**(parts | {"vae": vae}))


# Others.


def _oobleck() -> Any:
    """Build an autoencoder for audio."""
    return _model(
        d.AutoencoderOobleck,
        encoder_hidden_size=8,
        downsampling_ratios=[1, 2],
        channel_multiples=[1, 2],
        decoder_channels=8,
        decoder_input_channels=4,
        audio_channels=2,
        sampling_rate=4,
    )


@_tiny("stable-audio", "StableAudioDiTModel", inputs=_with(_embeds(16), _masks("attention_mask")))
def _stable_audio() -> DiffusionPipeline:
    transformer = _model(
        d.StableAudioDiTModel,
        sample_size=16,
        **_LATENT,
        num_layers=2,
        **_HEADS,
        num_key_value_attention_heads=1,
        cross_attention_dim=16,
        cross_attention_input_dim=16,
        time_proj_dim=8,
        global_states_input_dim=32,
    )
    projection = _model(
        StableAudioProjectionModel, text_encoder_dim=16, conditioning_dim=16, min_value=0, max_value=32
    )
    scheduler = d.EDMDPMSolverMultistepScheduler(prediction_type="v_prediction", sigma_data=1.0)
    parts = _no_text(transformer=transformer, projection_model=projection, scheduler=scheduler)
    return d.StableAudioPipeline(**(parts | {"vae": _oobleck()}))


@_tiny(
    "chroma",
    "ChromaTransformer2DModel",
    inputs=_with(_embeds(16), _masks(_MASKED, dtype=torch.float)),
    height=64,
    width=64,
)
def _chroma() -> DiffusionPipeline:
    transformer = _model(
        d.ChromaTransformer2DModel,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        **_HEADS,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
        approximator_num_channels=16,
        approximator_hidden_dim=32,
        approximator_layers=2,
    )
    return d.ChromaPipeline(**_no_text(transformer=transformer, scheduler=_flow()))


@_tiny("cogview3", "CogView3PlusTransformer2DModel", inputs=_embeds(16), height=64, width=64)
def _cogview3() -> DiffusionPipeline:
    transformer = _model(
        d.CogView3PlusTransformer2DModel,
        **_LATENT,
        num_layers=2,
        **_HEADS,
        text_embed_dim=16,
        time_embed_dim=16,
        condition_dim=8,
        pos_embed_max_size=16,
        sample_size=8,
    )
    return d.CogView3PlusPipeline(**_no_text(transformer=transformer, scheduler=_cogvideox_scheduler()))


@_tiny("cogview4", "CogView4Transformer2DModel", inputs=_embeds(16, 16), height=64, width=64)
def _cogview4() -> DiffusionPipeline:
    transformer = _model(
        d.CogView4Transformer2DModel,
        **_LATENT,
        num_layers=2,
        **_HEADS,
        text_embed_dim=16,
        time_embed_dim=16,
        condition_dim=8,
        sample_size=8,
        rope_axes_dim=(16, 16),
    )
    scheduler = _flow(
        base_shift=0.25,
        max_shift=0.75,
        base_image_seq_len=256,
        use_dynamic_shifting=True,
        time_shift_type="linear",
    )
    return d.CogView4Pipeline(**_no_text(transformer=transformer, scheduler=scheduler))


def _llama_layers(batch: int) -> dict[str, Any]:
    """Return embeddings of two layers of a text encoder, the layer being the first dimension."""
    names = ("prompt_embeds_llama3", "negative_prompt_embeds_llama3")
    return {name: _randn(2, batch, TOKENS, 24, seed=seed) for seed, name in enumerate(names, start=30)}


@_tiny(
    "hidream",
    "HiDreamImageTransformer2DModel",
    inputs=_with(_pairs(prompt_embeds_t5=(TOKENS, 16), pooled_prompt_embeds=(16,)), _llama_layers),
    height=64,
    width=64,
)
def _hidream() -> DiffusionPipeline:
    transformer = _model(
        d.HiDreamImageTransformer2DModel,
        patch_size=2,
        **_LATENT,
        num_layers=2,
        num_single_layers=2,
        **_HEADS,
        caption_channels=[16, 24],
        text_emb_dim=16,
        num_routed_experts=4,
        num_activated_experts=2,
        axes_dims_rope=(8, 4, 4),
        max_resolution=(16, 16),
        llama_layers=(0, 0, 1, 1),
    )
    pipe = d.HiDreamImagePipeline(**_no_text(4, transformer=transformer, scheduler=_flow()))
    pipe.default_sample_size = 8  # it makes every image this large
    return pipe


def _captions(batch: int) -> dict[str, Any]:
    """Return lists of embeddings, one a row and each of its own length."""
    names = ("prompt_embeds", "negative_prompt_embeds")
    return {
        name: [_randn(TOKENS + row, 16, seed=seed + row) for row in range(batch)]
        for name, seed in zip(names, (10, 20), strict=True)
    }


@_tiny("z_image", "ZImageTransformer2DModel", inputs=_captions, height=64, width=64)
def _z_image() -> DiffusionPipeline:
    transformer = _model(
        d.ZImageTransformer2DModel,
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=2,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 6, 6],
        axes_lens=[128, 32, 32],
    )
    return d.ZImagePipeline(**_no_text(transformer=transformer, scheduler=_flow()))


@_tiny("flux2", "Flux2Transformer2DModel", inputs=_embeds(16, negative=False), height=64, width=64)
def _flux2() -> DiffusionPipeline:
    transformer = _model(
        d.Flux2Transformer2DModel,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        **_HEADS,
        joint_attention_dim=16,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
    )
    return d.Flux2Pipeline(**_no_text(transformer=transformer, scheduler=_flow_dynamic()))


@_tiny("kolors", inputs=_embeds(24, pooled_prompt_embeds=16))
def _kolors() -> DiffusionPipeline:
    unet = _unet_xl(encoder_hid_dim=24, encoder_hid_dim_type="text_proj")
    return KolorsPipeline(**(_no_text(unet=unet, scheduler=_euler()) | {"vae": _vae()}))


def _movq() -> Any:
    """Build a VQ autoencoder with a scale factor of 2."""
    return _model(
        d.VQModel,
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        num_vq_embeddings=12,
        sample_size=16,
        norm_type="spatial",
        vq_embed_dim=4,
    )


def _kandinsky_unet(**config: Any) -> Any:
    return _unet(
        **{
            "out_channels": 8,
            "block_out_channels": (8, 16, 16, 16),
            "down_block_types": ("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * 3),
            "up_block_types": (*("SimpleCrossAttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "encoder_hid_dim": 16,
            "attention_head_dim": 8,
            "resnet_time_scale_shift": "scale_shift",
            **config,
        }
    )


@_tiny("kandinsky22", inputs=_pairs(image_embeds=(16,)), height=32, width=32)
def _kandinsky22() -> DiffusionPipeline:
    unet = _kandinsky_unet(addition_embed_type="image", encoder_hid_dim_type="image_proj")
    scheduler = d.DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, clip_sample=True, clip_sample_range=2.0, prediction_type="epsilon"
    )
    return d.KandinskyV22Pipeline(unet=unet, scheduler=scheduler, movq=_movq())


@_tiny(
    "kandinsky3", "Kandinsky3UNet", inputs=_with(_embeds(16), _masks("attention_mask")), height=128, width=128
)
def _kandinsky3() -> DiffusionPipeline:
    unet = _model(
        d.Kandinsky3UNet,
        time_embedding_dim=16,
        groups=4,
        attention_head_dim=4,
        layers_per_block=2,
        block_out_channels=(8, 16, 16, 16),
        cross_attention_dim=16,
        encoder_hid_dim=16,
    )
    scheduler = d.DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=True)
    return d.Kandinsky3Pipeline(
        tokenizer=None, text_encoder=None, unet=unet, scheduler=scheduler, movq=_movq()
    )


def _lengths(batch: int) -> dict[str, Any]:
    """Return the places where each row's tokens begin and end in all of them."""
    ends = torch.arange(batch + 1, dtype=torch.int32) * TOKENS
    return {"prompt_cu_seqlens": ends, "negative_prompt_cu_seqlens": ends}


@_tiny(
    "kandinsky5",
    "Kandinsky5Transformer3DModel",
    inputs=_with(_pairs(prompt_embeds_qwen=(TOKENS, 16), prompt_embeds_clip=(16,)), _lengths),
    **_VIDEO,
)
def _kandinsky5() -> DiffusionPipeline:
    transformer = _model(
        d.Kandinsky5Transformer3DModel,
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=16,
        time_dim=16,
        model_dim=32,
        ff_dim=64,
        num_text_blocks=2,
        num_visual_blocks=2,
        axes_dims=(4, 6, 6),
    )
    return d.Kandinsky5T2VPipeline(**_no_text(2, transformer=transformer, scheduler=_flow(shift=5.0)))


def _cascade_unet(**config: Any) -> Any:
    return _model(
        d.StableCascadeUNet,
        **{
            **_LATENT,
            "timestep_ratio_embedding_dim": 16,
            "conditioning_dim": 16,
            "block_out_channels": (16, 16),
            "num_attention_heads": (2, 2),
            "down_num_layers_per_block": (2, 2),
            "up_num_layers_per_block": (2, 2),
            "clip_text_pooled_in_channels": 16,
            **config,
        },
    )


@_tiny("cascade-prior", "StableCascadeUNet", inputs=_prompt, height=256, width=256)
def _cascade_prior() -> DiffusionPipeline:
    prior = _cascade_unet(clip_text_in_channels=16, clip_image_in_channels=16, switch_level=(False,))
    return d.StableCascadePriorPipeline(
        tokenizer=_clip_tokenizer(),
        text_encoder=_clip(projection=True),
        prior=prior,
        scheduler=d.DDPMWuerstchenScheduler(),
    )


@_tiny(
    "cascade",
    inputs=_with(_prompt, lambda batch: {"image_embeddings": _randn(batch, 4, 3, 3)}),
    guidance_scale=2.0,
)
def _cascade() -> DiffusionPipeline:
    plain, attending = ("SDCascadeResBlock", "SDCascadeTimestepBlock"), ("SDCascadeAttnBlock",)
    decoder = _cascade_unet(
        patch_size=2,
        block_out_channels=(8, 16, 16, 16),
        num_attention_heads=(-1, -1, 2, 2),
        down_num_layers_per_block=(2, 2, 2, 2),
        up_num_layers_per_block=(2, 2, 2, 2),
        down_blocks_repeat_mappers=(1, 1, 1, 1),
        up_blocks_repeat_mappers=(3, 3, 2, 2),
        block_types_per_layer=(plain, plain, plain + attending, plain + attending),
        dropout=(0, 0, 0.1, 0.1),
        effnet_in_channels=4,
        timestep_conditioning_type=("sca",),
    )
    return d.StableCascadeDecoderPipeline(
        decoder=decoder,
        tokenizer=_clip_tokenizer(),
        text_encoder=_clip(projection=True),
        scheduler=d.DDPMWuerstchenScheduler(),
        vqgan=None,
    )


@_tiny("bria", "BriaTransformer2DModel", inputs=_embeds(16), height=64, width=64)
def _bria() -> DiffusionPipeline:
    transformer = _model(
        d.BriaTransformer2DModel,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        **_HEADS,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    parts = _no_text(transformer=transformer, scheduler=_flow_dynamic())
    return d.BriaPipeline(**(parts | {"vae": _vae(shift_factor=0.0)}))


@_tiny(
    "amused",
    "UVit2DModel",
    inputs=_pairs(prompt_embeds=(16,), encoder_hidden_states=(TOKENS, 16)),
    height=32,
    width=32,
)
def _amused() -> DiffusionPipeline:
    transformer = _model(
        d.UVit2DModel,
        hidden_size=16,
        cond_embed_dim=16,
        micro_cond_encode_dim=4,
        micro_cond_embed_dim=20,
        encoder_hidden_size=16,
        vocab_size=40,
        codebook_size=32,
        in_channels=16,
        block_out_channels=16,
        num_res_blocks=2,
        block_num_heads=2,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        sample_size=16,
    )
    return d.AmusedPipeline(
        vqvae=_movq(),
        tokenizer=None,
        text_encoder=None,
        transformer=transformer,
        scheduler=d.AmusedScheduler(mask_token_id=39),
    )


# The rest of the denoiser classes.


@_tiny("lumina", "LuminaNextDiT2DModel", inputs=_embeds(16, mask=_MASKED), height=64, width=64)
def _lumina() -> DiffusionPipeline:
    transformer = _model(
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
    return d.LuminaPipeline(**_no_text(transformer=transformer, scheduler=_flow()))


@_tiny(
    "prx",
    "PRXTransformer2DModel",
    single=True,
    inputs=_with(_embeds(16), _masks(_MASKED, dtype=torch.bool)),
    height=32,
    width=32,
    use_resolution_binning=False,
)
def _prx() -> DiffusionPipeline:
    transformer = _model(
        d.PRXTransformer2DModel,
        in_channels=4,
        context_in_dim=16,
        hidden_size=32,
        mlp_ratio=2.0,
        num_heads=2,
        depth=2,
        axes_dim=[8, 8],
    )
    return d.PRXPipeline(**(_no_text(transformer=transformer, scheduler=_flow()) | {"vae": _vae()}))


@_tiny("ovis", "OvisImageTransformer2DModel", inputs=_embeds(16), negative_prompt=None, height=64, width=64)
def _ovis() -> DiffusionPipeline:
    transformer = _model(
        d.OvisImageTransformer2DModel,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        num_single_layers=2,
        **_HEADS,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    return d.OvisImagePipeline(**_no_text(transformer=transformer, scheduler=_flow_dynamic()))


@_tiny(
    "longcat-image",
    "LongCatImageTransformer2DModel",
    inputs=_prompt,
    height=64,
    width=64,
    enable_prompt_rewrite=False,
)
def _longcat_image() -> DiffusionPipeline:
    transformer = _model(
        d.LongCatImageTransformer2DModel,
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        **_HEADS,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=[4, 6, 6],
    )
    parts = _no_text(transformer=transformer, scheduler=_flow_dynamic())
    pipe = d.LongCatImagePipeline(**parts, text_processor=None)
    # It wants words even where it is given embeddings.
    pipe._encode_prompt = lambda prompt: _randn(len(prompt), TOKENS, 16, seed=len(prompt[0]))
    return pipe


@_tiny(
    "nucleus",
    "NucleusMoEImageTransformer2DModel",
    inputs=_embeds(16, mask="prompt_embeds_mask"),
    height=64,
    width=64,
)
def _nucleus() -> DiffusionPipeline:
    transformer = _model(
        d.NucleusMoEImageTransformer2DModel,
        unset=("experts.gate_up_proj", "experts.down_proj"),
        in_channels=16,
        out_channels=4,
        num_layers=5,
        **_HEADS,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
        mlp_ratio=8.0,
        num_experts=4,
        moe_intermediate_dim=16,
        capacity_factors=[2.0] * 5,
    )
    return d.NucleusMoEImagePipeline(
        transformer=transformer, scheduler=_flow_dynamic(), vae=None, text_encoder=None, processor=None
    )


@_tiny(
    "sana-video",
    "SanaVideoTransformer3DModel",
    inputs=_embeds(16, mask=_MASKED),
    negative_prompt=None,
    height=64,
    width=64,
    frames=9,
    use_resolution_binning=False,
)
def _sana_video() -> DiffusionPipeline:
    transformer = _model(
        d.SanaVideoTransformer3DModel,
        **_LATENT,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=16,
        sample_size=8,
        rope_max_seq_len=32,
    )
    scheduler = _flow_solver(d.DPMSolverMultistepScheduler, 8.0)
    parts = _no_text(transformer=transformer, scheduler=scheduler)
    return d.SanaVideoPipeline(**(parts | {"vae": _wan_vae()}))


def _wan_vae() -> Any:
    """Build Wan's VAE, with its scale factors of 4 in time and 8 in space."""
    return _model(
        d.AutoencoderKLWan,
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


@_tiny(
    "krea2",
    "Krea2Transformer2DModel",
    inputs=_with(_pairs(prompt_embeds=(TOKENS, 2, 16)), _masks("prompt_embeds_mask", dtype=torch.bool)),
    height=64,
    width=64,
)
def _krea2() -> DiffusionPipeline:
    transformer = _model(
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
    return d.Krea2Pipeline(**_no_text(transformer=transformer, scheduler=_flow_dynamic()))


@_tiny(
    "glm-image",
    "GlmImageTransformer2DModel",
    inputs=_with(_embeds(16), lambda batch: {"prior_token_ids": torch.arange(16).repeat(batch, 1)}),
    height=64,
    width=64,
)
def _glm_image() -> DiffusionPipeline:
    transformer = _model(
        d.GlmImageTransformer2DModel,
        **_LATENT,
        num_layers=2,
        **_HEADS,
        text_embed_dim=16,
        time_embed_dim=16,
        condition_dim=8,
        prior_vq_quantizer_codebook_size=32,
    )
    parts = _no_text(transformer=transformer, scheduler=_flow_dynamic())
    return d.GlmImagePipeline(**(parts | {"vae": None}), processor=None, vision_language_encoder=None)


@_tiny("ernie-image", "ErnieImageTransformer2DModel", inputs=_captions, height=128, width=128, use_pe=False)
def _ernie_image() -> DiffusionPipeline:
    transformer = _model(
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
    return d.ErnieImagePipeline(**_no_text(transformer=transformer, scheduler=_flow()))


@_tiny(
    "hunyuanimage",
    "HunyuanImageTransformer2DModel",
    inputs=_two_embeds("prompt_embeds_mask"),
    height=256,
    width=256,
)
def _hunyuanimage() -> DiffusionPipeline:
    transformer = _model(
        d.HunyuanImageTransformer2DModel,
        **_LATENT,
        **_HEADS,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=2,
        text_embed_dim=16,
        text_embed_2_dim=24,
        rope_axes_dim=(8, 8),
    )
    guider = AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=2)
    parts = _no_text(2, transformer=transformer, scheduler=_flow(shift=5.0))
    return d.HunyuanImagePipeline(**parts, guider=guider)


@_tiny("anyflow", "AnyFlowTransformer3DModel", inputs=_embeds(16, negative=False), **_VIDEO)
def _anyflow() -> DiffusionPipeline:
    transformer = _model(d.AnyFlowTransformer3DModel, **_WAN, rope_max_seq_len=32)
    scheduler = d.FlowMapEulerDiscreteScheduler(num_train_timesteps=1000, shift=5.0)
    return d.AnyFlowPipeline(**_no_text(transformer=transformer, scheduler=scheduler))


@_tiny("helios", "HeliosTransformer3DModel", inputs=_embeds(16), **_VIDEO)
def _helios() -> DiffusionPipeline:
    transformer = _model(d.HeliosTransformer3DModel, **_WAN, rope_dim=(4, 4, 4))
    scheduler = d.HeliosScheduler(stage_range=[0, 1], stages=1, use_dynamic_shifting=True)
    parts = _no_text(transformer=transformer, scheduler=scheduler)
    return d.HeliosPipeline(**(parts | {"vae": _wan_vae()}))


@_tiny("wan-vace", "WanVACETransformer3DModel", single=True, inputs=_embeds(16), **_VIDEO)
def _wan_vace() -> DiffusionPipeline:
    transformer = _model(
        d.WanVACETransformer3DModel,
        num_attention_heads=2,
        attention_head_dim=12,
        **_LATENT,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=3,
        rope_max_seq_len=32,
        vace_layers=[0, 2],
        vace_in_channels=72,
    )
    parts = _no_text(transformer=transformer, scheduler=_flow(shift=5.0))
    return d.WanVACEPipeline(**(parts | {"vae": _wan_vae()}))


@_tiny(
    "chronoedit",
    "ChronoEditTransformer3DModel",
    inputs=_with(_embeds(16), lambda batch: {"image": _image(1, 32)}),
    height=64,
    width=64,
    num_frames=5,
)
def _chronoedit() -> DiffusionPipeline:
    transformer = _model(
        d.ChronoEditTransformer3DModel,
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=12,
        out_channels=4,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
        image_dim=16,
        added_kv_proj_dim=24,
    )
    parts = _no_text(transformer=transformer, scheduler=_flow(shift=5.0))
    parts |= {"vae": _wan_vae(), "image_encoder": _clip_vision(), "image_processor": _clip_images()}
    return d.ChronoEditPipeline(**parts)


@_tiny("animatediff", "UNetMotionModel", inputs=_embeds(16), height=16, width=16, num_frames=3)
def _animatediff() -> DiffusionPipeline:
    unet = _unet3d(
        d.UNetMotionModel,
        "Motion",
        block_out_channels=(8, 16, 16, 16),
        norm_num_groups=4,
        num_attention_heads=2,
        motion_num_attention_heads=2,
    )
    scheduler = _ddim(beta_schedule="linear")
    parts = _no_text(unet=unet, motion_adapter=None, scheduler=scheduler)
    return d.AnimateDiffPipeline(**(parts | {"vae": _vae()}))


@_tiny(
    "dance-diffusion",
    "UNet1DModel",
    inputs=lambda batch: {"batch_size": batch},
    output_type=None,
    audio_length_in_s=4.0,
)
def _dance_diffusion() -> DiffusionPipeline:
    unet = _model(
        d.UNet1DModel,
        block_out_channels=(32, 32, 64),
        time_embedding_dim=16,
        extra_in_channels=16,
        sample_size=64,
        sample_rate=16,
        use_timestep_embedding=False,
    )
    return d.DanceDiffusionPipeline(unet, d.IPNDMScheduler())


@_tiny("kandinsky-prior", "PriorTransformer", inputs=_prompt, output_type="pt")
def _kandinsky_prior() -> DiffusionPipeline:
    prior = _model(
        d.PriorTransformer, num_attention_heads=2, attention_head_dim=8, num_layers=2, embedding_dim=16
    )
    scheduler = d.UnCLIPScheduler(
        variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
    )
    return d.KandinskyV22PriorPipeline(
        prior=prior,
        image_encoder=_clip_vision(),
        text_encoder=_clip(projection=True),
        tokenizer=_clip_tokenizer(),
        scheduler=scheduler,
        image_processor=None,
    )


@_tiny(
    "stable-audio-3",
    "StableAudio3DiTModel",
    inputs=_with(_embeds(16), _masks("encoder_attention_mask")),
    duration=1.0,
    guidance_scale=3.0,
)
def _stable_audio_3() -> DiffusionPipeline:
    transformer = _model(
        d.StableAudio3DiTModel,
        io_channels=4,
        embed_dim=32,
        depth=2,
        num_heads=2,
        cond_token_dim=16,
        global_cond_dim=16,
        local_add_cond_dim=5,
        timestep_features_dim=16,
        ff_mult=2,
        num_memory_tokens=4,
    )
    vae = _model(
        d.AutoencoderSAME,
        patch_size=2,
        encoder_channels=8,
        encoder_c_mults=(2,),
        encoder_strides=(2,),
        encoder_transformer_depths=(1,),
        latent_dim=4,
        dim_heads=4,
        ff_mult=2,
        sampling_rate=64,
    )
    embedder = _model(StableAudio3DurationEmbedder, output_dim=16, fourier_dim=16)
    scheduler = d.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0)
    parts = _no_text(transformer=transformer, scheduler=scheduler, duration_embedder=embedder)
    return d.StableAudio3Pipeline(**(parts | {"vae": vae}))


@_tiny(
    "consistency",
    inputs=lambda batch: {"batch_size": batch, "class_labels": list(range(batch))},
    output_type="pt",
)
def _consistency() -> DiffusionPipeline:
    unet = _model(
        d.UNet2DModel,
        sample_size=16,
        block_out_channels=(8, 16, 16),
        layers_per_block=2,
        norm_num_groups=4,
        attention_head_dim=8,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        resnet_time_scale_shift="scale_shift",
        downsample_type="resnet",
        upsample_type="resnet",
        num_class_embeds=10,
    )
    scheduler = d.CMStochasticIterativeScheduler(num_train_timesteps=40, sigma_min=0.002, sigma_max=80.0)
    return d.ConsistencyModelPipeline(unet=unet, scheduler=scheduler)


@_tiny("if", inputs=_embeds(16), height=16, width=16, output_type="pt")
def _if() -> DiffusionPipeline:
    unet = _unet(
        in_channels=3,
        out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * 3),
        up_block_types=(*("SimpleCrossAttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(8, 16, 16, 16),
        encoder_hid_dim=16,
        cross_attention_dim=32,
        attention_head_dim=8,
        act_fn="gelu",
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        time_embedding_act_fn="gelu",
    )
    scheduler = d.DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5,
        thresholding=True,
        variance_type="learned_range",
    )
    return d.IFPipeline(
        tokenizer=None,
        text_encoder=None,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


@_tiny("wan-i2v", inputs=_with(_embeds(16), lambda batch: {"image": _image(1, 32)}), **_VIDEO)
def _wan_i2v() -> DiffusionPipeline:
    transformer = _wan_transformer(in_channels=12, image_dim=16, added_kv_proj_dim=24)
    parts = _no_text(transformer=transformer, scheduler=_flow(shift=5.0))
    parts |= {"vae": _wan_vae(), "image_encoder": _clip_vision(), "image_processor": _clip_images()}
    return d.WanImageToVideoPipeline(**parts)


def _hunyuan_15_vae() -> Any:
    return _model(
        d.AutoencoderKLHunyuanVideo15,
        latent_channels=4,
        block_out_channels=(16, 16),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )


@_tiny(
    "hunyuanvideo15",
    "HunyuanVideo15Transformer3DModel",
    inputs=_two_embeds("prompt_embeds_mask"),
    height=32,
    width=32,
    num_frames=5,
)
def _hunyuanvideo15() -> DiffusionPipeline:
    transformer = _model(
        d.HunyuanVideo15Transformer3DModel,
        in_channels=9,
        out_channels=4,
        **_HEADS,
        num_layers=2,
        num_refiner_layers=2,
        text_embed_dim=16,
        text_embed_2_dim=24,
        image_embed_dim=12,
        rope_axes_dim=(4, 6, 6),
        target_size=16,
        task_type="t2v",
    )
    parts = _no_text(2, transformer=transformer, scheduler=_flow(shift=7.0))
    parts |= {"vae": _hunyuan_15_vae(), "guider": ClassifierFreeGuidance(guidance_scale=6.0)}
    pipe = d.HunyuanVideo15Pipeline(**parts)
    pipe.vision_num_semantic_tokens = 9
    return pipe


@_tiny("motif", "MotifVideoTransformer3DModel", inputs=_embeds(16, mask=_MASKED), **_VIDEO)
def _motif() -> DiffusionPipeline:
    transformer = _model(
        d.MotifVideoTransformer3DModel,
        in_channels=9,
        out_channels=4,
        **_HEADS,
        num_layers=2,
        num_single_layers=2,
        num_decoder_layers=1,
        text_embed_dim=16,
        rope_axes_dim=(4, 6, 6),
        enable_text_cross_attention_dual=True,
        enable_text_cross_attention_single=True,
    )
    parts = _no_text(transformer=transformer, scheduler=_flow(shift=7.0))
    return d.MotifVideoPipeline(**(parts | {"vae": _wan_vae(), "guider": AdaptiveProjectedGuidance()}))


@_tiny(
    "framepack",
    "HunyuanVideoFramepackTransformer3DModel",
    inputs=_with(
        _embeds(16, mask=_MASKED, negative=False, pooled_prompt_embeds=8),
        lambda batch: {"image": _image(batch, 32)},
    ),
    height=32,
    width=32,
    num_frames=9,
    latent_window_size=3,
)
def _framepack() -> DiffusionPipeline:
    transformer = _model(
        d.HunyuanVideoFramepackTransformer3DModel,
        **_LATENT,
        **_HEADS,
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
    vae = _model(
        d.AutoencoderKLHunyuanVideo,
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
    )
    siglip = transformers.SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    parts = _no_text(2, transformer=transformer, scheduler=_flow(shift=7.0))
    parts |= {
        "vae": vae,
        "image_encoder": _model(transformers.SiglipVisionModel, siglip),
        "feature_extractor": transformers.SiglipImageProcessor(size={"height": 32, "width": 32}),
    }
    return d.HunyuanVideoFramepackPipeline(**parts)


def _ltx2_vae() -> Any:
    return _model(
        d.AutoencoderKLLTX2Video,
        latent_channels=4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_residual=(False,),
        upsample_factor=(1,),
    )


@_tiny(
    "ltx2",
    "LTX2VideoTransformer3DModel",
    inputs=_embeds(32, mask=_MASKED),
    spatio_temporal_guidance_blocks=[1],
    frame_rate=24.0,
    **_VIDEO,
)
def _ltx2() -> DiffusionPipeline:
    transformer = _model(
        d.LTX2VideoTransformer3DModel,
        **_LATENT,
        **_HEADS,
        cross_attention_dim=32,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=16,
        num_layers=2,
        caption_channels=16,
        rope_type="split",
    )
    connectors = _model(
        LTX2TextConnectors,
        caption_channels=16,
        text_proj_in_factor=2,
        video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=8,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=8,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=32,
        rope_type="split",
    )
    parts = _no_text(transformer=transformer, scheduler=_flow_dynamic())
    audio_vae = _model(
        d.AutoencoderKLLTX2Audio,
        base_channels=4,
        ch_mult=(1,),
        num_res_blocks=1,
        latent_channels=2,
        mel_bins=8,
    )
    parts |= {"vae": _ltx2_vae(), "audio_vae": audio_vae}
    return d.LTX2Pipeline(**parts, connectors=connectors, vocoder=None)


@_tiny(
    "kandinsky6",
    "Kandinsky6Transformer3DModel",
    inputs=_pairs(prompt_embeds=(TOKENS, 16), pooled_prompt_embeds=(16,)),
    **_VIDEO,
)
def _kandinsky6() -> DiffusionPipeline:
    transformer = _model(
        d.Kandinsky6Transformer3DModel,
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=16,
        time_dim=16,
        model_dim=32,
        ff_dim=64,
        num_text_blocks=2,
        num_visual_blocks=2,
        axes_dims=(4, 6, 6),
        in_audio_dim=4,
        out_audio_dim=4,
    )
    audio_vae = _model(
        d.MMAudioVAE, mel_bins=8, latent_channels=4, hidden_channels=8, channel_multipliers=(1, 2)
    )
    vocoder = _model(
        d.MMAudioVocoder,
        num_mels=8,
        upsample_initial_channel=8,
        upsample_rates=(2,),
        upsample_kernel_sizes=(4,),
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3, 5),),
    )
    parts = _no_text(2, transformer=transformer, scheduler=_flow(shift=5.0))
    return d.Kandinsky6TI2VAPipeline(**parts, audio_vae=audio_vae, vocoder=vocoder)


@_tiny(
    "kandinsky6-sr",
    "Kandinsky6SRTransformer3DModel",
    inputs=lambda batch: {"video": torch.stack([_image(5, 64)] * batch)},
    output_type="pt",
    resolution_scale=2,
)
def _kandinsky6_sr() -> DiffusionPipeline:
    transformer = _model(
        d.Kandinsky6SRTransformer3DModel,
        in_visual_dim=4,
        out_visual_dim=4,
        time_dim=16,
        model_dim=32,
        ff_dim=64,
        num_visual_blocks=2,
        axes_dims=(4, 6, 6),
        tile_sizes=((128, 128),),
    )
    vae = _model(
        d.Kandinsky6SRVAE,
        latent_channels=4,
        encoder_block_out_channels=(8,) * 5,
        decoder_block_out_channels=(8,) * 5,
        layers_per_block=1,
    )
    return d.Kandinsky6SRPipeline(transformer=transformer, vae=vae, scheduler=_flow(shift=5.0))


@_tiny(
    "i2vgen-xl",
    "I2VGenXLUNet",
    inputs=_with(_embeds(16), lambda batch: {"image": _image(batch, 32)}),
    height=32,
    width=32,
    num_frames=3,
)
def _i2vgen_xl() -> DiffusionPipeline:
    unet = _unet3d(
        d.I2VGenXLUNet,
        "3D",
        block_out_channels=(8, 16, 16, 16),
        norm_num_groups=4,
        attention_head_dim=8,
        layers_per_block=2,
    )
    return I2VGenXLPipeline(
        vae=_vae(),
        text_encoder=None,
        tokenizer=None,
        image_encoder=_clip_vision(),
        feature_extractor=_clip_images(),
        unet=unet,
        scheduler=_ddim(),
    )


@_tiny(
    "dreamlite",
    "DreamLiteUNetModel",
    single=True,
    inputs=lambda batch: {"prompt": PROMPT},
    height=32,
    width=32,
)
def _dreamlite() -> DiffusionPipeline:
    unet = _model(
        d.DreamLiteUNetModel,
        block_out_channels=(8, 16, 16),
        cross_attention_dim=16,
        attention_head_dim=8,
        norm_num_groups=4,
        ff_mult=2,
    )
    vae = _model(
        d.AutoencoderTiny,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    # It takes no embeddings, and asks the text encoder only for its dtype when they come from elsewhere.
    pipe = d.DreamLitePipeline(
        text_encoder=_clip(), tokenizer=None, processor=None, vae=vae, unet=unet, scheduler=_flow_dynamic()
    )
    pipe.encode_prompt = lambda mode, prompts, **rest: (_randn(len(prompts), TOKENS, 16), _mask(len(prompts)))
    return pipe


@_tiny(
    "ideogram4",
    "Ideogram4Transformer2DModel",
    inputs=lambda batch: {"prompt": [PROMPT] * batch},
    height=64,
    width=64,
    guidance_scale=7.0,
    guidance_schedule=None,
    max_sequence_length=TOKENS,
)
def _ideogram4() -> DiffusionPipeline:
    transformer, unconditional = (
        _model(
            d.Ideogram4Transformer2DModel,
            in_channels=16,
            num_layers=2,
            **_HEADS,
            intermediate_size=32,
            adaln_dim=16,
            llm_features_dim=16,
            mrope_section=(4, 2, 2),
        )
        for _ in range(2)
    )
    parts = _no_text(transformer=transformer, scheduler=_flow(shift=1.0))
    pipe = d.Ideogram4Pipeline(**parts, unconditional_transformer=unconditional)

    def encode_prompt(prompt: list[str], grid_h: int, grid_w: int, **rest: Any) -> tuple[torch.Tensor, ...]:
        rows = len(prompt)
        embeds = torch.cat([_randn(rows, TOKENS, 16), torch.zeros(rows, grid_h * grid_w, 16)], dim=1)
        embeds[:, :2] = 0.0  # padding is on the left
        ids = pipe._prepare_ids([TOKENS - 2] * rows, grid_h, grid_w, TOKENS, torch.device("cpu"))
        return embeds, *ids

    pipe.encode_prompt = encode_prompt  # it takes no embeddings
    return pipe


class _Processor:
    """Stands for Qwen's processor, asked for the length of a system prompt and for the number of a token."""

    tokenizer = SimpleNamespace(encode=lambda text: [0])

    def apply_chat_template(self, *_: Any, **__: Any) -> list[list[int]]:
        """Return the tokens of a prompt."""
        return [[0]]


@_tiny(
    "qwenimage21",
    "QwenImage21Transformer2DModel",
    inputs=_with(_pairs(prompt_embeds=(TOKENS, 16)), _masks("prompt_embeds_mask", dtype=torch.bool)),
    height=64,
    width=64,
    true_cfg_scale=4.0,
)
def _qwenimage21() -> DiffusionPipeline:
    transformer = _model(
        d.QwenImage21Transformer2DModel,
        **_LATENT,
        num_layers=2,
        **_HEADS,
        context_in_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    return d.QwenImage21Pipeline(
        scheduler=_flow_dynamic(),
        vae=None,
        text_encoder=None,
        processor=_Processor(),
        transformer=transformer,
    )


@_tiny("bria-fibo", "BriaFiboTransformer2DModel", inputs=_prompt, height=128, width=128)
def _bria_fibo() -> DiffusionPipeline:
    transformer = _model(
        d.BriaFiboTransformer2DModel,
        in_channels=4,
        num_layers=2,
        num_single_layers=2,
        **_HEADS,
        joint_attention_dim=32,
        text_encoder_dim=16,
        axes_dims_rope=[4, 6, 6],
    )
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
    return d.BriaFiboPipeline(
        transformer=transformer,
        scheduler=_flow_dynamic(),
        vae=_wan_vae(),
        text_encoder=_model(transformers.SmolLM3ForCausalLM, config),
        tokenizer=_t5_tokenizer(),
    )


@_tiny(
    "bria-fibo2",
    "BriaFibo2Transformer2DModel",
    inputs=_with(_pairs(prompt_embeds=(3, TOKENS, 16)), _masks("prompt_embeds_mask", dtype=torch.bool)),
    height=64,
    width=64,
)
def _bria_fibo2() -> DiffusionPipeline:
    transformer = _model(
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
        transformer=transformer, scheduler=_flow_dynamic(), vae=None, text_encoder=None, processor=None
    )


@_tiny("anyflow-far", "AnyFlowFARTransformer3DModel", inputs=_embeds(16, negative=False), **_VIDEO)
def _anyflow_far() -> DiffusionPipeline:
    transformer = _model(
        d.AnyFlowFARTransformer3DModel, **_WAN, rope_max_seq_len=32, chunk_partition=(1, 1, 1)
    )
    scheduler = d.FlowMapEulerDiscreteScheduler(num_train_timesteps=1000, shift=5.0)
    return d.AnyFlowFARPipeline(**_no_text(transformer=transformer, scheduler=scheduler))


def _animated(batch: int) -> dict[str, Any]:
    """Return a person, and the poses and faces of a video."""
    return {"image": _pictures(1)[0], "pose_video": _pictures(9), "face_video": _pictures(9, side=16)}


@_tiny(
    "wan-animate",
    "WanAnimateTransformer3DModel",
    single=True,
    inputs=_with(_embeds(16), _animated),
    height=32,
    width=32,
    segment_frame_length=9,
    guidance_scale=2.0,
)
def _wan_animate() -> DiffusionPipeline:
    transformer = _model(
        d.WanAnimateTransformer3DModel,
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=12,
        latent_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        image_dim=16,
        rope_max_seq_len=32,
        motion_encoder_channel_sizes={"4": 16, "8": 16, "16": 16},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )
    parts = _no_text(transformer=transformer, scheduler=_flow(shift=5.0))
    processor = transformers.CLIPImageProcessor(crop_size=32, size=32)
    parts |= {"vae": _wan_vae(), "image_encoder": _clip_vision(), "image_processor": processor}
    return d.WanAnimatePipeline(**parts)


@_tiny(
    "longcat-audio",
    "LongCatAudioDiTTransformer",
    inputs=lambda batch: {"prompt": [PROMPT] * batch},
    audio_duration_s=0.5,
)
def _longcat_audio() -> DiffusionPipeline:
    transformer = _model(
        d.LongCatAudioDiTTransformer, dit_dim=32, dit_depth=2, dit_heads=2, dit_text_dim=16, latent_dim=4
    )
    vae = _model(
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
        text_encoder=_model(transformers.UMT5EncoderModel, config),
        tokenizer=_t5_tokenizer(),
        transformer=transformer,
    )


@_tiny(
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
    transformer = _model(
        d.AceStepTransformer1DModel,
        num_hidden_layers=2,
        in_channels=12,
        audio_acoustic_hidden_dim=4,
        **common,
    )
    encoder = _model(
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
        text_encoder=_model(transformers.Qwen3Model, config),
        tokenizer=_t5_tokenizer(),
        transformer=transformer,
        condition_encoder=encoder,
        scheduler=d.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )


def _joyimage_transformer(cls: Any) -> Any:
    return _model(
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


@_tiny(
    "joyimage",
    "JoyImageEditTransformer3DModel",
    inputs=_with(_embeds(16, mask="prompt_embeds_mask"), lambda batch: {"image": _pictures(batch)}),
)
def _joyimage() -> DiffusionPipeline:
    transformer = _joyimage_transformer(d.JoyImageEditTransformer3DModel)
    parts = _no_text(transformer=transformer, scheduler=_flow(), processor=None)
    pipe = d.JoyImageEditPipeline(**(parts | {"vae": _wan_vae()}))
    _small_images(pipe.vae_image_processor)
    return pipe


@_tiny(
    "joyimage-plus",
    "JoyImageEditPlusTransformer3DModel",
    inputs=lambda batch: {"prompt": [PROMPT] * batch, "images": [_pictures(2)] * batch},
)
def _joyimage_plus() -> DiffusionPipeline:
    transformer = _joyimage_transformer(d.JoyImageEditPlusTransformer3DModel)
    parts = _no_text(transformer=transformer, scheduler=_flow(), processor=None)
    pipe = d.JoyImageEditPlusPipeline(**(parts | {"vae": _wan_vae()}))
    _small_images(pipe.image_processor)
    # With images it wants words even where it is given embeddings.
    pipe.encode_prompt_multiple_images = lambda prompt, **rest: (
        _randn(len(prompt), TOKENS, 16, seed=len(prompt[0])),
        _mask(len(prompt)),
    )
    return pipe


@_tiny(
    "sana-wm",
    "SanaWMTransformer3DModel",
    single=True,
    inputs=_with(
        _embeds(16, mask=_MASKED),
        lambda batch: {"prompt": PROMPT, "image": _pictures(1)[0], "c2w": np.stack([np.eye(4)] * 17)},
    ),
    intrinsics=[16.0, 16.0, 16.0, 16.0],
    height=32,
    width=32,
    num_frames=17,
)
def _sana_wm() -> DiffusionPipeline:
    transformer = _model(
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
    parts = _no_text(transformer=transformer, scheduler=_flow())
    return d.SanaWMPipeline(**(parts | {"vae": _ltx2_vae()}))


class _ChatTokenizer:
    """Stands for Qwen's tokenizer with its chat template: a token for each character."""

    eos_token_id = 126

    def convert_tokens_to_ids(self, token: str) -> int:
        """Return the number of the only special token asked for."""
        return 127

    def apply_chat_template(self, conversation: list[dict[str, str]], **_: Any) -> SimpleNamespace:
        """Return the tokens of a conversation."""
        return SimpleNamespace(input_ids=[ord(a) % 126 for turn in conversation for a in turn["content"]])


@_tiny(
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
    transformer = _model(
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
    scheduler = _flow_solver(d.UniPCMultistepScheduler, 3.0)
    return d.Cosmos3OmniPipeline(
        transformer=transformer,
        text_tokenizer=_ChatTokenizer(),
        vae=_wan_vae(),
        scheduler=scheduler,
        enable_safety_checker=False,
    )
