"""The models with random weights whose loops are timed."""

from __future__ import annotations

from dataclasses import dataclass

import diffusers as d
import torch
from torch import nn

CHANNELS = 4
HEAD = 64  # width of an attention head of the transformer
TEXT = 128  # width of a token state


@dataclass(frozen=True)
class Subject:
    """A model with random weights, its inputs, and which of its blocks partial plans keep.

    Attributes:
        name: for the table.
        model: in eval mode.
        sample: initial noise of one sample.
        conditioning: what `model.forward` takes besides.
        tail: number of last blocks that partial plans run at every step.
    """

    name: str
    model: nn.Module
    sample: torch.Tensor
    conditioning: dict[str, torch.Tensor]
    tail: int


@dataclass(frozen=True)
class Size:
    """How large the models are.

    Attributes:
        side: of the latents.
        layers: of the transformer.
        heads: of the transformer, `HEAD` wide each.
        channels: of the U-Net's three levels.
    """

    side: int = 32
    layers: int = 12
    heads: int = 6
    channels: tuple[int, int, int] = (64, 128, 256)


FULL = Size()
"""Large enough that blocks dominate."""
SMALL = Size(side=8, layers=4, heads=1, channels=(32, 32, 32))


def random_dit(size: Size) -> Subject:
    """Return a transformer on patches of 2 x 2 latents."""
    model = d.DiTTransformer2DModel(
        num_layers=size.layers,
        num_attention_heads=size.heads,
        attention_head_dim=HEAD,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        sample_size=size.side,
        patch_size=2,
        num_embeds_ada_norm=1000,
    )
    name = f"DiT {size.layers} x {size.heads * HEAD}, {(size.side // 2) ** 2} tokens"
    return Subject(name, model.eval(), _noise(size), {"class_labels": torch.tensor([7])}, 2)


def random_unet(size: Size) -> Subject:
    """Return a text-conditional U-Net."""
    model = d.UNet2DConditionModel(
        sample_size=size.side,
        block_out_channels=size.channels,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT,
        attention_head_dim=8,
    )
    text = {"encoder_hidden_states": torch.randn(1, 77, TEXT)}
    name = f"U-Net {'-'.join(map(str, size.channels))}, {size.side}²"
    # The last resnet and attention and the head: what DeepCache's branch 0 runs at every step.
    return Subject(name, model.eval(), _noise(size), text, 3)


def _noise(size: Size) -> torch.Tensor:
    return torch.randn(1, CHANNELS, size.side, size.side)


SUBJECTS = {"dit": random_dit, "unet": random_unet}
