"""Build and load the reference denoisers, and the classifier that judges those of Fashion-MNIST.

The weights lie in `weights/`; how they were trained is told in `weights/README.md`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import final

import torch

# Not from `diffusers` itself, where type checkers see its stand-ins for missing torch.
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from diffusers.models.transformers.sana_transformer import SanaTransformer2DModel
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from safetensors.torch import load_file
from torch import nn

TRAINED = ("fashion-dit", "fashion-unet", "emoji-unet")
"""The denoisers that were trained on images."""

FLOW = "fashion-flow"
"""The few-step model, distilled from `fashion-dit`."""

REFERENCE_MODELS = (*TRAINED, FLOW)

FROZEN = "mnist-sana"
"""The model of the frozen test, of another family on other images; no choice of the design was made on it."""

CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
"""What the labels 0 to 9 of Fashion-MNIST mean."""

NULL_CLASS = len(CLASSES)
"""The label that means "no class asked", of the unconditional rows of classifier-free guidance."""

SAMPLE_SHAPE = {
    "fashion-dit": (1, 28, 28),
    "fashion-unet": (1, 28, 28),
    "emoji-unet": (3, 32, 32),
    FLOW: (1, 28, 28),
    FROZEN: (1, 28, 28),
}
"""Channels, height and width of one image of each model; values lie in [-1, 1]."""

PROMPT_TOKENS = 16
PROMPT_WIDTH = 384

WEIGHTS = Path(__file__).with_name("weights")
CLASSIFIER_FILE = "fashion-classifier.safetensors"
PROMPT_FILE = "emoji-prompts"


@final
class FashionClassifier(nn.Module):
    """Say what an image of Fashion-MNIST shows: `(n, 1, 28, 28)` in [-1, 1] to logits `(n, 10)`."""

    def __init__(self, width: int = 32) -> None:
        """Build the network, untrained; `width` is its number of channels, a multiple of 4."""
        super().__init__()

        def convolution(inputs: int, outputs: int, size: int, stride: int) -> list[nn.Module]:
            layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
            return [layer, nn.GroupNorm(4, outputs), nn.ReLU()]

        self.features = nn.Sequential(
            *convolution(1, width, size=5, stride=2),
            *convolution(width, width, size=3, stride=1),
            *convolution(width, 2 * width, size=3, stride=2),
            *convolution(2 * width, 2 * width, size=3, stride=1),
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * width * 7 * 7, len(CLASSES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits `(n, 10)` for `images` of shape `(n, 1, 28, 28)` in [-1, 1]."""
        logits: torch.Tensor = self.head(self.dropout(self.features(images).flatten(1)))
        return logits


def build(name: str) -> nn.Module:
    """Build the reference model `name`, untrained."""
    made = {
        "fashion-dit": _fashion_dit,
        "fashion-unet": _fashion_unet,
        "emoji-unet": _emoji_unet,
        FLOW: _fashion_dit,
        FROZEN: _mnist_sana,
    }
    return made[name]()


def build_scheduler() -> DDIMScheduler:
    """Build the noise schedule of all models but the flows: 1000 steps, noise prediction.

    It is the cosine one, as the linear one drowns so small an image.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="epsilon",
        # DDIM clips the image but not the noise that it steps with; under guidance the two disagree
        # so far that digits drown (60 % recognised at guidance 2 against 100 %).
        clip_sample=False,
    )


def build_flow_scheduler(name: str = FLOW) -> FlowMatchEulerDiscreteScheduler:
    """Build the sampler of a flow, Euler's method: that of the frozen test as Stable Diffusion 3 has it.

    The last of the few steps of the distilled one goes from a fifth of the noise to none: by itself
    diffusers starts it at a thousandth, where nothing is left to do.
    """
    if name == FROZEN:
        return FlowMatchEulerDiscreteScheduler(shift=3.0)
    return FlowMatchEulerDiscreteScheduler(shift_terminal=0.2)


def load(name: str, weights: Path = WEIGHTS) -> tuple[ModelMixin, SchedulerMixin]:
    """Load a denoiser and the scheduler it was trained for, from local files only.

    The model is in float32 and in eval mode, predicts the noise, or of the flows the velocity, and takes
    `timestep` `(n,)` in 0..999. The fashion models also take `class_labels` `(n,)` in 0..10, where 10
    (`NULL_CLASS`) asks for nothing; the others `encoder_hidden_states`: of `prompt_states` the emoji model,
    of `digit_states` that of the frozen test.

    Args:
        name: one of `REFERENCE_MODELS`, or `FROZEN`.
        weights: the folder that holds the saved models.

    Raises:
        ValueError: there is no reference model of that name.
    """
    classes = {
        "fashion-dit": DiTTransformer2DModel,
        "fashion-unet": UNet2DModel,
        "emoji-unet": UNet2DConditionModel,
        FLOW: DiTTransformer2DModel,
        FROZEN: SanaTransformer2DModel,
    }
    if name not in classes:
        raise ValueError(f"expected a reference model named one of {REFERENCE_MODELS}, got {name!r}")
    folder = weights / name
    model = classes[name].from_pretrained(
        folder, torch_dtype=torch.float32, local_files_only=True, low_cpu_mem_usage=False
    )
    sampler = FlowMatchEulerDiscreteScheduler if name in (FLOW, FROZEN) else DDIMScheduler
    return model.eval(), sampler.from_pretrained(folder, local_files_only=True)


def load_classifier(weights: Path = WEIGHTS) -> FashionClassifier:
    """Load the trained classifier, in float32 and in eval mode, from `weights`."""
    stored = load_file(weights / CLASSIFIER_FILE)
    classifier = FashionClassifier()
    classifier.load_state_dict(stored)
    return classifier.eval()


def prompt_states(weights: Path = WEIGHTS) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Load 64 emoji names and what the text encoder makes of them, so none is needed here.

    Returns:
        The names, of which the first 32 were trained on and the last 32 were not (`emoji-prompts.json`
        says so of each); their token states `(64, 16, 384)`; and the states of the empty prompt
        `(1, 16, 384)`, for the unconditional rows of guidance. Both are float16, as stored.
    """
    names = [entry["name"] for entry in json.loads((weights / f"{PROMPT_FILE}.json").read_text())]
    stored = load_file(weights / f"{PROMPT_FILE}.safetensors")
    return names, stored["states"], stored["unconditional"]


