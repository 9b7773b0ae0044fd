"""One search, other step counts: a plan placed by noise level beside a search for that count.

`python -m benchmarks.step_counts` searches once at ratio 0.8, moves the frontier of that plan to other
step counts, and writes results/step_counts.md: PSNR in dB to the unpruned result of that many steps, on noise
no search saw; a search made for the count, and the same sampler with fewer steps at equal MACs, stand beside.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from tqdm import tqdm

import dipgo_fx
from benchmarks.cases import CALIBRATION, CASES, Case
from benchmarks.command_line import CommandLine
from benchmarks.plans import Effort, compiled
from benchmarks.plans.learned import DEFAULT_RATIO, default_plan, one_search
from benchmarks.tables import Row, Table, write
from dipgo_fx import Loop, Plan, PrunedLoop

SMOKE = {"searched": 8, "steps": [6], "ratios": [0.5], "samples": 4, "calibration": 4, "full_runs": 2.0}


def rows(name: str, options: argparse.Namespace) -> Iterator[Row]:
    """Search once and measure that plan at every other step count."""
    effort = Effort(options.full_runs)
    plan = default_plan(case_of(name, options.searched, options), DEFAULT_RATIO, effort)
    for steps in tqdm(options.steps, desc=name):
        case = case_of(name, steps, options)
        for ratio in options.ratios:
            moved = at_steps_of(case, plan, ratio)
            kept = 1 - moved.plan.ratio  # a frontier need not have a point for what is asked
            loops: dict[str, Loop] = {
                f"searched at {options.searched}": moved,
                "searched at T": compiled(case, one_search(case, ratio, effort).plan),
                "fewer steps": case_of(name, max(1, round(steps * kept)), options).loop(),
            }
            scores = {title: case.quality_of(loop, options.samples).psnr_db for title, loop in loops.items()}
            yield {"T": steps, "asked": 1 - ratio, "kept": kept, **scores}


def case_of(name: str, steps: int, options: argparse.Namespace) -> Case:
    """Return a model at a step count."""
    return Case(name, steps, seed=options.seed, samples=options.calibration)


def at_steps_of(case: Case, plan: Plan, ratio: float) -> PrunedLoop:
    """Return a plan of another step count on a case."""
    return dipgo_fx.apply(
        case.model,
        case.scheduler,
        plan,
        ratio=ratio,
        num_inference_steps=case.steps,
        conditioning=case.calibration,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write."""
    made = CommandLine(__doc__, SMOKE)
    made.add_models(CASES, ("digits-dit",))
    made.add_argument("--searched", type=int, default=20, help="steps of the search")
    made.add_argument("--steps", nargs="+", type=int, default=[10, 30], help="other counts")
    made.add_argument("--ratios", nargs="+", type=float, default=[0.5, 0.8], help="shares to remove")
    made.add_argument("--seed", type=int, default=0)
    made.add_held_out(128)
    made.add_search(CALIBRATION)
    options = made.read(argv)
    found = [Table(f"PSNR in dB, {name}", list(rows(name, options)), name=name) for name in options.models]
    print(write("step_counts", "Other step counts", found, options.out))


if __name__ == "__main__":
    main()
