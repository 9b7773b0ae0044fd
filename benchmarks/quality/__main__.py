"""The command line of `python -m benchmarks.quality`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks import peers, quality
from benchmarks.cases import CALIBRATION, CASES, KNOWN, asked_cases
from benchmarks.command_line import CommandLine
from benchmarks.frechet import ENOUGH
from benchmarks.plans import PLAN_METHODS, Effort
from benchmarks.results_store import ResultStore
from benchmarks.tables import write

from . import progress, tables
from .far_from_real import measure_distances
from .measuring import Stores, measure, missing, row_about
from .offers import Options
from .plots import draw, samples_file
from .rows import CurvePoint, FrechetRow
from .targets import CONVERGED_STEPS, Targets, cache_folder

RATIOS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
# Those that draw no noise.
SCHEDULERS = ("DDIM", "PNDM", "DPM-Solver++", "UniPC", "Euler", "Heun", "flow-match Euler")
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
    "converged_steps": 20,
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    made = CommandLine(quality.__doc__, SMOKE)
    known = [*(m.name for m in PLAN_METHODS), *(m.name for m in peers.METHODS)]
    made.add_models(KNOWN, CASES)
    made.add_argument("--methods", nargs="+", choices=known, metavar="METHOD", help=", ".join(known))
    made.add_argument("--ratios", nargs="+", type=float, default=list(RATIOS), help="shares to remove")
    made.add_argument("--steps", nargs="+", type=int, default=[20])
    made.add_argument(
        "--schedulers", nargs="+", choices=SCHEDULERS, default=[None], help="the model's own by default"
    )
    made.add_argument("--guidance", nargs="+", type=float, default=[None], help="scales; the model's own")
    made.add_argument("--seeds", nargs="+", type=int, default=[0])
    made.add_held_out(256)
    made.add_device()
    made.add_argument("--chunk", type=int, default=64, help="held-out samples that run together")
    made.add_argument("--cache", type=Path, help="folder of targets; the user's cache by default")
    made.add_argument(
        "--converged-steps", type=int, default=CONVERGED_STEPS, help="of the converged target; 0: none"
    )
    made.add_argument(
        "--frechet", type=int, metavar="N", help="only distances of N images to real ones, for --methods"
    )
    made.add_tuning()
    made.add_search(CALIBRATION)
    made.add_baselines()
    made.add_argument("--curves", action="store_true", help="write all settings of packages")
    made.add_argument(
        "--plots",
        action="store_true",
        help="draw the pictures after measuring or merging",
    )
    made.add_argument("--merge", nargs="*", type=Path, help="only add the rows of other files")
    made.add_argument(
        "--renew", action="store_true", help="only give quality.csv the columns of today; see above"
    )
    options = made.read(argv)
    if options.frechet is not None and not options.smoke and options.frechet < ENOUGH:
        made.error(f"--frechet needs at least {ENOUGH} images, got {options.frechet}")
    if options.cache is None:
        options.cache = options.out / "cache" if options.smoke else cache_folder()
    return options


def how(options: argparse.Namespace) -> Options:
    """Return how to measure."""
    effort = Effort(options.full_runs, options.search_scale, options.paper_iterations)
    targets = Targets(options.cache, options.chunk, options.converged_steps)
    return Options(targets, options.frechet or options.samples, options.chunk, options.tune, effort)


def run(options: argparse.Namespace, stores: Stores) -> None:
    """Measure what is missing."""
    curves = ResultStore(options.out / "quality-curves.csv", CurvePoint) if options.curves else None
    print(expected(options, stores))
    bar = tqdm(desc="rows", unit="row")
    first_seed = min([*options.seeds, *(row.seed for row in stores.rows.rows())])  # the pictured one
    for case in asked_cases(options):
        about = row_about(case, "", 0.0)
        pictured = samples_file(options.out, about) if case.seed == first_seed else None
        rows = measure(case, stores, options.ratios, how(options), options.methods, curves, pictured)
        for row in rows:
            bar.update()
            told = row.error[:40] if row.error else f"{row.psnr_db} dB"
            bar.set_postfix_str(f"{row.model} {row.method} {row.ratio_asked}: {told}")


def expected(options: argparse.Namespace, stores: Stores) -> str:
    """Say how much is missing."""
    known, todo = stores.measured(options.samples), Counter[tuple[str, str]]()
    for case in asked_cases(options):
        for contender, ratios in missing(case, known, options.ratios, how(options), options.methods):
            todo[case.name, contender.name] += len(ratios)
    return progress.left(todo, stores.rows.rows(), options.samples)


def run_distances(options: argparse.Namespace) -> None:
    """Measure distances to real images."""
    store = ResultStore(options.out / "quality-frechet.csv", FrechetRow)
    for case in asked_cases(options):
        for row in measure_distances(case, store, options.ratios, how(options), options.methods):
            print(f"{row.model} {row.method} {row.ratio_asked}: {row.difference} beside the unpruned model")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write tables and pictures."""
    options = arguments(argv)
    stores = Stores.in_folder(options.out)
    if options.frechet is not None:
        run_distances(options)
        return
    if options.renew:
        stores.rows.renew()
    elif options.merge is None:
        if options.guidance != [None]:
            stores.rows.check_columns(["guidance"])  # before anything is measured
        run(options, stores)
    else:
        for file in options.merge:
            print(f"{file}: {stores.merge(file)} new rows")
    rows = stores.rows.rows()
    print(write("quality", tables.TITLE, tables.parts(rows, stores.images), options.out, tables.GUIDE))
    if options.plots:
        draw(rows, options.out)


if __name__ == "__main__":
    main()
