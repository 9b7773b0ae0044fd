"""The command line of `python -m benchmarks.factorial`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import factorial
from benchmarks.cases import CALIBRATION, CASES, asked_cases
from benchmarks.command_line import CommandLine
from benchmarks.plans import Effort
from benchmarks.quality.measuring import Stores
from benchmarks.quality.offers import Options
from benchmarks.quality.targets import Targets, cache_folder
from benchmarks.tables import write

from . import tables
from .measuring import measure

SMOKE = {
    "models": ["digits-dit"],
    "ratios": [0.5],
    "steps": [4],
    "samples": 6,
    "calibration": 6,
    "full_runs": 2.0,
}
SAMPLERS = ("DDIM", "DPM-Solver++", "UniPC", "Euler", "flow-match Euler")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    made = CommandLine(factorial.__doc__, SMOKE)
    made.add_models(CASES, ("digits-dit", "fashion-dit"))
    made.add_argument("--ratios", nargs="+", type=float, default=[0.5, 0.8], help="shares to remove")
    made.add_argument("--steps", nargs="+", type=int, default=[20])
    made.add_argument("--schedulers", nargs="+", choices=SAMPLERS, default=["DDIM"])
    made.add_argument("--guidance", nargs="+", type=float, default=[None], help="scales; the model's own")
    made.add_argument("--seeds", nargs="+", type=int, default=[0])
    made.add_held_out(256)
    made.add_device()
    made.add_argument("--chunk", type=int, default=64, help="held-out samples that run together")
    made.add_argument("--cache", type=Path, help="folder of targets; the user's cache by default")
    made.add_search(CALIBRATION)
    options = made.read(argv)
    if options.cache is None:
        options.cache = options.out / "cache" if options.smoke else cache_folder()
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write the tables."""
    options = arguments(argv)
    stores = Stores.in_folder(options.out, "factorial")
    targets = Targets(options.cache, options.chunk, converged_steps=0)
    how = Options(targets, options.samples, options.chunk, effort=Effort(options.full_runs))
    for case in asked_cases(options):
        for row in measure(case, stores, options.ratios, how):
            told = row.error or f"{row.psnr_db} dB"
            print(f"{row.about}, {1 - row.ratio_asked:.0%}, {row.method}: {told}", flush=True)
    rows = stores.rows.rows()
    print(write("factorial", tables.TITLE, tables.parts(rows, stores.images), options.out, tables.GUIDE))


if __name__ == "__main__":
    main()
