"""What tiny pipelines share: random models, inputs, autoencoders, text encoders and schedulers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers as d
import torch
import transformers
from diffusers.utils.pil_utils import numpy_to_pil
from packaging.version import Version
from torch import nn

Inputs = Callable[[int], dict[str, Any]]  # of the number of rows
TOKENS = 7
PROMPT = "a small red fox"
MASKED = "prompt_attention_mask"
HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}
LATENT = {"in_channels": 4, "out_channels": 4}
VIDEO = {"height": 64, "width": 64, "num_frames": 9}


def generator(seed: int) -> torch.Generator:
    """Return a generator of random numbers."""
    return torch.Generator().manual_seed(seed)


def random_model(
    cls: Callable[..., nn.Module], *args: Any, unset: tuple[str, ...] = (), **config: Any
) -> Any:
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


def randn(*shape: int, seed: int = 1) -> torch.Tensor:
    """Return normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=generator(seed))


def images(batch: int, side: int, seed: int = 2) -> torch.Tensor:
    """Return images in [0, 1]."""
    return torch.rand(batch, 3, side, side, generator=generator(seed))


def pictures(number: int, side: int = 32) -> list[Any]:
    """Return images for the pipelines that take no tensors."""
    return numpy_to_pil(images(number, side).permute(0, 2, 3, 1).numpy())


def embeddings(
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
    embeds = pairs(negative=negative, prompt_embeds=(tokens, width), **vectors)
    return together(embeds, masks(mask, tokens, negative=negative)) if mask else embeds


def masks(
    name: str, tokens: int = TOKENS, *, negative: bool = True, dtype: torch.dtype = torch.long
) -> Inputs:
    """Return as inputs attention masks for and against."""
    names = [name, f"negative_{name}"][: 1 + negative]
    return lambda batch: {name: token_mask(batch, tokens).to(dtype) for name in names}


def pairs(*, negative: bool = True, **shapes: tuple[int, ...]) -> Inputs:
    """Return as inputs tensors of these shapes, one a row, and others named `negative_`."""
    prefixes = ("", "negative_")[: 1 + negative]
    names = [(prefix + name, shape) for prefix in prefixes for name, shape in shapes.items()]
    return lambda batch: {
        name: randn(batch, *shape, seed=seed) for seed, (name, shape) in enumerate(names, start=10)
    }


def two_embeddings(mask: str) -> Inputs:
    """Return the inputs of a pipeline with two text encoders, each with its own mask."""
    first, second = embeddings(16, mask=mask), embeddings(24, 9, mask=mask)
    return lambda batch: first(batch) | {f"{name}_2": value for name, value in second(batch).items()}


def token_mask(batch: int, tokens: int = TOKENS) -> torch.Tensor:
    """Return an attention mask that hides the last two tokens."""
    return (torch.arange(tokens) < tokens - 2).long().repeat(batch, 1)


def together(*inputs: Inputs) -> Inputs:
    """Return all these inputs together."""
    return lambda batch: {name: value for some in inputs for name, value in some(batch).items()}


def an_image(name: str = "image", side: int = 32, seed: int = 2) -> Inputs:
    """Return as input an image a row, with values in [0, 1]."""
    return lambda batch: {name: images(batch, side, seed)}


def masked_pictures(batch: int) -> dict[str, Any]:
    """Return the same for the pipelines that take no tensors."""
    return {"image": pictures(batch), "mask_image": [picture.convert("L") for picture in pictures(batch)]}


def a_picture(batch: int) -> dict[str, Any]:
    """Return as input one image for the pipelines that take no tensors."""
    return {"image": pictures(1, side=64)[0]}


def a_video(name: str = "video") -> Inputs:
    """Return as input one video for the pipelines that take no tensors."""
    return lambda batch: {name: pictures(9, side=64)}


def masked_images(batch: int) -> dict[str, Any]:
    """Return as inputs images and where to paint anew."""
    return {"image": images(batch, 32), "mask_image": (images(batch, 32, seed=3)[:, :1] > 0.5).float()}


def only_prompts(batch: int) -> dict[str, Any]:
    """Return words as input, none against."""
    return {"prompt": [PROMPT] * batch}


def prompts(batch: int) -> dict[str, Any]:
    """Return inputs that are words."""
    return {"prompt": [PROMPT] * batch, "negative_prompt": ["blue"] * batch}


def no_text(number: int = 1, **parts: Any) -> dict[str, Any]:
    """Return the parts of a pipeline that has neither a VAE nor a number of text encoders."""
    ends = ["", *(f"_{place}" for place in range(2, number + 1))]
    names = [name + end for end in ends for name in ("text_encoder", "tokenizer")]
    return {"vae": None, **dict.fromkeys(names), **parts}


def kl_vae(channels: int = 4, halvings: int = 1, **config: Any) -> Any:
    """Build a VAE with a scale factor of two to the power of `halvings`."""
    return random_model(
        d.AutoencoderKL,
        **{
            "block_out_channels": (8,) * (halvings + 1),
            "down_block_types": ("DownEncoderBlock2D",) * (halvings + 1),
            "up_block_types": ("UpDecoderBlock2D",) * (halvings + 1),
            "layers_per_block": 1,
            "latent_channels": channels,
            "norm_num_groups": 4,
            "sample_size": 16,
            "force_upcast": False,
            **config,
        },
    )


def movq_vae(**config: Any) -> Any:
    """Build a VQ autoencoder with a scale factor of 2."""
    return random_model(
        d.VQModel,
        **{
            "block_out_channels": (32, 32),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "latent_channels": 4,
            "norm_num_groups": 4,
            "num_vq_embeddings": 12,
            "sample_size": 16,
            "norm_type": "spatial",
            "vq_embed_dim": 4,
            **config,
        },
    )


def clip_tokenizer() -> Any:
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


def clip_text(width: int = 16, *, projection: bool = False) -> Any:
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
    return random_model(cls, config)


def clip_vision(cls: Any = transformers.CLIPVisionModelWithProjection, layers: int = 2, **others: Any) -> Any:
    """Build a CLIP image encoder."""
    config = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    return random_model(cls, config, **others)


def clip_images() -> Any:
    """Return what prepares images in [0, 1] for that encoder."""
    return transformers.CLIPImageProcessor(crop_size=32, size=32, do_rescale=False)


class TooOldError(ImportError):
    """A tiny pipeline needs a newer diffusers or transformers than is installed."""


def t5_tokenizer() -> Any:
    """Build a T5 tokenizer that knows single letters."""
    if Version(transformers.__version__) < Version("5"):
        raise TooOldError("a T5 tokenizer is not made of a list before transformers 5")
    letters = [chr(code) for code in range(33, 127)]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((a, -4.0) for a in letters)]
    return transformers.T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=512)


def t5_text(width: int = 16) -> Any:
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
    return random_model(transformers.T5EncoderModel, config)


def ddim(**config: Any) -> Any:
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


def euler() -> Any:
    """Return Stable Diffusion XL's Euler scheduler."""
    return d.EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        timestep_spacing="leading",
    )


def flow(**config: Any) -> Any:
    """Return the flow-matching scheduler of most transformers."""
    return d.FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **config})


def flow_dynamic() -> Any:
    """Return the flow-matching scheduler whose shift follows the number of tokens."""
    return flow(use_dynamic_shifting=True)


def flow_solver(cls: Any, shift: float) -> Any:
    """Return a multistep solver set for flow matching."""
    return cls(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
