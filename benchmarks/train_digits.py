"""Train the demo models of `dipgo_fx.demo` on the digits of scikit-learn.

Run with the package installed; each model takes some minutes on one CPU thread:

    python -m benchmarks.train_digits --model all

Every model is written in half precision to `--out` as soon as it is done; what was measured
goes to `training.json` beside it, and `README.md` there is drawn from that file.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from benchmarks.command_line import parse, parser
from benchmarks.reference.models import build_scheduler, transformer
from benchmarks.reference.samples import sample
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

logger = logging.getLogger("train_digits")

SMOKE = {"steps": 20}
LABEL_DROP = 0.1
BATCH = {"classifier": 128, "dit": 64, "unet": 64}
DEFAULT_STEPS = {"classifier": 1500, "dit": 10000, "unet": 6000}
LEARNING_RATE = {"classifier": 2e-3, "dit": 1e-3, "unet": 1e-3}
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

The classifier is right on {accuracy:.1f} % of the 360 held-out images.

Share of 200 drawn images, 20 per class, that the classifier recognises as the class asked for
(float16 weights as stored, computed in float32, noise seed 0):

| sampler | {names} |
{lines}
{shares}
"""

Record = dict[str, Any]


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return all images `(1797, 1, 8, 8)` in [-1, 1] and their labels `(1797,)`."""
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).reshape(-1, *SAMPLE_SHAPE)
    return pixels / 8 - 1, torch.tensor(labels, dtype=torch.long)


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
    from diffusers import UNet2DModel

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


def denoising_loss(
    model: nn.Module, scheduler: Any, images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Return the mean squared error of the predicted noise for one batch (DDPM, equation 14)."""
    count = len(images)
    dropped = torch.rand(count) < LABEL_DROP
    labels = torch.where(dropped, NULL_CLASS, labels)
    times = torch.randint(scheduler.config.num_train_timesteps, (count,))
    noise = torch.randn_like(images)
    noisy = scheduler.add_noise(images, noise, times)
    predicted = model(noisy, timestep=times, class_labels=labels).sample
    return F.mse_loss(predicted, noise)


