"""Peers on the shipped digits models: `python -m benchmarks.peers --model dit --guidance 2`.

Settings are chosen on the task's noise and measured on noise that no peer saw.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from tqdm import tqdm

from dipgo_fx.demo.models import CLASSES, NULL_CLASS, SAMPLE_SHAPE, load

from . import METHODS, Choice, Task, compete


def inputs(samples: int, guidance: float | None, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return noise and labels, under guidance after as many null labels."""
    noise = torch.randn((samples, *SAMPLE_SHAPE), generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(samples) % CLASSES
    if guidance is not None:
        labels = torch.cat([torch.full_like(labels, NULL_CLASS), labels])
    return noise, {"class_labels": labels}


def line(choice: Choice) -> str:
    """Return a row of the table."""
    found = choice.outcome
    cells: list[Any] = [choice.method, choice.budget]
    if found is None or found.error:
        cells += ["", "", "", choice.remark]
    else:
        cells += [
            f"{found.kept:.4f}",
            f"{found.kept_without_attention:.4f}",
            f"{found.psnr:.2f}",
            found.setting,
        ]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["dit", "unet"], default="dit")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--tune", type=int, default=16, help="samples that settings are chosen on")
    parser.add_argument("--samples", type=int, default=64, help="samples that the chosen ones run on")
    parser.add_argument("--full-runs", type=float, default=20.0, help="of a search for one budget")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, scheduler = load(options.model)
    noise, labels = inputs(options.tune, options.guidance, seed=1)
    task = Task(model, scheduler, options.steps, noise, labels, options.guidance, full_runs=options.full_runs)
    sample, conditioning = inputs(options.samples, options.guidance, seed=1000)
    print("| method | budget | macs_kept | without attention | psnr_db | setting |\n" + "| --- " * 6 + "|")
    for choice in tqdm(compete(task, sample, conditioning, METHODS), total=len(METHODS) * len(task.budgets)):
        print(line(choice), flush=True)


if __name__ == "__main__":
    main()
