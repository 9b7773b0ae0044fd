"""Draw samples of the reference models and measure how many the classifier recognises.

Run from the root of a checkout, after training:

    python -m benchmarks.reference.samples --models fashion-dit --guidance 2

Writes a grid of samples to `benchmarks/results/reference-<model>.png`, and the measured shares and
the guidance to `training.json` beside the weights, from which it draws `README.md` anew.
"""

from __future__ import annotations

import argparse
import json
import logging
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn
from tqdm import tqdm

from benchmarks.command_line import CommandLine
from benchmarks.reference import data
from benchmarks.reference.models import (
    CLASSES,
    FLOW,
    FROZEN,
    NULL_CLASS,
    REFERENCE_MODELS,
    SAMPLE_SHAPE,
    WEIGHTS,
    digit_states,
    load,
    load_classifier,
    prompt_states,
)
from benchmarks.reference.report import readme
from benchmarks.reference.train import CLASSIFIER, predict
from benchmarks.trainings import Record, note

logger = logging.getLogger("benchmarks.reference.samples")

STEPS, FEW_STEPS = 50, 4
PER_CLASS = 20
GRID_ROWS = 6
EMOJI_SHOWN = 48
SMOKE = {"models": ["fashion-unet", CLASSIFIER], "per_class": 1, "steps": 2}


@torch.no_grad()
def sample(
    model: nn.Module,
    scheduler: Any,
    conditions: torch.Tensor,
    nothing: torch.Tensor,
    *,
    shape: tuple[int, int, int],
    guidance: float,
    steps: int,
    seed: int = 0,
) -> torch.Tensor:
    """Draw one image per condition, `(n, *shape)` in about [-1, 1].

    Args:
        conditions: labels `(n,)` or token states `(n, tokens, width)`.
        nothing: the label, `()`, or states, `(tokens, width)`, of the unconditional condition.
        guidance: 1 calls the model once per step, all else twice.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((len(conditions), *shape), generator=generator)
    empty = nothing.expand_as(conditions)
    scheduler.set_timesteps(steps)
    for time_step in tqdm(scheduler.timesteps, leave=False):
        times = time_step.expand(len(conditions))
        noise = predict(model, images, times, conditions)
        if guidance != 1.0:
            plain = predict(model, images, times, empty)
            noise = plain + guidance * (noise - plain)
        images = scheduler.step(noise, time_step, images).prev_sample
    return images


def draw_by_class(name: str, guidance: float, weights: Path, per_class: int, steps: int) -> torch.Tensor:
    """Draw `per_class` images of each class, class by class within each round of ten; digits likewise."""
    model, scheduler = load(name, weights)
    known = digit_states() if name == FROZEN else torch.arange(NULL_CLASS + 1)
    asked, nothing = known[torch.arange(per_class * len(CLASSES)) % len(CLASSES)], known[NULL_CLASS]
    shape = SAMPLE_SHAPE[name]
    return sample(model, scheduler, asked, nothing, shape=shape, guidance=guidance, steps=steps)


def recognised(images: torch.Tensor, weights: Path) -> dict[str, float]:
    """Return, per class and over all, the share of `draw_by_class`'s images named as asked."""
    with torch.no_grad():
        named = load_classifier(weights)(images.clamp(-1, 1)).argmax(1)
    right = (named == torch.arange(len(images)) % len(CLASSES)).float().view(-1, len(CLASSES)).mean(0)
    shares = {name: round(share, 4) for name, share in zip(CLASSES, right.tolist(), strict=True)}
    return {"all": round(right.mean().item(), 4), **shares}


def classifier_accuracy(folder: Path, weights: Path) -> float:
    """Return the share of the 10,000 test images that the stored classifier names rightly."""
    images, labels = data.fashion("test", folder)
    classifier = load_classifier(weights)
    right = 0
    for start in range(0, len(images), 500):
        batch = images[start : start + 500, None].float() / 127.5 - 1
        with torch.no_grad():
            right += int((classifier(batch).argmax(1) == labels[start : start + 500]).sum())
    return right / len(images)


def draw_emoji(guidance: float, weights: Path, steps: int) -> tuple[list[str], torch.Tensor]:
    """Draw one emoji for 24 of the names trained on and 24 of those held out."""
    names, states, nothing = prompt_states(weights)
    trained_on, shown = len(names) // 2, EMOJI_SHOWN // 2
    chosen = [*range(shown), *range(trained_on, trained_on + shown)]
    model, scheduler = load("emoji-unet", weights)
    images = sample(
        model,
        scheduler,
        states[chosen],
        nothing[0],
        shape=SAMPLE_SHAPE["emoji-unet"],
        guidance=guidance,
        steps=steps,
    )
    return [names[index] for index in chosen], images


def save_grid(images: torch.Tensor, titles: list[str], columns: int, file: Path) -> None:
    """Write `images` row by row; `titles` stand above the first row, or above all."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.25 * columns, 1.4 * rows), layout="constrained")
    pixels = ((images.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1)
    for index, axis in enumerate(figure.subplots(rows, columns).flat):
        axis.set_axis_off()
        if index < len(images):
            axis.imshow(pixels[index], cmap="gray", vmin=0, vmax=1)
        if index < len(titles):
            axis.set_title(textwrap.shorten(titles[index], 22, placeholder=" ..."), fontsize=6)
    figure.savefig(file, dpi=80)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    made = CommandLine(__doc__, SMOKE)
    made.add_models((*REFERENCE_MODELS, CLASSIFIER, FROZEN), REFERENCE_MODELS)
    data.add_option(made)
    made.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the models")
    made.add_argument("--guidance", type=float, default=2.0, help="of the grid, and of later use")
    made.add_argument("--per-class", type=int, default=PER_CLASS)
    made.add_argument("--steps", type=int, help=f"{STEPS}, of the distilled model {FEW_STEPS}")
    return made.read(argv)


def measure(name: str, options: argparse.Namespace) -> Record:
    """Draw, write the grid, and return what the README tells about it."""
    weights, guidance = options.weights, 1.0 if name == FLOW else options.guidance
    steps = options.steps or (FEW_STEPS if name == FLOW else STEPS)
    if name == CLASSIFIER:
        return {"test_accuracy": classifier_accuracy(data.folder_of(options), weights)}
    file = options.out / f"reference-{name}.png"
    if name == "emoji-unet":
        names, images = draw_emoji(guidance, weights, steps)
        save_grid(images, names, 8, file)
        return {"guidance": guidance}
    images = draw_by_class(name, guidance, weights, options.per_class, steps)
    titles = [str(digit) for digit in range(10)] if name == FROZEN else list(CLASSES)
    save_grid(images[: GRID_ROWS * len(CLASSES)], titles, len(CLASSES), file)
    if name == FROZEN:
        return {"guidance": guidance}
    own = {"drawn_in_steps": steps} if name == FLOW else {"guidance": guidance}
    return {**own, "drawn": len(images), "recognised": recognised(images, weights)}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the asked models and write down what came out."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = arguments(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.models:
        measured = measure(name, options)
        logger.info("%s: %s", name, json.dumps(measured))
        note(options.out if options.smoke else options.weights, name, measured, readme)


if __name__ == "__main__":
    main()
