"""Load the small digit models that ship inside the package.

Two denoisers (a transformer and a U-Net) draw hand-written digits of 8 by 8 pixels; a
classifier says which digit it sees, so the quality of a drawing is a number. How they were
trained is in `weights/README.md`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

import torch
from torch import nn

if TYPE_CHECKING:
    # Not from `diffusers` itself, where type checkers see its stand-ins for missing torch.
    from diffusers.models.modeling_utils import ModelMixin
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

DigitModel = Literal["dit", "unet"]

CLASSES = 10
"""The digits 0 to 9."""

NULL_CLASS = 10
"""The label that means "no digit asked": the unconditional half of classifier-free guidance."""

SAMPLE_SHAPE = (1, 8, 8)
"""Channels, height and width of one image; values lie in [-1, 1]."""

WEIGHTS = Path(__file__).with_name("weights")
CLASSIFIER_FILE = "digits-classifier.safetensors"


@final
class DigitClassifier(nn.Module):
    """Say which digit an image shows: `(n, 1, 8, 8)` in [-1, 1] to logits `(n, 10)`."""

    def __init__(self, width: int = 32) -> None:
        """Build the network, untrained; `width` is its number of channels, a multiple of 4."""
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.GroupNorm(4, width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.GroupNorm(4, 2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.GroupNorm(4, 2 * width),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(2 * width * 4 * 4, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits `(n, 10)` for `images` of shape `(n, 1, 8, 8)` in [-1, 1]."""
        logits: torch.Tensor = self.head(self.dropout(self.features(images).flatten(1)))
        return logits


def load(name: DigitModel, weights: Path = WEIGHTS) -> tuple[ModelMixin, DDIMScheduler]:
    """Load a denoiser and the scheduler it was trained for, from local files only.

    The model is in float32 and in eval mode. Call it as
    `model(sample, timestep=t, class_labels=y).sample` with `sample` `(n, 1, 8, 8)`, `t` `(n,)`
    training time steps in 0..999 (999 is nearly pure noise) and `y` `(n,)` labels in 0..10,
    where 10 (`NULL_CLASS`) asks for no digit in particular. It predicts the noise, `(n, 1, 8, 8)`.

    Args:
        name: `"dit"` is a `DiTTransformer2DModel`, `"unet"` a `UNet2DModel`.
        weights: the folder that holds the saved models.

    Raises:
        ValueError: there is no demo model of that name.
    """
    from diffusers import DDIMScheduler, DiTTransformer2DModel, UNet2DModel

    classes = {"dit": DiTTransformer2DModel, "unet": UNet2DModel}
    if name not in classes:
        raise ValueError(f"expected a demo model named one of {sorted(classes)}, got {name!r}")
    folder = weights / f"digits-{name}"
    model = classes[name].from_pretrained(
        folder, torch_dtype=torch.float32, local_files_only=True, low_cpu_mem_usage=False
    )
    return model.eval(), DDIMScheduler.from_pretrained(folder, local_files_only=True)


def load_classifier(weights: Path = WEIGHTS) -> DigitClassifier:
    """Load the trained classifier, in float32 and in eval mode, from `weights`."""
    from safetensors.torch import load_file

    stored = load_file(weights / CLASSIFIER_FILE)
    classifier = DigitClassifier()
    classifier.load_state_dict(stored)
    return classifier.eval()
