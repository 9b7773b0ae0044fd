"""One search, other step counts: a plan placed by noise level beside a search for that count.

`python -m benchmarks.step_counts` searches once at ratio 0.8, moves the frontier of that plan to other
step counts, and writes results/step_counts.md: PSNR in dB to the unpruned result of that many steps, on noise
no search saw; a search made for the count, and the same sampler with fewer steps at equal MACs, stand beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

import dipgo_fx
from benchmarks.cases import CALIBRATION, CASES, Case
from benchmarks.command_line import parse, parser
from benchmarks.plans import Effort, compiled
from benchmarks.plans.learned import DEFAULT_RATIO, default, one_search
from benchmarks.tables import Row, Table, write
from dipgo_fx import Loop
from dipgo_fx.search.losses import psnr

SMOKE = {"searched": 8, "steps": [6], "ratios": [0.5], "samples": 4, "calibration": 4, "full_runs": 3.0}


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        searched: step count of the search whose plan is moved.
        samples: held-out samples.
        calibration: samples of a search.
        effort: what a search may spend.
    """

    searched: int
    samples: int
    calibration: int
    effort: Effort


def rows(name: str, steps: Sequence[int], ratios: Sequence[float], options: Options) -> Iterator[Row]:
    """Search once and measure that plan at every other step count."""
    case = Case(name, options.searched, samples=options.calibration)
    plan = default(case, DEFAULT_RATIO, options.effort).plan
    for count in tqdm(steps, desc=name):
        other = Case(name, count, samples=options.calibration)
        for ratio in ratios:
            yield row(other, plan, ratio, options)


def row(case: Case, plan: dipgo_fx.Plan, ratio: float, options: Options) -> Row:
    """Measure a plan of another step count on a case."""
    moved = dipgo_fx.apply(case.model, case.scheduler, plan, ratio=ratio, num_inference_steps=case.steps)
    own = compiled(case, one_search(case, ratio, options.effort).plan)
    fewer = dipgo_fx.trace(case.model, case.scheduler, max(1, round(case.steps * (1 - ratio))))
    return {
        "T": case.steps,
        "kept": 1 - moved.plan.ratio,
        f"searched at {options.searched}": score(case, moved, options.samples),
        "searched at T": score(case, own, options.samples),
        "fewer steps": score(case, fewer, options.samples),
    }


@torch.no_grad()
def score(case: Case, loop: Loop, samples: int) -> float:
    """Return the PSNR on the case's held-out inputs."""
    inputs = case.inputs(samples, held_out=True)
    result, target = (run(inputs.sample, **inputs.conditioning) for run in (loop, case.loop()))
    return psnr(result, target)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write."""
    made = parser(__doc__)
    made.add_argument("--model", choices=[c for c in CASES if c.startswith("digits")], default="digits-dit")
    made.add_argument("--searched", type=int, default=20, help="steps of the search")
    made.add_argument("--steps", nargs="+", type=int, default=[10, 30], help="other counts")
    made.add_argument("--ratios", nargs="+", type=float, default=[0.5, 0.8], help="shares to remove")
    made.add_argument("--samples", type=int, default=128, help="held-out samples")
    made.add_argument("--calibration", type=int, default=CALIBRATION, help="samples of a search")
    made.add_argument("--full-runs", type=float, default=30.0, help="budget of every search")
    options = parse(made, argv, SMOKE)
    how = Options(options.searched, options.samples, options.calibration, Effort(options.full_runs))
    found = list(rows(options.model, options.steps, options.ratios, how))
    table = Table(f"PSNR in dB, {options.model}", found, name=options.model)
    print(write("step_counts", "Other step counts", [table], options.out))


if __name__ == "__main__":
    main()