def digit_states() -> torch.Tensor:
    """Return what stands for a text encoder's states of the digits 0 to 9 and of nothing: `(11, 2, 11)`.

    Two tokens each, the first the digit's own and the second the same for all.
    """
    own = torch.eye(NULL_CLASS + 1)
    return torch.stack([own, own[NULL_CLASS].expand_as(own)], 1)


def transformer(*, heads: int, head_width: int, side: int, patch: int, classes: int) -> nn.Module:
    """Build a class-conditional DiT of 8 blocks, untrained, on grey images of `side` by `side` pixels."""
    model = DiTTransformer2DModel(
        num_layers=8,
        num_attention_heads=heads,
        attention_head_dim=head_width,
        in_channels=1,
        out_channels=1,
        sample_size=side,
        patch_size=patch,
        num_embeds_ada_norm=classes,
        activation_fn="gelu-approximate",
    )
    for block in model.transformer_blocks:
        # diffusers draws the dropped labels anew in every block, so no sample would ever see
        # the null class in all of them; training drops labels before the model instead.
        block.norm1.emb.class_embedder.dropout_prob = 0.0
        # adaLN-Zero (DiT, arXiv 2212.09748, section 3.2): every block starts as the identity.
        nn.init.zeros_(block.norm1.linear.weight)
        nn.init.zeros_(block.norm1.linear.bias)
        nn.init.normal_(block.norm1.emb.class_embedder.embedding_table.weight, std=0.02)
    nn.init.zeros_(model.proj_out_2.weight)
    nn.init.zeros_(model.proj_out_2.bias)
    return model


def _fashion_dit() -> nn.Module:
    """Build the transformer: 8 blocks of width 128 over 49 patches of 4x4 pixels."""
    return transformer(heads=4, head_width=32, side=28, patch=4, classes=len(CLASSES))


def _fashion_unet() -> nn.Module:
    """Build the class-conditional U-Net: 28x28, 14x14 and 7x7 pixels, attention at 7x7."""
    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        block_out_channels=(24, 32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=16,
        norm_num_groups=8,
        num_class_embeds=len(CLASSES) + 1,
    )


def _emoji_unet() -> nn.Module:
    """Build the text-conditional U-Net: 32x32, 16x16 and 8x8 pixels, cross-attention below 32x32."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,  # the number of heads, whatever its name says
        norm_num_groups=8,
        cross_attention_dim=PROMPT_WIDTH,
    )


def _mnist_sana() -> nn.Module:
    """Build the model of the frozen test: 6 blocks of linear attention over 49 patches of 4x4 pixels."""
    return SanaTransformer2DModel(
        in_channels=1,
        out_channels=1,
        num_layers=6,
        num_attention_heads=8,
        attention_head_dim=16,
        num_cross_attention_heads=8,
        cross_attention_head_dim=16,
        cross_attention_dim=128,
        caption_channels=NULL_CLASS + 1,
        mlp_ratio=2.0,
        sample_size=28,
        patch_size=4,
    )
