"""What more runs of a search buy: quality of one search's plans by the full runs that it may spend.

`python -m benchmarks.search_runs` searches at ratio 0.8 with each budget, measures what is left for every
ratio on noise no search saw, and writes results/search_runs.md with a curve a model: PSNR in dB to the
unpruned result. Its seeds are none of those of the other tables, so that the search may be chosen by them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import product
from statistics import mean

from tqdm import tqdm

from benchmarks import pictures, statistics
from benchmarks.cases import CALIBRATION, CASES, Case
from benchmarks.command_line import CommandLine
from benchmarks.plans import compiled
from benchmarks.plans.learned import DEFAULT_RATIO, at_other_ratio, found_in, searched
from benchmarks.tables import Row, Table, grouped, write
from dipgo_fx import PruneConfig

SMOKE = {"runs": [2.0, 3.0], "steps": 6, "seeds": [7], "ratios": [0.5], "samples": 4, "calibration": 4}


def rows(name: str, options: argparse.Namespace) -> Iterator[Row]:
    """Search with each budget and seed, and measure the plans of each ratio."""
    todo = list(product(options.seeds, options.runs))
    for seed, runs in tqdm(todo, desc=name):
        case = Case(name, options.steps, seed=seed, samples=options.calibration)
        config = PruneConfig(samples=case.samples, chunk=case.chunk, full_runs=runs)
        found = found_in(searched(case, DEFAULT_RATIO, config))
        for ratio in options.ratios:
            loop = compiled(case, at_other_ratio(case, found, ratio).plan)
            told = statistics.told(case.errors_of(loop, options.samples))
            yield {
                "seed": seed,
                "full runs": runs,
                "spent": round(found.full_runs, 1),
                "ratio": ratio,
                "PSNR": told["psnr_db"],
                "mean of images": told["psnr_mean_db"],
                "lowest 5%": told["psnr_low_db"],
            }


def draw(name: str, found: Sequence[Row], options: argparse.Namespace) -> None:
    """Draw the mean over seeds of the mean of images, a line a ratio."""
    lines = {}
    for ratio, own in grouped(found, lambda row: row["ratio"]).items():
        spent = grouped(own, lambda row: row["full runs"])
        points = sorted((runs, mean(row["mean of images"] for row in each)) for runs, each in spent.items())
        lines[f"{1 - ratio:.0%} kept"] = points
    title = f"{name}, {options.steps} steps, {len(options.seeds)} seeds"
    file = options.out / f"search_runs-{name}.png"
    pictures.curves(lines, "full runs that a search may spend", "PSNR in dB, mean of images", title, file)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write and draw."""
    made = CommandLine(__doc__, SMOKE)
    made.add_models(CASES, ("digits-dit", "digits-unet"))
    made.add_argument("--runs", nargs="+", type=float, default=[6.0, 8.0, 12.0, 24.0, 48.0], help="full runs")
    made.add_argument("--steps", type=int, default=20)
    made.add_argument("--seeds", nargs="+", type=int, default=[7, 8], help="of searches and of noise")
    made.add_argument("--ratios", nargs="+", type=float, default=[0.5, 0.7, 0.8], help="shares to remove")
    made.add_argument("--calibration", type=int, default=CALIBRATION, help="samples of a search")
    made.add_held_out(256)
    options = made.read(argv)
    found = {name: list(rows(name, options)) for name in options.models}
    tables = [Table(f"PSNR in dB, {name}", own, name=name) for name, own in found.items()]
    print(write("search_runs", "What more runs of a search buy", tables, options.out))
    for name, own in found.items():
        draw(name, own, options)


if __name__ == "__main__":
    main()
