"""What a search costs: unpruned runs spent, and how the memory of its dearest step grows with the steps.

`python -m benchmarks.search_cost` writes results/search_cost.md. Memory is the peak of live tensor bytes
during one step of a search, counted storage by storage, less what was there before: a Gauss-Newton step of
the default search, a gradient step through the SuperNet of the paper's, with and without recomputation.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

import dipgo_fx
from benchmarks.command_line import parse, parser
from benchmarks.tables import Row, Table, write
from dipgo_fx import PaperConfig, PruneConfig
from dipgo_fx.cost import LoopCost
from dipgo_fx.demo.models import DigitModel, load
from dipgo_fx.passes import split_steps
from dipgo_fx.passes.insert_gates import GATES
from dipgo_fx.pruning import frozen
from dipgo_fx.search.calibration import calibrate
from dipgo_fx.search.config import Config
from dipgo_fx.search.evaluator import Evaluator
from dipgo_fx.search.gauss_newton import gauss_newton
from dipgo_fx.search.paper import descend
from dipgo_fx.search.sensitivity import whole_steps_candidate

RATIO = 0.8
SMOKE = {"steps": [6], "samples": 8, "full_runs": 2.0, "calibration": 4}


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.current = self.peak = 0
        self._seen: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count its new storages."""
        result = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        self._seen[key] = storage.nbytes()
        self.current += storage.nbytes()
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.current -= self._seen.pop(key, 0)


def evaluator(model: Any, scheduler: Any, steps: int, config: Config) -> Evaluator:
    """Return what a search of `config.samples` samples would evaluate plans with."""
    loop = dipgo_fx.trace(model, scheduler, steps)
    batch = calibrate(loop, model, None, config.samples, 1.0, torch.Generator().manual_seed(0))
    return Evaluator(loop, LoopCost.of(loop), batch, config)


def newton_step(model: Any, scheduler: Any, steps: int, samples: int) -> int:
    """Return the peak of moving the weights of a plan that runs every fifth step."""
    own = evaluator(model, scheduler, steps, PruneConfig(samples=samples, chunk=samples))
    runs = (tuple(range(0, own.cost.num_steps, 5)),)
    with LiveBytes() as live:
        gauss_newton(own, whole_steps_candidate(own, runs))
    return live.peak


def gradient_step(model: Any, scheduler: Any, steps: int, samples: int, checkpoint: bool) -> int:
    """Return the peak of a step through the SuperNet of `reuse` backups, all gates half open."""
    config = PaperConfig(samples=samples, batch_size=samples, loss="l2", checkpoint=checkpoint)
    own = evaluator(model, scheduler, steps, config)
    with LiveBytes() as live:
        gates = torch.full((own.cost.num_steps, own.cost.num_blocks), 0.5, requires_grad=True)
        supernet = own.supernet(history=1)
        net = split_steps(supernet) if checkpoint else supernet
        descend(own, net, checkpoint, own.batch, {GATES: gates})
    return live.peak


STEPS_OF_A_SEARCH: dict[str, Callable[[Any, Any, int, int], int]] = {
    "Gauss-Newton (default)": newton_step,
    "gradient, recomputed (paper)": partial(gradient_step, checkpoint=True),
    "gradient, all kept": partial(gradient_step, checkpoint=False),
}


def memory(model: Any, scheduler: Any, name: str, steps: int, samples: int) -> Row:
    """Measure the peak of one step of a search."""
    with frozen(model):
        peak = STEPS_OF_A_SEARCH[name](model, scheduler, steps, samples)
    return {"step of a search": name, "T": steps, "peak_MiB": peak / 2**20}


def search(model: Any, scheduler: Any, steps: int, config: PruneConfig, seed: int) -> Row:
    """Measure a default search."""
    generator = torch.Generator().manual_seed(seed)
    plan = dipgo_fx.prune(
        model,
        scheduler,
        RATIO,
        num_inference_steps=steps,
        config=config,
        generator=generator,
        progress=False,
    ).plan
    return {
        "steps": steps,
        "ratio": RATIO,
        "full_runs": plan.origin["full_runs"],
        "seconds": plan.origin["seconds"],
        "points": len(plan.frontier),
        "loss": plan.origin["loss"],
    }


def tables(
    name: DigitModel, steps: Sequence[int], samples: int, config: PruneConfig, seed: int
) -> list[Table]:
    """Measure memory, then searches, for every step count."""
    model, scheduler = load(name)
    cases = [(kind, count) for kind in STEPS_OF_A_SEARCH for count in steps]
    peaks = [memory(model, scheduler, kind, count, samples) for kind, count in tqdm(cases, desc="memory")]
    runs = [search(model, scheduler, count, config, seed) for count in tqdm(steps, desc="searches")]
    title = f"Memory of one step of a search, digits {name}, {samples} samples"
    return [
        Table(title, peaks, name="memory"),
        Table(f"Default searches, digits {name}", runs, name="runs"),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write."""
    made = parser(__doc__)
    made.add_argument("--model", choices=("dit", "unet"), default="dit")
    made.add_argument("--steps", nargs="+", type=int, default=[10, 20, 50])
    made.add_argument("--samples", type=int, default=8, help="of a step whose memory is measured")
    made.add_argument("--calibration", type=int, default=PruneConfig.samples, help="samples of a search")
    made.add_argument("--full-runs", type=float, default=PruneConfig.full_runs, help="budget of a search")
    made.add_argument("--seed", type=int, default=0)
    options = parse(made, argv, SMOKE)
    config = PruneConfig(samples=options.calibration, full_runs=options.full_runs)
    found = tables(options.model, options.steps, options.samples, config, options.seed)
    print(write("search_cost", "What a search costs", found, options.out))


if __name__ == "__main__":
    main()
