"""`dipgo-fx demo`: the shipped digits model, pruned and compared."""

from __future__ import annotations

import argparse

import torch

try:
    from ..demo.run import run as prune_digits
except ModuleNotFoundError as error:
    raise ValueError(f"the demo needs {error.name}: pip install 'dipgo-fx[demo]'") from error
from .pipeline import shows_progress


def run(options: argparse.Namespace) -> None:
    """Run the demo, which prints as it goes."""
    # Digits are too small to share among threads: one is faster, and its timings are steady.
    torch.set_num_threads(1)
    prune_digits(
        options.model,
        ratio=options.ratio,
        steps=options.steps,
        seed=options.seed,
        out=options.out,
        progress=shows_progress(options) and not options.no_progress,
    )
