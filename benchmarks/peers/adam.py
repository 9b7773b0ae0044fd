"""Learning a sampler by Adam, with gradients through its whole loop."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from dipgo_fx.frozen import frozen

from .learning import Corrections, Lesson

GRADIENT_STEP = 3.0  # what one costs, in runs of the sampler on the same samples
RATE, TIME_RATE, BATCH = 1e-2, 2e-2, 16
CLIP = 1.0


def adam(
    lesson: Lesson,
    model: nn.Module,
    corrections: Corrections,
    full_runs: float,
    seed: int = 0,
    batch: int = BATCH,
    rate: float = RATE,
    time_rate: float = TIME_RATE,
) -> float:
    """Correct a sampler in place towards the unpruned samples, and return what it cost in full runs.

    Learning rates fall to 0 by half a cosine.

    Args:
        lesson: its `call` is of `model`.
        model: stays as it is.
        corrections: what to learn.
        full_runs: the most it may cost, in unpruned runs of all samples.
        seed: of the order of samples.
        batch: samples of a gradient step.
        rate: of coefficients.
        time_rate: of logarithms of gaps between timesteps and of what the network is told, in gaps.

    Raises `ValueError` if the loss is not finite.
    """
    batch = min(batch, len(lesson.sample))
    price = GRADIENT_STEP * lesson.price(corrections()) * batch / len(lesson.sample)
    count = int(full_runs / price)
    if count < 1:
        return 0.0
    times = (corrections.gaps, corrections.shifts)
    learned = [parameter for parameter in corrections.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each], "lr": time_rate if any(each is time for time in times) else rate}
        for each in learned
    ]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: (1 + math.cos(math.pi * i / count)) / 2)
    with torch.enable_grad(), frozen(model):
        for _, rows in zip(range(count), _batches(len(lesson.sample), batch, seed), strict=False):
            loss = lesson.part(rows).loss(corrections())
            if not bool(loss.isfinite()):
                raise ValueError("the loss is not finite")
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(learned, CLIP)
            optimiser.step()
            rates.step()
    return count * price


def _batches(count: int, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield rows, each pass over all of them in another order."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from (rows for rows in order.split(size) if len(rows) == size)
