"""Train the demo models of `dipgo_fx.demo` on the digits of scikit-learn.

Run with the package installed; each model takes some minutes on one CPU thread:

    python -m benchmarks.train_digits

Every model is written in half precision to `--out` as soon as it is done; what was measured goes to
`training.json` beside it, and `README.md` there is drawn from that file.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from benchmarks.command_line import CommandLine
from benchmarks.reference.models import build_scheduler, transformer
from benchmarks.reference.samples import sample
from benchmarks.trainings import Record, accuracy, make_readable, note, recognised_table, record
from dipgo_fx.demo.models import (
    CLASSES,
    CLASSIFIER_FILE,
    NULL_CLASS,
    SAMPLE_SHAPE,
    WEIGHTS,
    DigitClassifier,
    load,
    load_classifier,
)

logger = logging.getLogger("benchmarks.train_digits")

SMOKE = {"models": ["classifier", "dit"], "steps": 20, "drawn": 10}
CLASSIFIER = "classifier"
DRAWN = 200
SCHEDULER = build_scheduler()
LABEL_DROP = 0.1
LOSS_WINDOW = 500
"""The reported final loss is the mean over this many last steps: one batch is too noisy."""

README = """\
# Digit models

Written by `benchmarks/train_digits.py` from `training.json`; do not edit.

- `digits-dit/`: `DiTTransformer2DModel`, 8 blocks of width 64 (4 heads), patches of 2x2 pixels
- `digits-unet/`: `UNet2DModel`, channels 24, 48, 48, two layers per block, attention at 4x4 and 2x2
- `digits-classifier.safetensors`: `dipgo_fx.demo.models.DigitClassifier`, three convolutions

Data: the 1797 images of `sklearn.datasets.load_digits` (8x8 grey, 0..16 mapped to [-1, 1]), which
are the test part of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI
Machine Learning Repository, 1998 (CC BY 4.0). The denoisers saw all of them; the classifier saw
80 % (stratified, `random_state=0`).

Both denoisers predict the noise of a 1000 step cosine schedule (`squaredcos_cap_v2`), take the
classes 0..9 and the null class 10 (10 % of the labels in training), and were trained from scratch
with AdamW, a cosine learning rate and a moving average of the weights (0.999). All weights are
stored in float16. The scheduler's `clip_sample` is off: with it, guidance drowns the digits.

| model | seed | steps | batch | final loss | parameters | minutes of training |
|---|---|---|---|---|---|---|
{rows}

The loss is the mean of the last 500 steps: squared error of the noise for the denoisers, cross
entropy with label smoothing 0.05 (at best 0.28) for the classifier. Minutes are wall-clock time
on one thread of a two-core machine that others used meanwhile.

The classifier is right on {accuracy} of the 360 held-out images.

Share of {drawn} drawn images, {each} per class, that the classifier recognises as the class asked for
(float16 weights as stored, computed in float32, noise seed 0):

