"""The command line of `python -m benchmarks.quality`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks import peers, quality
from benchmarks.cases import CALIBRATION, CASES, Case
from benchmarks.command_line import CommandLine
from benchmarks.plans import PLAN_METHODS, Effort
from benchmarks.results_store import ResultStore
from benchmarks.tables import write

from . import tables
from .measuring import measure
from .offers import Options
from .plots import draw, samples_file
from .rows import CurvePoint, Row

RATIOS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
SCHEDULERS = ("DDIM", "PNDM", "DPM-Solver++", "UniPC", "Euler", "Heun")  # those that draw no noise
SMOKE = {
    "models": ["digits-dit", "digits-unet"],
    "methods": ["fewer steps", "DeepCache", "uniform, linear", "random search", "dipgo_fx default"],
    "ratios": [0.5],
    "steps": [4],
    "samples": 8,
    "tune": 4,
    "calibration": 4,
    "full_runs": 2.0,
    "paper_iterations": 4,
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    made = CommandLine(quality.__doc__, SMOKE)
    known = [*(m.name for m in PLAN_METHODS), *(m.name for m in peers.METHODS)]
    made.add_models(CASES)
    made.add_argument("--methods", nargs="+", choices=known, metavar="METHOD", help=", ".join(known))
    made.add_argument("--ratios", nargs="+", type=float, default=list(RATIOS), help="shares to remove")
    made.add_argument("--steps", nargs="+", type=int, default=[20])
    made.add_argument("--schedulers", nargs="+", choices=SCHEDULERS, default=["DDIM"])
    made.add_argument("--seeds", nargs="+", type=int, default=[0])
    made.add_held_out(256)
    made.add_argument("--chunk", type=int, default=64, help="held-out samples that run together")
    made.add_tuning()
    made.add_search(CALIBRATION)
    made.add_baselines()
    made.add_argument("--curves", action="store_true", help="write all settings of packages")
    made.add_argument("--plots", action="store_true", help="draw the pictures afterwards")
    made.add_argument("--merge", nargs="*", type=Path, help="only add the rows of other files")
    return made.read(argv)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield what was asked for, seeds last: a stopped run has whole cases."""
    for seed in options.seeds:
        for name in options.models:
            for scheduler in options.schedulers:
                for steps in options.steps:
                    yield Case(name, steps, scheduler, seed, options.calibration)


def run(options: argparse.Namespace, store: ResultStore[Row]) -> None:
    """Measure what is missing."""
    curves = ResultStore(options.out / "quality-curves.csv", CurvePoint) if options.curves else None
    effort = Effort(options.full_runs, options.search_scale, options.paper_iterations)
    how = Options(options.samples, options.chunk, options.tune, effort)
    bar = tqdm(desc="rows", unit="row")
    first_seed = min([*options.seeds, *(row.seed for row in store.rows())])  # the one the tables show
    for case in cases(options):
        about = Row(case.name, case.scheduler_name, case.steps, "", 0.0)
        pictured = samples_file(options.out, about) if case.seed == first_seed else None
        for row in measure(case, store, options.ratios, how, options.methods, curves, pictured):
            bar.update()
            told = row.error[:40] if row.error else f"{row.psnr_db} dB"
            bar.set_postfix_str(f"{row.model} {row.method} {row.ratio_asked}: {told}")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write tables and pictures."""
    options = arguments(argv)
    store = ResultStore(options.out / "quality.csv", Row)
    if options.merge is None:
        run(options, store)
    else:
        for file in options.merge:
            print(f"{file}: {store.merge(file)} new rows")
    rows = store.rows()
    print(write("quality", tables.TITLE, tables.parts(rows), options.out, tables.GUIDE))
    if options.plots:
        draw(rows, options.out)


if __name__ == "__main__":
    main()
