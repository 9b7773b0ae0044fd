"""One search, other step counts: a plan placed by noise level beside a search for that count.

`python -m benchmarks.step_counts` searches once at 20 steps and ratio 0.8, moves the plan's ladder to other
step counts, and writes results/step_counts.md: PSNR in dB to the unpruned result of that many steps, on noise
no search saw; a search made for the count, and the same sampler with fewer steps at equal MACs, stand beside.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from tqdm import tqdm

import dipgo_fx
from benchmarks.cases import CASES, Case
from benchmarks.plans import DEFAULT_RATIO, Effort, compiled, default, one_search
from benchmarks.tables import Row, Table, write
from dipgo_fx.losses import psnr

SEARCHED = 20


@torch.no_grad()
def score(case: Case, run: torch.nn.Module, target: torch.Tensor) -> float:
    """Return the PSNR on the case's held-out inputs."""
    inputs = case.inputs(len(target), held_out=True)
    return float(psnr(run(inputs.sample, **inputs.conditioning), target))


@torch.no_grad()
def rows(name: str, steps: Sequence[int], ratios: Sequence[float], samples: int, effort: Effort) -> list[Row]:
    """Measure a plan of `SEARCHED` steps at every other count."""
    plan = default(Case(name, SEARCHED), DEFAULT_RATIO, effort).plan
    found: list[Row] = []
    for count in tqdm(steps, desc=name):
        case = Case(name, count)
        inputs = case.inputs(samples, held_out=True)
        target = case.loop()(inputs.sample, **inputs.conditioning)
        for ratio in ratios:
            options = {"ratio": ratio, "num_inference_steps": count}
            moved = dipgo_fx.apply(case.model, case.scheduler, plan, **options)  # type: ignore[arg-type]
            own = compiled(case, one_search(case, ratio, effort).plan)
            fewer = dipgo_fx.trace(case.model, case.scheduler, max(1, round(count * (1 - ratio))))
            scores = {
                f"searched at {SEARCHED}": score(case, moved, target),
                "searched at T": score(case, own, target),
                "fewer steps": score(case, fewer, target),
            }
            found.append({"T": count, "kept": 1 - moved.plan.ratio, **scores})
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=[c for c in CASES if c.startswith("digits")], default="digits-dit")
    parser.add_argument("--steps", nargs="+", type=int, default=[10, 15, 30, 50])
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.5, 0.7, 0.8])
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--full-runs", type=float, default=30.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    effort = Effort(options.full_runs)
    found = rows(options.model, options.steps, options.ratios, options.samples, effort)
    write("step_counts", "Other step counts", [Table(options.model, f"PSNR in dB, {options.model}", found)])


if __name__ == "__main__":
    main()
