"""What a dearer search buys: quality of its plans by the images that it makes.

`python -m benchmarks.search_runs` searches at ratio 0.8 with several numbers of calibration samples and
of full runs, measures what is left for every ratio on noise no search saw, and writes results/search_runs.md
with a curve a model: PSNR in dB to the unpruned result. Its seeds are none of those of the other tables, so
that the search may be chosen by them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import product
from statistics import mean
from typing import NamedTuple

from tqdm import tqdm

from benchmarks import pictures, statistics
from benchmarks.cases import CALIBRATION, CASES, Case
from benchmarks.command_line import CommandLine
from benchmarks.plans import compiled
from benchmarks.plans.learned import DEFAULT_RATIO, at_other_ratio, found_in, searched
from benchmarks.tables import Row, Table, grouped, write
from dipgo_fx import PruneConfig


class Search(NamedTuple):
    """Calibration samples of a search, and the full runs that it may spend."""

    samples: int
    full_runs: float

    @classmethod
    def read(cls, text: str) -> Search:
        """Read `16x8`, or raise `ArgumentTypeError`."""
        samples, _, runs = text.partition("x")
        try:
            return cls(int(samples), float(runs))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"expected samples x full runs, such as 16x8, got {text!r}"
            ) from None


SEARCHES = (
    *(Search(8, runs) for runs in (8.0, 24.0)),
    *(Search(16, runs) for runs in (8.0, 12.0, 24.0)),
    *(Search(48, runs) for runs in (8.0, 12.0, 24.0)),
)
SMOKE = {
    "searches": [Search(2, 4.0), Search(4, 2.0)],
    "steps": 6,
    "seeds": [7],
    "ratios": [0.5],
    "samples": 4,
}


def rows(name: str, options: argparse.Namespace) -> Iterator[Row]:
    """Make each search with each seed, and measure the plans of each ratio."""
    todo = list(product(options.seeds, options.searches))
    for seed, search in tqdm(todo, desc=name):
        case = Case(name, options.steps, seed=seed, samples=search.samples)
        config = PruneConfig(samples=search.samples, chunk=case.chunk, full_runs=search.full_runs)
        found = found_in(searched(case, DEFAULT_RATIO, config))
        for ratio in options.ratios:
            loop = compiled(case, at_other_ratio(case, found, ratio).plan)
            told = statistics.told(case.errors_of(loop, options.samples))
            yield {
                "seed": seed,
                "samples": search.samples,
                "full runs": search.full_runs,
                "images": round(found.full_runs * CALIBRATION),  # in runs of so many samples, whatever it has
                "ratio": ratio,
                "PSNR": told["psnr_db"],
                "mean of images": told["psnr_mean_db"],
                "lowest 5%": told["psnr_low_db"],
            }


def draw(name: str, found: Sequence[Row], options: argparse.Namespace) -> None:
    """Draw the mean over seeds of the mean of images by the mean number of images, a line a ratio."""
    lines = {}
    for ratio, own in grouped(found, lambda row: row["ratio"]).items():
        searches = grouped(own, lambda row: (row["samples"], row["full runs"])).values()
        points = sorted(
            (mean(row["images"] for row in each), mean(row["mean of images"] for row in each))
            for each in searches
        )
        lines[f"{1 - ratio:.0%} kept"] = points
    title = f"{name}, {options.steps} steps, {len(options.seeds)} seeds"
    file = options.out / f"search_runs-{name}.png"
    pictures.curves(lines, "images that a search makes", "PSNR in dB, mean of images", title, file)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write and draw."""
    made = CommandLine(__doc__, SMOKE)
    made.add_models(CASES, ("digits-dit", "digits-unet"))
    made.add_argument(
        "--searches", nargs="+", type=Search.read, default=list(SEARCHES), help="samples x full runs: 16x8"
    )
    made.add_argument("--steps", type=int, default=20)
    made.add_argument("--seeds", nargs="+", type=int, default=[7, 8], help="of searches and of noise")
    made.add_argument("--ratios", nargs="+", type=float, default=[0.5, 0.7, 0.8], help="shares to remove")
    made.add_held_out(256)
    options = made.read(argv)
    found = {name: list(rows(name, options)) for name in options.models}
    tables = [Table(f"PSNR in dB, {name}", own, name=name) for name, own in found.items()]
    print(write("search_runs", "What a dearer search buys", tables, options.out))
    for name, own in found.items():
        draw(name, own, options)


if __name__ == "__main__":
    main()
