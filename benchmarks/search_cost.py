"""What a search costs: unpruned runs spent, and how the memory of its dearest step grows with the steps.

`python -m benchmarks.search_cost` writes results/search_cost.md. Memory is the peak of live tensor bytes
during one step of a search, counted storage by storage, less what was there before: a Gauss-Newton step of
the default search, a gradient step through the SuperNet of the paper's, with and without recomputation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from tqdm import tqdm

from benchmarks.cases import CALIBRATION, CASES, Case
from benchmarks.command_line import CommandLine
from benchmarks.live_bytes import LiveBytes
from benchmarks.plans import Effort
from benchmarks.plans.learned import DEFAULT_RATIO, default_plan
from benchmarks.tables import Row, Table, write
from dipgo_fx import PaperConfig, PruneConfig
from dipgo_fx.frozen import frozen
from dipgo_fx.passes import split_steps
from dipgo_fx.passes.insert_gates import GATES
from dipgo_fx.search.gauss_newton import FEWEST, gauss_newton
from dipgo_fx.search.paper import descend
from dipgo_fx.search.sensitivity import whole_steps_candidate

SMOKE = {"steps": [6], "batch": 8, "full_runs": 3.0, "calibration": 8}


def newton_step(case: Case) -> int:
    """Return the peak of moving the weights of a plan that runs every fifth step.

    Raises `ValueError` for so few samples that the search would leave the step out.
    """
    if case.samples < FEWEST:
        raise ValueError(f"a Gauss-Newton step goes by {FEWEST} samples or more, got {case.samples}")
    own = case.evaluator(config=PruneConfig(samples=case.samples, chunk=case.samples))
    runs = (tuple(range(0, own.cost.num_steps, 5)),)
    with LiveBytes() as live:
        gauss_newton(own, whole_steps_candidate(own, runs))
    return live.peak


def gradient_step(case: Case, checkpoint: bool) -> int:
    """Return the peak of a step through the SuperNet of `reuse` backups, all gates half open."""
    count = case.samples
    config = PaperConfig(samples=count, batch_size=count, loss="l2", checkpoint=checkpoint)
    own = case.evaluator(config=config)
    with LiveBytes() as live:
        gates = torch.full((own.cost.num_steps, own.cost.num_blocks), 0.5, requires_grad=True)
        supernet = own.supernet(history=1)
        net = split_steps(supernet) if checkpoint else supernet
        descend(own, net, checkpoint, own.batch, {GATES: gates})
    return live.peak


STEPS_OF_A_SEARCH: dict[str, Callable[[Case], int]] = {
    "Gauss-Newton (default)": newton_step,
    "gradient, recomputed (paper)": partial(gradient_step, checkpoint=True),
    "gradient, all kept": partial(gradient_step, checkpoint=False),
}


def memory(case: Case, name: str) -> Row:
    """Measure the peak of one step of a search."""
    with frozen(case.model):
        peak = STEPS_OF_A_SEARCH[name](case)
    return {"step of a search": name, "T": case.steps, "peak_MiB": peak / 2**20}


def search(case: Case, effort: Effort) -> Row:
    """Measure a default search."""
    plan = default_plan(case, DEFAULT_RATIO, effort)
    return {
        "steps": case.steps,
        "ratio": DEFAULT_RATIO,
        "full_runs": plan.origin["full_runs"],
        "seconds": plan.origin["seconds"],
        "points": len(plan.frontier),
        "loss": plan.origin["loss"],
    }


def tables(name: str, options: argparse.Namespace) -> Iterator[Table]:
    """Measure memory, then searches, for every step count."""

    def case(steps: int, samples: int) -> Case:
        return Case(name, steps, seed=options.seed, samples=samples)

    kinds = [(kind, steps) for kind in STEPS_OF_A_SEARCH for steps in options.steps]
    peaks = [memory(case(steps, options.batch), kind) for kind, steps in tqdm(kinds, desc="memory")]
    title = f"Memory of one step of a search, {name}, {options.batch} samples"
    yield Table(title, peaks, name=f"memory-{name}")
    effort, counts = Effort(options.full_runs), tqdm(options.steps, desc="searches")
    runs = [search(case(steps, options.calibration), effort) for steps in counts]
    yield Table(f"Default searches, {name}", runs, name=f"runs-{name}")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write."""
    made = CommandLine(__doc__, SMOKE)
    made.add_models(CASES, ("digits-dit",))
    made.add_argument("--steps", nargs="+", type=int, default=[10, 20, 50])
    made.add_argument("--batch", type=int, default=8, help="samples of a step whose memory is measured")
    made.add_argument("--seed", type=int, default=0)
    made.add_search(CALIBRATION)
    options = made.read(argv)
    found = [table for name in options.models for table in tables(name, options)]
    print(write("search_cost", "What a search costs", found, options.out))


if __name__ == "__main__":
    main()
