"""Distil the Fashion-MNIST transformer into a few-step model, a rectified flow without guidance.

Run from the root of a checkout, after training; an hour on a CPU:

    python -m benchmarks.reference.distil

The student starts from the teacher's weights and learns the straight line from each noise to the image that
the teacher makes of it under its guidance ("reflow": arXiv 2209.03003, section 2.2; arXiv 2309.06380). So it
needs no data, and then one call a step and few steps of Euler's method.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from benchmarks.command_line import CommandLine
from benchmarks.reference.models import (
    CLASSES,
    FLOW,
    NULL_CLASS,
    SAMPLE_SHAPE,
    WEIGHTS,
    build,
    build_flow_scheduler,
    load,
)
from benchmarks.reference.report import readme
from benchmarks.reference.train import LOSS_WINDOW, velocity_error
from benchmarks.trainings import make_readable, note, read, record

logger = logging.getLogger("benchmarks.reference.distil")

TEACHER = "fashion-dit"
TEACHER_STEPS = 20
RATE, WARM_UP, AVERAGE_DECAY = 1e-3, 200, 0.999
DRAWN_AT_ONCE = 50
SMOKE = {"pairs": 20, "steps": 3, "batch": 10}


@torch.no_grad()
def pairs(count: int, guidance: float, source: torch.Generator, device: torch.device) -> list[torch.Tensor]:
    """Return noises, the teacher's images of them and their labels, all classes alike."""
    teacher, scheduler = load(TEACHER)
    teacher.to(device)
    found = []
    for start in tqdm(range(0, count, DRAWN_AT_ONCE), desc="pairs"):
        labels = torch.arange(start, min(start + DRAWN_AT_ONCE, count), device=device) % len(CLASSES)
        noise = torch.randn((len(labels), *SAMPLE_SHAPE[TEACHER]), generator=source).to(device)
        both = torch.cat([torch.full_like(labels, NULL_CLASS), labels])
        images = noise
        scheduler.set_timesteps(TEACHER_STEPS)
        for timestep in scheduler.timesteps:
            times = timestep.to(device).expand(len(both))
            seen = teacher(torch.cat([images, images]), timestep=times, class_labels=both).sample
            plain, asked = seen.chunk(2)
            predicted = plain + guidance * (asked - plain)
            images = scheduler.step(predicted, timestep, images).prev_sample
        found.append((noise, images, labels))
    return [torch.cat(each) for each in zip(*found, strict=True)]


def distilled(options: argparse.Namespace) -> dict[str, Any]:
    """Train the student, write its weights, and return what is known of the training."""
    device = torch.device(options.device)
    guidance = float(read(WEIGHTS)[TEACHER]["guidance"])
    source, start = torch.Generator().manual_seed(options.seed), time.perf_counter()
    everything = pairs(options.pairs, guidance, source, device)
    torch.manual_seed(options.seed)
    student = build(FLOW)
    student.load_state_dict(load(TEACHER)[0].state_dict())
    student.to(device).train()
    average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))
    optimiser = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.01)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / WARM_UP) * (1 - step / options.steps)
    )
    losses: list[torch.Tensor] = []
    for step in tqdm(range(options.steps), desc="steps", mininterval=10):
        rows = torch.randint(options.pairs, (options.batch,), generator=source)
        loss = velocity_error(student, *(each[rows] for each in everything), source, device)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        rates.step()
        if step < WARM_UP:  # the average begins when the rate is at its height
            average.n_averaged.zero_()
        average.update_parameters(student)
        losses = [*losses[1 - LOSS_WINDOW :], loss.detach()]
    export(average.module, options)
    told = record(
        student,
        seed=options.seed,
        steps=options.steps,
        batch=options.batch,
        loss=float(torch.stack(losses).mean()),
        seconds=time.perf_counter() - start,
    )
    return {**told, "images": options.steps * options.batch, "pairs": options.pairs}


def export(student: Any, options: argparse.Namespace) -> None:
    """Write weights in half precision, and the sampler that they are for."""
    folder = options.out / FLOW
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "diffusion_pytorch_model.safetensors"
    student.save_config(folder)
    build_flow_scheduler().save_pretrained(folder)
    weights = {name: value.detach().cpu().half().contiguous() for name, value in student.state_dict().items()}
    save_file(weights, file, metadata={"format": "pt"})
    make_readable(file)


def main(argv: Sequence[str] | None = None) -> None:
    """Distil and write down what came out."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    made = CommandLine(__doc__, SMOKE, WEIGHTS)
    made.add_device()
    made.add_argument("--pairs", type=int, default=6_000, help="of noise and image")
    made.add_argument("--steps", type=int, default=3_000)
    made.add_argument("--batch", type=int, default=64)
    made.add_argument("--seed", type=int, default=0)
    options = made.read(argv)
    measured = distilled(options)
    logger.info("%s: %s", FLOW, measured)
    note(options.out, FLOW, measured, readme)


if __name__ == "__main__":
    main()
