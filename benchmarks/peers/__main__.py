"""The command line of `python -m benchmarks.peers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm

from benchmarks import peers
from benchmarks.command_line import parse, parser
from benchmarks.tables import Row, Table, write
from dipgo_fx.demo.models import CLASSES, NULL_CLASS, SAMPLE_SHAPE, load

from . import METHODS, Choice, Task, compete

NOTE = "Settings are chosen on the task's noise and measured on noise that no peer saw; PSNR in dB."
SMOKE = {"steps": 4, "tune": 2, "samples": 4, "full_runs": 2.0, "methods": ["fewer steps", "DeepCache"]}


def inputs(samples: int, guidance: float | None, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return noise and labels, under guidance after as many null labels."""
    noise = torch.randn((samples, *SAMPLE_SHAPE), generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(samples) % CLASSES
    if guidance is not None:
        labels = torch.cat([torch.full_like(labels, NULL_CLASS), labels])
    return noise, {"class_labels": labels}


def row(choice: Choice) -> Row:
    """Return a row of the table."""
    found = choice.outcome
    measured: dict[str, Any] = {"macs_kept": None, "macs_kept_without_attention": None, "psnr_db": None}
    if found is not None and not found.error:
        measured = {
            "macs_kept": round(found.kept, 4),
            "macs_kept_without_attention": round(found.kept_without_attention, 4),
            "psnr_db": round(found.psnr, 2),
        }
        return {"method": choice.method, "asked": choice.asked, **measured, "setting": str(found.setting)}
    return {"method": choice.method, "asked": choice.asked, **measured, "setting": choice.remark}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write the table."""
    made = parser(peers.__doc__)
    names = [method.name for method in METHODS]
    made.add_argument("--model", choices=["dit", "unet"], default="dit")
    made.add_argument("--methods", nargs="+", choices=names, default=names, metavar="METHOD")
    made.add_argument("--steps", type=int, default=20)
    made.add_argument("--guidance", type=float)
    made.add_argument("--tune", type=int, default=16, help="samples that settings are chosen on")
    made.add_argument("--samples", type=int, default=64, help="samples that the chosen ones run on")
    made.add_argument("--full-runs", type=float, default=20.0, help="of a search for one share of MACs")
    options = parse(made, argv, SMOKE)
    model, scheduler = load(options.model)
    noise, labels = inputs(options.tune, options.guidance, seed=1)
    task = Task(model, scheduler, options.steps, noise, labels, options.guidance, full_runs=options.full_runs)
    chosen = [method for method in METHODS if method.name in options.methods]
    unseen, conditioning = inputs(options.samples, options.guidance, seed=1000)
    choices = compete(task, unseen, conditioning, chosen)
    rows = [row(choice) for choice in tqdm(choices, total=len(chosen) * len(task.asked))]
    title = f"digits {options.model}, {options.steps} steps, guidance {options.guidance or 'none'}"
    print(write("peers", "Other packages", [Table(title, rows, NOTE, options.model)], options.out))


if __name__ == "__main__":
    main()
