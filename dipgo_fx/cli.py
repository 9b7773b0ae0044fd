"""The command line: `dipgo-fx demo` and `dipgo-fx show`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, or 2 with a message for bad input."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (ValueError, OSError) as error:
        print(f"dipgo-fx {options.command}: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dipgo-fx", description="Prune diffusion sampling loops.")
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser("demo", help="prune the shipped digits model and compare")
    demo.add_argument("--model", choices=("dit", "unet"), default="dit")
    demo.add_argument("--ratio", type=float, default=0.8, help="share of MACs to remove, in [0, 1)")
    demo.add_argument("--steps", type=int, default=20, help="DDIM steps")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--out", type=Path, default=Path("dipgo-fx-demo"), help="folder for plan and pictures")
    demo.add_argument("--no-progress", action="store_true", help="show no progress bars")
    demo.set_defaults(run=_demo)

    show = commands.add_parser("show", help="print a plan file as a table of steps and blocks")
    show.add_argument("plan", type=Path)
    show.set_defaults(run=_show)
    return parser


def _demo(options: argparse.Namespace) -> None:
    try:
        import torch

        from .demo.run import run
    except ModuleNotFoundError as error:
        raise ValueError(f"the demo needs {error.name}: pip install 'dipgo-fx[demo]'") from error
    # Digits are too small to share among threads: one is faster, and its timings are steady.
    torch.set_num_threads(1)
    run(
        options.model,
        ratio=options.ratio,
        steps=options.steps,
        seed=options.seed,
        out=options.out,
        progress=not options.no_progress,
    )


def _show(options: argparse.Namespace) -> None:
    from .plan import Plan

    print(Plan.load(options.plan))
