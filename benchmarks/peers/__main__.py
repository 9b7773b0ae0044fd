"""The command line of `python -m benchmarks.peers`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from benchmarks import peers
from benchmarks.cases import CASES, Case
from benchmarks.command_line import CommandLine
from benchmarks.tables import Row, Table, write

from . import METHODS, Curve, Method, Task, outcome_of

NOTE = "Settings are chosen on calibration samples and measured on held-out ones; PSNR in dB."
SMOKE = {
    "models": ["digits-dit"],
    "methods": ["fewer steps", "DeepCache"],
    "steps": 4,
    "tune": 2,
    "samples": 4,
    "full_runs": 2.0,
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    made = CommandLine(peers.__doc__, SMOKE)
    names = [method.name for method in METHODS]
    made.add_models(CASES, ("digits-dit", "digits-unet"))
    made.add_argument("--methods", nargs="+", choices=names, default=names, metavar="METHOD")
    made.add_argument(
        "--ratios", nargs="+", type=float, default=[0.3, 0.5, 0.7, 0.8], help="shares to remove"
    )
    made.add_argument("--steps", type=int, default=20)
    made.add_argument("--seed", type=int, default=0)
    made.add_held_out(64)
    made.add_tuning()
    made.add_argument("--full-runs", type=float, default=30.0, help="budget of a package that searches")
    return made.read(argv)


def rows(case: Case, method: Method, options: argparse.Namespace) -> Iterator[Row]:
    """Choose a method's setting for each ratio and run it on held-out inputs."""
    task = Task.of(case, options.tune, options.ratios, options.full_runs)
    curve = Curve.of(task, method)
    unseen = case.inputs(options.samples, held_out=True)
    target = case.loop()(unseen.sample, **unseen.conditioning)
    for asked in task.asked:
        best = curve.best(asked)
        row: Row = {"method": method.name, "asked": asked, "macs_kept": None, "psnr_db": None}
        if best is None:
            yield {**row, "setting": curve.error or curve.reach}
            continue
        found = outcome_of(best.sampler, unseen.sample, unseen.conditioning, target)
        measured = {"macs_kept": round(found.kept, 4), "psnr_db": round(found.psnr, 2)}
        yield {**row, **measured, "setting": found.error or str(found.setting)}


def table(name: str, options: argparse.Namespace) -> Table:
    """Measure the asked methods on a model."""
    case = Case(name, options.steps, seed=options.seed)
    chosen = tqdm([method for method in METHODS if method.name in options.methods], desc=name)
    found = [row for method in chosen for row in rows(case, method, options)]
    return Table(f"{name}, {options.steps} steps", found, NOTE, name)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write."""
    options = arguments(argv)
    found = [table(name, options) for name in options.models]
    print(write("peers", "Other packages", found, options.out))


if __name__ == "__main__":
    main()