{shares}
"""

Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Data:
    """Images `(n, 1, 8, 8)` in [-1, 1] and their labels `(n,)`."""

    images: torch.Tensor
    labels: torch.Tensor

    def part(self, indices: list[int]) -> Data:
        """Return some of the images."""
        return Data(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Recipe:
    """How a model is made and trained."""

    build: Callable[[], nn.Module]
    loss: Loss
    batch: int
    steps: int
    learning_rate: float


def digits() -> Data:
    """Return all 1797 images."""
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).reshape(-1, *SAMPLE_SHAPE)
    return Data(pixels / 8 - 1, torch.tensor(labels, dtype=torch.long))


def held_out_split() -> tuple[list[int], list[int]]:
    """Return the indices of the classifier's train (80 %) and test (20 %) images."""
    labels = load_digits(return_X_y=True)[1]
    train, test = train_test_split(range(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    return train, test


def build_dit() -> nn.Module:
    """Build the transformer: 8 blocks of width 64 over 16 patches of 2x2 pixels."""
    return transformer(heads=4, head_width=16, side=SAMPLE_SHAPE[-1], patch=2, classes=CLASSES)


def build_unet() -> nn.Module:
    """Build the U-Net: 8x8, 4x4 and 2x2 pixels, attention at the lower two."""
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(24, 48, 48),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        norm_num_groups=8,
        num_class_embeds=CLASSES + 1,
    )


def denoising_loss(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of the predicted noise for one batch (DDPM, equation 14)."""
    count = len(images)
    dropped = torch.rand(count) < LABEL_DROP
    labels = torch.where(dropped, NULL_CLASS, labels)
    times = torch.randint(SCHEDULER.config.num_train_timesteps, (count,))
    noise = torch.randn_like(images)
    noisy = SCHEDULER.add_noise(images, noise, times)
    predicted = model(noisy, timestep=times, class_labels=labels).sample
    return F.mse_loss(predicted, noise)


def classifier_loss(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of one batch, each image shifted by at most one pixel."""
    shift = [int(step) for step in torch.randint(-1, 2, (2,))]
    padded = F.pad(images, (1, 1, 1, 1), value=-1.0)
    moved = padded[:, :, 1 + shift[0] : 9 + shift[0], 1 + shift[1] : 9 + shift[1]]
    return F.cross_entropy(model(moved), labels, label_smoothing=0.05)


RECIPES = {
    CLASSIFIER: Recipe(DigitClassifier, classifier_loss, batch=128, steps=1500, learning_rate=2e-3),
    "dit": Recipe(build_dit, denoising_loss, batch=64, steps=10000, learning_rate=1e-3),
    "unet": Recipe(build_unet, denoising_loss, batch=64, steps=6000, learning_rate=1e-3),
}
"""The classifier first, because the others are measured by it."""


def optimise(model: nn.Module, recipe: Recipe, data: Data, steps: int) -> tuple[nn.Module, float]:
    """Train a model and return the moving average of it, with the mean loss at the end."""
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=1e-2)
    rate = cosine_rate(optimiser, steps)
    losses: list[float] = []
    model.train()
    for step in (bar := tqdm(range(steps), mininterval=5.0)):
        chosen = torch.randint(len(data.images), (recipe.batch,))
        loss = recipe.loss(model, data.images[chosen], data.labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        average.update_parameters(model)
        losses.append(loss.item())
        if step % LOSS_WINDOW == LOSS_WINDOW - 1:
            bar.set_postfix(loss=f"{mean_of_last(losses):.4f}")
    averaged: nn.Module = average.module
    return averaged.eval(), mean_of_last(losses)


def cosine_rate(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.SequentialLR:
    """Return a learning rate that warms up and then falls like a cosine."""
    warm_up = min(200, steps // 10)
    phases = [
        torch.optim.lr_scheduler.LinearLR(optimiser, 1e-2, total_iters=warm_up),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps - warm_up),
    ]
    return torch.optim.lr_scheduler.SequentialLR(optimiser, phases, milestones=[warm_up])


def mean_of_last(losses: list[float]) -> float:
    """Return the mean of the last `LOSS_WINDOW` losses."""
    window = losses[-LOSS_WINDOW:]
    return sum(window) / len(window)


def train(name: str, options: argparse.Namespace) -> Record:
    """Train a model, save it, and measure what was saved."""
    torch.manual_seed(options.seed)
    recipe, data = RECIPES[name], digits()
    seen = data.part(held_out_split()[0]) if name == CLASSIFIER else data
    steps, started = options.steps or recipe.steps, time.perf_counter()
    model, loss = optimise(recipe.build(), recipe, seen, steps)
    seconds = time.perf_counter() - started
    told = record(model, seed=options.seed, steps=steps, batch=recipe.batch, loss=loss, seconds=seconds)
    if name == CLASSIFIER:
        save_classifier(model, options.out)
        return {**told, "test_accuracy": held_out_accuracy(options.out)}
    save_denoiser(name, model, options.out)
    return {**told, "drawn": options.drawn, "recognised": recognised(name, options.out, options.drawn)}


def save_classifier(model: nn.Module, out: Path) -> None:
    """Write the classifier in half precision."""
    stored = {name: value.half() for name, value in model.state_dict().items()}
    save_file(stored, out / CLASSIFIER_FILE)
    make_readable(out / CLASSIFIER_FILE)


def save_denoiser(name: str, model: Any, out: Path) -> None:
    """Write a denoiser in half precision, and its scheduler."""
    folder = out / f"digits-{name}"
    model.half().save_pretrained(folder)
    SCHEDULER.save_pretrained(folder)
    make_readable(folder / "diffusion_pytorch_model.safetensors")


def held_out_accuracy(out: Path) -> float:
    """Return how often the saved classifier is right on the images that it did not see."""
    return share_recognised(digits().part(held_out_split()[1]), out)


def recognised(name: str, out: Path, drawn: int) -> dict[str, float]:
    """Return the shares of samples of a saved denoiser that the classifier names as asked."""
    model, scheduler = load(name, out)  # type: ignore[arg-type]
    asked, nothing = torch.arange(drawn) % CLASSES, torch.tensor(NULL_CLASS)
    shares = {}
    for steps, guidance in ((50, 1.0), (50, 2.0), (20, 1.0), (10, 1.0)):
        images = sample(
            model, scheduler, asked, nothing, shape=SAMPLE_SHAPE, guidance=guidance, steps=steps, seed=0
        )
        shares[f"DDIM {steps}, guidance {guidance:g}"] = share_recognised(Data(images, asked), out)
    return shares


@torch.no_grad()
def share_recognised(data: Data, weights: Path) -> float:
    """Return the share of images that the classifier names as their label."""
    named = load_classifier(weights)(data.images).argmax(1)
    return float((named == data.labels).float().mean())


def readme(records: dict[str, Record]) -> str:
    """Return the text of `README.md` for the recorded trainings."""
    rows = [
        f"| {name} | {entry['seed']} | {entry['steps']} | {entry['batch']} | {entry['final_loss']:.4f} "
        f"| {entry['parameters']:,} | {entry['training_minutes']:.1f} |"
        for name, entry in sorted(records.items())
    ]
    drawn = max((entry.get("drawn", DRAWN) for entry in records.values() if "recognised" in entry), default=0)
    return README.format(
        rows="\n".join(rows),
        accuracy=accuracy(records, CLASSIFIER),
        drawn=drawn,
        each=drawn // CLASSES,
        shares=recognised_table("sampler", records),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train the asked models and write down what came out."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    made = CommandLine(__doc__, SMOKE, WEIGHTS)
    made.add_models(tuple(RECIPES))
    made.add_argument("--steps", type=int, help="of the optimiser, else the model's own number")
    made.add_argument("--drawn", type=int, default=DRAWN, help="samples of which the share is recognised")
    made.add_argument("--seed", type=int, default=0)
    options = made.read(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.models:
        measured = train(name, options)
        logger.info("%s: %s", name, measured)
        note(options.out, name, measured, readme)


if __name__ == "__main__":
    main()