def classifier_loss(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of one batch, each image shifted by at most one pixel."""
    shift = [int(step) for step in torch.randint(-1, 2, (2,))]
    padded = F.pad(images, (1, 1, 1, 1), value=-1.0)
    moved = padded[:, :, 1 + shift[0] : 9 + shift[0], 1 + shift[1] : 9 + shift[1]]
    return F.cross_entropy(model(moved), labels, label_smoothing=0.05)


def optimise(
    model: nn.Module,
    loss_of: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
) -> tuple[nn.Module, float]:
    """Train `model` and return the moving average of it, with the mean loss at the end."""
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-2)
    warm_up = min(200, steps // 10)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimiser,
        [
            torch.optim.lr_scheduler.LinearLR(optimiser, 1e-2, total_iters=warm_up),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps - warm_up),
        ],
        milestones=[warm_up],
    )
    losses: list[float] = []
    model.train()
    for step in (bar := tqdm(range(steps), mininterval=5.0)):
        chosen = torch.randint(len(images), (batch,))
        loss = loss_of(model, images[chosen], labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(model)
        losses.append(loss.item())
        if step % LOSS_WINDOW == LOSS_WINDOW - 1:
            bar.set_postfix(loss=f"{mean_of_last(losses):.4f}")
    averaged: nn.Module = average.module
    return averaged.eval(), mean_of_last(losses)


def mean_of_last(losses: list[float]) -> float:
    """Return the mean of the last `LOSS_WINDOW` losses."""
    window = losses[-LOSS_WINDOW:]
    return sum(window) / len(window)


def share_recognised(images: torch.Tensor, labels: torch.Tensor, weights: Path) -> float:
    """Return the share of `images` that the classifier names as their label."""
    with torch.no_grad():
        named = load_classifier(weights)(images).argmax(1)
    return (named == labels).float().mean().item()


def train_classifier(out: Path, steps: int, seed: int) -> Record:
    """Train on 80 % of the digits, save, and measure what was saved on the other 20 %."""
    from safetensors.torch import save_file

    images, labels = digits()
    train, test = held_out_split()
    started = time.perf_counter()
    model, loss = optimise(
        DigitClassifier(),
        classifier_loss,
        images[train],
        labels[train],
        steps=steps,
        batch=BATCH["classifier"],
        learning_rate=LEARNING_RATE["classifier"],
    )
    seconds = time.perf_counter() - started
    stored = {
        name: value.half() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    save_file(stored, out / CLASSIFIER_FILE)
    make_readable(out / CLASSIFIER_FILE)
    accuracy = share_recognised(images[test], labels[test], out)
    return record(model, seed, steps, BATCH["classifier"], loss, seconds, test_accuracy=accuracy)


def train_denoiser(name: str, out: Path, steps: int, seed: int) -> Record:
    """Train one denoiser on all digits, save, and measure what was saved."""
    images, labels = digits()
    scheduler = build_scheduler()
    started = time.perf_counter()
    model, loss = optimise(
        build_dit() if name == "dit" else build_unet(),
        lambda model, images, labels: denoising_loss(model, scheduler, images, labels),
        images,
        labels,
        steps=steps,
        batch=BATCH[name],
        learning_rate=LEARNING_RATE[name],
    )
    seconds = time.perf_counter() - started
    folder = out / f"digits-{name}"
    model.half().save_pretrained(folder)
    scheduler.save_pretrained(folder)
    make_readable(folder / "diffusion_pytorch_model.safetensors")
    return record(model, seed, steps, BATCH[name], loss, seconds, **measure(name, out))


def make_readable(file: Path) -> None:
    """Let everybody read `file`: safetensors writes for the owner only, a wheel keeps that."""
    file.chmod(0o644)


def measure(name: str, out: Path) -> Record:
    """Return the shares of recognised samples, 200 per setting, of a saved denoiser."""
    model, scheduler = load(name, out)  # type: ignore[arg-type]
    asked, nothing = torch.arange(200) % CLASSES, torch.tensor(NULL_CLASS)
    shares = {}
    for steps, guidance in ((50, 1.0), (50, 2.0), (20, 1.0), (10, 1.0)):
        drawn = sample(
            model, scheduler, asked, nothing, shape=SAMPLE_SHAPE, guidance=guidance, steps=steps, seed=0
        )
        shares[f"DDIM {steps}, guidance {guidance:g}"] = share_recognised(drawn, asked, out)
    return {"recognised": shares}


def record(
    model: nn.Module, seed: int, steps: int, batch: int, loss: float, seconds: float, **more: Any
) -> Record:
    """Return what the README tells about one training."""
    return {
        "seed": seed,
        "steps": steps,
        "batch": batch,
        "final_loss": round(loss, 5),
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_minutes": round(seconds / 60, 1),
        **more,
    }


def readme(records: dict[str, Record]) -> str:
    """Return the text of `README.md` for the recorded trainings."""
    rows = [
        f"| {name} | {r['seed']} | {r['steps']} | {r['batch']} | {r['final_loss']:.4f} "
        f"| {r['parameters']:,} | {r['training_minutes']:.1f} |"
        for name, r in sorted(records.items())
    ]
    denoisers = {name: r["recognised"] for name, r in sorted(records.items()) if "recognised" in r}
    settings = list(dict.fromkeys(key for shares in denoisers.values() for key in shares))
    shares = [
        f"| {key} | "
        + " | ".join(f"{100 * denoisers[name].get(key, float('nan')):.1f} %" for name in denoisers)
        for key in settings
    ]
    accuracy = 100 * records.get("classifier", {}).get("test_accuracy", float("nan"))
    return README.format(
        rows="\n".join(rows),
        accuracy=accuracy,
        names=" | ".join(denoisers),
        lines="|---" * (len(denoisers) + 1) + "|",
        shares="\n".join(f"{share} |" for share in shares),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train the asked models, the classifier first because the others are measured by it."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    made = parser(__doc__, WEIGHTS)
    made.add_argument("--model", choices=("dit", "unet", "classifier", "all"), default="all")
    made.add_argument("--steps", type=int, help="optimiser steps, else the model's own number")
    made.add_argument("--seed", type=int, default=0)
    options = parse(made, argv, SMOKE)
    options.out.mkdir(parents=True, exist_ok=True)
    records_file = options.out / "training.json"
    names = ("classifier", "dit", "unet") if options.model == "all" else (options.model,)
    for name in names:
        torch.manual_seed(options.seed)
        steps = options.steps or DEFAULT_STEPS[name]
        if name == "classifier":
            measured = train_classifier(options.out, steps, options.seed)
        else:
            measured = train_denoiser(name, options.out, steps, options.seed)
        logger.info("%s: %s", name, measured)
        records = json.loads(records_file.read_text()) if records_file.exists() else {}
        records[name] = measured
        records_file.write_text(json.dumps(records, indent=2) + "\n")
        (options.out / "README.md").write_text(readme(records))


if __name__ == "__main__":
    main()
