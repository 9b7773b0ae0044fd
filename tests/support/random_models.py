"""Tiny denoisers of diffusers with random configs, and inputs for them, for properties to draw.

What a strategy leaves out diffusers itself does not run; each time a comment says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from hypothesis import strategies as st
from torch import nn

import zoo

Config = dict[str, Any]


@dataclass(frozen=True)
class Labels:
    """An input of one class label a row, below `count`."""

    count: int

    def make(self, rows: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
        """Return it for some rows."""
        return torch.randint(self.count, (rows,), generator=zoo.generator(seed))


@dataclass(frozen=True)
class Numbers:
    """An input of random numbers: `shape` is that of a row, or of all of it where samples share it."""

    shape: tuple[int, ...]
    is_shared: bool = False

    def make(self, rows: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
        """Return it for some rows."""
        shape = self.shape if self.is_shared else (rows, *self.shape)
        return torch.randn(shape, generator=zoo.generator(seed)).to(dtype)


@dataclass(frozen=True)
class Mask:
    """An input of ones and zeros, the first of each row a one."""

    length: int

    def make(self, rows: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
        """Return it for some rows."""
        mask = torch.rand(rows, self.length, generator=zoo.generator(seed)) < 0.7
        mask[:, 0] = True
        return mask.to(dtype)


Input = Labels | Numbers | Mask


@dataclass(frozen=True)
class Architecture:
    """A model by its class and config, and what it takes.

    Attributes:
        kind: class name in diffusers.
        shape: of a sample, without the batch.
        config: arguments of the class.
        inputs: the conditioning by name, dotted where it is nested.
        variance: whether it predicts a variance too, in twice the channels.
    """

    kind: str
    shape: tuple[int, ...]
    config: Config
    inputs: Mapping[str, Input] = field(default_factory=dict)
    variance: bool = False

    def build(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """Return the model with fixed random weights, in eval mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model: nn.Module = getattr(diffusers, self.kind)(**self.config).eval()
            # Transformers start with zero modulation: without noise no block would matter.
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.05 * torch.randn_like(parameter)
        return model.to(dtype)

    def sample(self, batch: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return initial noise."""
        return torch.randn(batch, *self.shape, generator=zoo.generator(1)).to(dtype)

    def conditioning(self, rows: int, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
        """Return the other arguments of the model."""
        made: dict[str, Any] = {}
        for seed, (name, drawn) in enumerate(self.inputs.items()):
            group, _, inner = name.rpartition(".")
            (made.setdefault(group, {}) if group else made)[inner] = drawn.make(rows, dtype, seed)
        return made

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the inputs that all samples share."""
        return tuple(name for name, drawn in self.inputs.items() if getattr(drawn, "is_shared", False))

    @property
    def looks_timesteps_up(self) -> bool:
        """Whether its timesteps are rows of a table: whole numbers, below the table's length."""
        return self.config.get("time_embedding_type") == "learned"

    @property
    def divides_by_timesteps(self) -> bool:
        """Whether its prediction has the dtype of the timesteps where that is the wider one."""
        return self.kind == "UNet2DModel" and self.config.get("time_embedding_type") == "fourier"

    @property
    def is_single_only(self) -> bool:
        """Whether it runs in float32 only.

        `UNet2DModel` hands labels on as float32 to layers that may have another dtype.
        """
        told = self.config.get("class_embed_type")
        return self.divides_by_timesteps or (self.kind == "UNet2DModel" and told == "timestep")


booleans = st.booleans()
few = st.integers(1, 3)
# Not 8: torch norms no group of one channel and one pixel, which 8 channels have at the lowest level.
norm_groups = st.sampled_from((1, 2, 4))
activations = st.sampled_from(("silu", "mish", "gelu", "relu"))


def rarely(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw `None` more often than not."""
    return st.one_of(st.none(), st.none(), strategy)


@st.composite
def chosen(draw: st.DrawFn, **choices: st.SearchStrategy[Any]) -> Config:
    """Draw some of these options; the others stay as diffusers has them."""
    return draw(st.fixed_dictionaries({}, optional=choices))


# -- U-Nets


@st.composite
def _levels(
    draw: st.DrawFn, down: tuple[str, ...], up: tuple[str, ...], unit: int = 8, most: int = 3
) -> Config:
    """Draw the block types, widths and depths of a U-Net of up to `most` levels.

    Widths are multiples of `unit`.
    """
    count = draw(st.integers(1, most))
    widths = draw(st.lists(st.sampled_from((unit, 2 * unit)), min_size=count, max_size=count))

    def types(kinds: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(draw(st.lists(st.sampled_from(kinds), min_size=count, max_size=count)))

    return {
        "down_block_types": types(down),
        "up_block_types": types(up),
        "block_out_channels": tuple(widths),
        "layers_per_block": draw(st.integers(1, 2)),
    }


def _size(draw: st.DrawFn) -> int | tuple[int, int]:
    """Draw an image size that two downsamplings halve."""
    return draw(st.sampled_from((4, 8, (8, 4), (4, 12))))


def _shape(channels: int, size: int | tuple[int, int]) -> tuple[int, ...]:
    return (channels, size, size) if isinstance(size, int) else (channels, *size)


PLAIN_DOWN = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D")
PLAIN_UP = ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D")
SKIP_DOWN = ("SkipDownBlock2D", "AttnSkipDownBlock2D")
SKIP_UP = ("SkipUpBlock2D", "AttnSkipUpBlock2D")


@st.composite
def unets(draw: st.DrawFn, variance: bool = False) -> Architecture:
    """Draw a `UNet2DModel`, one with skips of its own now and then."""
    is_skip = not variance and draw(st.integers(0, 7)) == 0
    # Those blocks have groups of 32 channels and turn samples to 3 channels at every level.
    channels, unit = (3, 32) if is_skip else (draw(few), 8)
    kinds = (SKIP_DOWN, SKIP_UP) if is_skip else (PLAIN_DOWN, PLAIN_UP)
    size = _size(draw)
    config = {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels * (1 + variance),
        **draw(_levels(*kinds, unit=unit)),
        "norm_num_groups": draw(norm_groups),
        **draw(
            chosen(
                center_input_sample=booleans,
                flip_sin_to_cos=booleans,
                freq_shift=st.integers(0, 1),
                mid_block_type=st.none(),
                mid_block_scale_factor=st.sampled_from((1, 1.5)),
                downsample_padding=st.integers(0, 1),
                downsample_type=st.sampled_from(("conv", "resnet")),
                upsample_type=st.sampled_from(("conv", "resnet")),
                dropout=st.just(0.1),
                act_fn=activations,
                attention_head_dim=st.sampled_from((4, 8, None)),
                attn_norm_num_groups=st.sampled_from((1, 4)),
                resnet_time_scale_shift=st.sampled_from(("default", "scale_shift")),
                add_attention=booleans,
                time_embedding_dim=st.sampled_from((12, 32)),
            )
        ),
        **draw(_time_embeddings),
    }
    labels, inputs = draw(_classes(config))
    return Architecture("UNet2DModel", _shape(channels, size), {**config, **labels}, inputs, variance)


_time_embeddings: st.SearchStrategy[Config] = st.sampled_from(
    (
        {},
        {},
        {"time_embedding_type": "fourier"},
        {"time_embedding_type": "learned", "num_train_timesteps": 1000},
    )
)


@st.composite
def _classes(draw: st.DrawFn, config: Config) -> tuple[Config, Mapping[str, Input]]:
    """Draw how a U-Net is told a class."""
    how = draw(st.sampled_from((None, "table", "timestep", "identity")))
    if how == "timestep" and config.get("time_embedding_type") == "learned":
        how = "table"  # diffusers looks the labels up in the table of timesteps, as floats
    if how is None:
        return {}, {}
    if how == "table":
        count = draw(st.integers(2, 12))
        return {"num_class_embeds": count}, {"class_labels": Labels(count)}
    if how == "timestep":
        return {"class_embed_type": how}, {"class_labels": Labels(9)}
    width = config.get("time_embedding_dim") or 4 * config["block_out_channels"][0]
    return {"class_embed_type": how}, {"class_labels": Numbers((width,))}


CROSS_DOWN = (*PLAIN_DOWN, "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "SimpleCrossAttnDownBlock2D")
CROSS_UP = (*PLAIN_UP, "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "SimpleCrossAttnUpBlock2D")
SIZED_UP = ("UpBlock2D", "CrossAttnUpBlock2D")
MIDDLES = ("UNetMidBlock2DCrossAttn", "UNetMidBlock2DSimpleCrossAttn", "UNetMidBlock2D", None)


PROJECTED = 6 * 4 + 5
"""Width of what is projected beside the text: six numbers of width 4 and a text of width 5."""


@st.composite
def text_unets(draw: st.DrawFn, variance: bool = False) -> Architecture:
    """Draw a `UNet2DConditionModel`; odd sizes occur, for which it tells its upsamplers the size."""
    channels, tokens, width = draw(few), draw(st.sampled_from((1, 3, 7))), draw(st.sampled_from((6, 12)))
    size = draw(st.sampled_from((4, 8, 6, (8, 4), (5, 8))))
    # The other upsampling blocks take no size to come out at, and double what they get.
    halves = size in (4, 8, (8, 4))
    levels = draw(_levels(CROSS_DOWN, CROSS_UP if halves else SIZED_UP))
    config = {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels * (1 + variance),
        **levels,
        "cross_attention_dim": width,
        "attention_head_dim": draw(st.sampled_from((2, 4, 8))),
        "norm_num_groups": draw(norm_groups),
        **draw(
            chosen(
                center_input_sample=booleans,
                flip_sin_to_cos=booleans,
                freq_shift=st.integers(0, 1),
                mid_block_type=st.sampled_from(MIDDLES),
                only_cross_attention=booleans,
                downsample_padding=st.integers(0, 1),
                mid_block_scale_factor=st.sampled_from((1, 1.5)),
                dropout=st.just(0.1),
                act_fn=activations,
                transformer_layers_per_block=st.integers(1, 2),
                use_linear_projection=booleans,
                upcast_attention=booleans,
                resnet_time_scale_shift=st.sampled_from(("default", "scale_shift")),
                resnet_skip_time_act=booleans,
                resnet_out_scale_factor=st.sampled_from((1.0, 1.4)),
                time_embedding_dim=st.sampled_from((16, 32)),
                time_embedding_act_fn=activations,
                timestep_post_act=activations,
                time_embedding_type=st.sampled_from(("positional", "fourier")),
                conv_in_kernel=st.sampled_from((1, 3, 5)),
                conv_out_kernel=st.sampled_from((1, 3)),
            )
        ),
    }
    text, inputs = draw(_texts(width, tokens, config))
    for told in (_told_classes, _told_more):
        added, more = draw(told(config))
        config, inputs = {**config, **added}, {**inputs, **more}
    return Architecture("UNet2DConditionModel", _shape(channels, size), {**config, **text}, inputs, variance)


@st.composite
def _texts(draw: st.DrawFn, width: int, tokens: int, config: Config) -> tuple[Config, dict[str, Input]]:
    """Draw how a text comes: as it is or projected, with a mask or without."""
    projected = draw(rarely(st.just(10)))
    named = {"encoder_hid_dim": projected, "encoder_hid_dim_type": "text_proj"}
    settings = {} if projected is None else named
    inputs: dict[str, Input] = {"encoder_hidden_states": Numbers((tokens, projected or width))}
    # Simple blocks lengthen a mask for the image's own tokens, also where they attend to the text only.
    if not config.get("only_cross_attention") and draw(st.integers(0, 3)) == 0:
        inputs["encoder_attention_mask"] = Mask(tokens)
    return settings, inputs


@st.composite
def _told_classes(draw: st.DrawFn, config: Config) -> tuple[Config, Mapping[str, Input]]:
    """Draw how a U-Net with text is told a class beside it."""
    how = draw(rarely(st.sampled_from(("own", "projection", "simple_projection"))))
    if how is None:
        return {}, {}
    if how == "own":
        half = 2 if config.get("time_embedding_type") == "fourier" else 4
        width = config.get("time_embedding_dim") or half * config["block_out_channels"][0]
        return draw(_classes({**config, "time_embedding_dim": width}))
    settings = {"class_embed_type": how, "projection_class_embeddings_input_dim": PROJECTED}
    inputs = {"class_labels": Numbers((PROJECTED,))}
    return {**settings, **draw(chosen(class_embeddings_concat=booleans))}, inputs


@st.composite
def _told_more(draw: st.DrawFn, config: Config) -> tuple[Config, Mapping[str, Input]]:
    """Draw what else a U-Net with text is told."""
    # Embeddings beside which those of a class stand are too wide for the others to be added.
    sums = () if config.get("class_embeddings_concat") else ("text", "text_time")
    how = draw(rarely(st.sampled_from((*sums, "guidance"))))
    if how is None:
        return {}, {}
    if how == "text":
        return {"addition_embed_type": how, "addition_embed_type_num_heads": 2}, {}
    if how == "guidance":
        return {"time_cond_proj_dim": 5}, {"timestep_cond": Numbers((5,))}
    pooled = {"addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": PROJECTED}
    inputs = {"added_cond_kwargs.text_embeds": Numbers((5,)), "added_cond_kwargs.time_ids": Numbers((6,))}
    return {"addition_embed_type": how, **pooled}, inputs


@st.composite
def video_unets(draw: st.DrawFn, variance: bool = False) -> Architecture:
    """Draw a `UNet3DConditionModel`, which makes rows of the frames of a sample."""
    channels, frames, size = draw(few), draw(few), draw(st.sampled_from((4, 8)))
    levels = draw(
        _levels(("DownBlock3D", "CrossAttnDownBlock3D"), ("UpBlock3D", "CrossAttnUpBlock3D"), most=2)
    )
    config = {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels * (1 + variance),
        **levels,
        "layers_per_block": 1,
        "cross_attention_dim": 6,
        "attention_head_dim": draw(st.sampled_from((4, 8))),
        "norm_num_groups": draw(st.sampled_from((2, 4))),
        **draw(chosen(act_fn=activations, downsample_padding=st.integers(0, 1))),
    }
    shape = (channels, frames, size, size)
    text = {"encoder_hidden_states": Numbers((draw(few), 6))}
    return Architecture("UNet3DConditionModel", shape, config, text, variance)


# -- transformers


@st.composite
def _heads(draw: st.DrawFn, widths: tuple[int, ...] = (4, 8, 12)) -> tuple[Config, int]:
    """Draw heads and their width; return also the width of all of them."""
    heads, width = draw(few), draw(st.sampled_from(widths))
    return {"num_attention_heads": heads, "attention_head_dim": width}, heads * width


FEED_FORWARDS = st.sampled_from(("gelu", "gelu-approximate", "geglu", "geglu-approximate"))


@st.composite
def dits(draw: st.DrawFn, variance: bool = False) -> Architecture:
    """Draw a `DiTTransformer2DModel`."""
    heads, _ = draw(_heads())
    channels, size, classes = draw(few), draw(st.sampled_from((4, 8))), draw(st.integers(1, 12))
    config = {
        **heads,
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels * (1 + variance),
        "num_layers": draw(st.integers(1, 4)),
        "num_embeds_ada_norm": classes,
        **draw(
            chosen(
                patch_size=st.sampled_from((1, 2, 4)),
                activation_fn=FEED_FORWARDS,
                attention_bias=booleans,
                dropout=st.just(0.1),
                upcast_attention=booleans,
                norm_eps=st.sampled_from((1e-6, 1e-5)),
            )
        ),
    }
    labels = {"class_labels": Labels(classes + 1)}
    return Architecture("DiTTransformer2DModel", _shape(channels, size), config, labels, variance)


@st.composite
def pixarts(draw: st.DrawFn, variance: bool = False) -> Architecture:
    """Draw a `PixArtTransformer2DModel`."""
    heads, inner = draw(_heads())
    channels, size, tokens = draw(few), draw(st.sampled_from((4, 8))), draw(st.sampled_from((1, 3, 7)))
    caption = draw(rarely(st.just(10)))
    sizes = draw(booleans) and inner % 3 == 0  # embeddings of sizes are a third of the width each
    config = {
        **heads,
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels * (1 + variance),
        "num_layers": draw(few),
        "cross_attention_dim": inner,
        "caption_channels": caption,
        "use_additional_conditions": sizes,
        **draw(
            chosen(
                patch_size=st.sampled_from((1, 2)),
                activation_fn=FEED_FORWARDS,
                attention_bias=booleans,
                upcast_attention=booleans,
                interpolation_scale=st.sampled_from((1, 2)),
            )
        ),
    }
    inputs: dict[str, Input] = {"encoder_hidden_states": Numbers((tokens, caption or inner))}
    if draw(booleans):
        inputs["encoder_attention_mask"] = Mask(tokens)
    named = {"resolution": Numbers((2,)), "aspect_ratio": Numbers((1,))}
    if sizes:
        inputs |= {f"added_cond_kwargs.{name}": drawn for name, drawn in named.items()}
    return Architecture("PixArtTransformer2DModel", _shape(channels, size), config, inputs, variance)


@st.composite
def sd3s(draw: st.DrawFn, variance: bool = False) -> Architecture:
    """Draw an `SD3Transformer2DModel`."""
    heads, inner = draw(_heads((8, 16)))
    channels, size, layers = draw(few), draw(st.sampled_from((4, 8))), draw(few)
    config = {
        **heads,
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels * (1 + variance),
        "patch_size": draw(st.sampled_from((1, 2))),
        "num_layers": layers,
        "joint_attention_dim": 10,
        "caption_projection_dim": inner,
        "pooled_projection_dim": 7,
        "pos_embed_max_size": 8,
        **draw(
            chosen(
                qk_norm=st.just("rms_norm"),
                dual_attention_layers=st.sets(st.integers(0, layers - 1)).map(lambda s: tuple(sorted(s))),
            )
        ),
    }
    text = Numbers((draw(st.sampled_from((1, 3, 7))), 10))
    inputs = {"encoder_hidden_states": text, "pooled_projections": Numbers((7,))}
    return Architecture("SD3Transformer2DModel", _shape(channels, size), config, inputs, variance)


@st.composite
def fluxes(draw: st.DrawFn, variance: bool = False) -> Architecture:
    """Draw a `FluxTransformer2DModel`, whose samples are rows of tokens and share position ids.

    It has no channels in the place where others have those of a variance.
    """
    channels, rows, tokens = draw(st.sampled_from((2, 4))), draw(st.integers(2, 9)), draw(st.integers(1, 5))
    axes = draw(st.sampled_from(((2, 2, 4), (4, 2, 2), (2, 4, 10))))
    guided = draw(booleans)
    config = {
        "patch_size": 1,
        "in_channels": channels,
        "num_layers": draw(st.integers(1, 2)),
        "num_single_layers": draw(st.integers(1, 3)),
        "attention_head_dim": sum(axes),
        "num_attention_heads": draw(few),
        "joint_attention_dim": 6,
        "pooled_projection_dim": 5,
        "guidance_embeds": guided,
        "axes_dims_rope": axes,
    }
    inputs: dict[str, Input] = {
        "encoder_hidden_states": Numbers((tokens, 6)),
        "pooled_projections": Numbers((5,)),
        "img_ids": Numbers((rows, 3), is_shared=True),
        "txt_ids": Numbers((tokens, 3), is_shared=True),
    }
    if guided:
        inputs["guidance"] = Numbers(())
    return Architecture("FluxTransformer2DModel", (rows, channels), config, inputs)


@st.composite
def sanas(draw: st.DrawFn, variance: bool = False) -> Architecture:
    """Draw a `SanaTransformer2DModel`: linear attention and convolutions between tokens."""
    heads, inner = draw(_heads())
    channels, tokens = draw(few), draw(st.sampled_from((1, 3, 7)))
    size = draw(st.sampled_from((4, 8)))
    config = {
        **heads,
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels * (1 + variance),
        "num_layers": draw(few),
        "num_cross_attention_heads": draw(st.sampled_from((1, 2))),
        "cross_attention_head_dim": 4,
        "cross_attention_dim": inner,
        "caption_channels": 6,
        "patch_size": draw(st.sampled_from((1, 2))),
        **draw(
            chosen(
                attention_bias=booleans,
                mlp_ratio=st.sampled_from((1.0, 2.5)),
                qk_norm=st.just("rms_norm_across_heads"),
                interpolation_scale=st.just(1.0),
            )
        ),
    }
    inputs: dict[str, Input] = {"encoder_hidden_states": Numbers((tokens, 6))}
    if draw(booleans):
        inputs["encoder_attention_mask"] = Mask(tokens)
    return Architecture("SanaTransformer2DModel", _shape(channels, size), config, inputs, variance)


@st.composite
def aura_flows(draw: st.DrawFn, variance: bool = False) -> Architecture:
    """Draw an `AuraFlowTransformer2DModel`."""
    heads, inner = draw(_heads((8, 16)))
    channels, size = draw(few), draw(st.sampled_from((4, 8)))
    config = {
        **heads,
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels * (1 + variance),
        "patch_size": draw(st.sampled_from((1, 2))),
        "num_mmdit_layers": draw(st.integers(0, 2)),
        "num_single_dit_layers": draw(st.integers(1, 2)),
        "joint_attention_dim": 6,
        "caption_projection_dim": inner,
        "pos_embed_max_size": 64,
    }
    text = {"encoder_hidden_states": Numbers((draw(st.sampled_from((1, 3, 7))), 6))}
    return Architecture("AuraFlowTransformer2DModel", _shape(channels, size), config, text, variance)


FAMILIES = {
    "unet": unets,
    "unet-text": text_unets,
    "unet-video": video_unets,
    "dit": dits,
    "pixart": pixarts,
    "sd3": sd3s,
    "flux": fluxes,
    "sana": sanas,
    "auraflow": aura_flows,
}
"""Strategies of models; each takes whether the model is to predict a variance too."""
