"""The command line of `python -m benchmarks.ablations`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import ablations, pictures
from benchmarks.cases import CALIBRATION, CASES
from benchmarks.command_line import CommandLine
from benchmarks.plans import Effort
from benchmarks.results_store import ResultStore
from benchmarks.tables import write

from . import tables
from .lab import Lab, measure
from .similarity import similarities
from .variants import DEFAULT, PAPER, Row, Variant, variants

SMOKE = {
    "models": ["digits-dit"],
    "studies": ["search"],
    "steps": 4,
    "ratios": [0.5],
    "samples": 4,
    "calibration": 4,
    "full_runs": 2.0,
    "paper_iterations": 1,
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    made = CommandLine(ablations.__doc__, SMOKE)
    studies = list(dict.fromkeys(variant.study for variant in variants()))
    made.add_models(CASES, ("digits-dit", "fashion-unet"))
    made.add_argument("--studies", nargs="+", choices=studies, default=studies)
    made.add_argument("--ratios", nargs="+", type=float, default=[0.5, 0.8], help="shares to remove")
    made.add_argument("--steps", type=int, default=20)
    made.add_argument("--seeds", nargs="+", type=int, default=[0])
    made.add_held_out(64)
    made.add_search(CALIBRATION)
    made.add_baselines()
    made.add_argument("--plots", action="store_true", help="draw the pictures of each model afterwards")
    return made.read(argv)


def draw(lab: Lab, ratios: Sequence[float], out: Path) -> None:
    """Draw figures 6 and 7 for a model."""
    case = lab.case()
    about = f"{case.name}, {case.scheduler_name}, {case.steps} steps"
    title = f"Similarity of block outputs across steps: {about}"
    maps = similarities(case, min(lab.samples, 16))
    pictures.similarity(maps, title, out / f"similarity-{case.name}.png")
    for recipe in (DEFAULT, PAPER):
        found = {ratio: lab.found(Variant("", "", recipe), ratio)[0].plan for ratio in ratios}
        states = {f"{1 - ratio:.0%} of MACs kept": plan.states() for ratio, plan in found.items()}
        blocks = next(iter(found.values())).blocks
        title = f"Blocks that run, {recipe} recipe: {about}"
        pictures.states(states, blocks, title, out / f"kept-{recipe}-{case.name}.png")


def run(options: argparse.Namespace, store: ResultStore[Row]) -> None:
    """Measure what is missing."""
    effort = Effort(options.full_runs, options.search_scale, options.paper_iterations)
    chosen = [variant for variant in variants() if variant.study in options.studies]
    for name in options.models:
        for seed in options.seeds:
            lab = Lab(name, options.steps, seed, effort, options.samples, options.calibration)
            measure(lab, store, chosen, options.ratios)
            if options.plots and seed == options.seeds[0]:
                draw(lab, options.ratios, options.out)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write tables and pictures."""
    options = arguments(argv)
    store = ResultStore(options.out / "ablations.csv", Row)
    run(options, store)
    print(write("ablations", tables.TITLE, list(tables.parts(store.rows())), options.out, tables.GUIDE))


if __name__ == "__main__":
    main()
