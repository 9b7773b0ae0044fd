"""What a search costs: unpruned runs spent, and how the memory of its dearest step grows with the steps.

`python -m benchmarks.search_cost` writes results/search_cost.md. Memory is the peak of live tensor bytes
during one step of a search, counted storage by storage, less what was there before: a Gauss-Newton step of
the default search, a gradient step through the SuperNet of the paper's, with and without recomputation.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

import dipgo_fx
from benchmarks.tables import Row, Table, write
from dipgo_fx import PruneConfig
from dipgo_fx.arena import Arena, frozen
from dipgo_fx.calibration import calibrate
from dipgo_fx.demo.models import DigitModel, load
from dipgo_fx.ladder import rung_draft
from dipgo_fx.macs import LoopCost


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


def arena(model: Any, scheduler: Any, steps: int, samples: int, checkpoint: bool = True) -> Arena:
    """Return where a search of `samples` samples would judge plans."""
    config = PruneConfig(samples=samples, batch_size=samples, chunk=samples, checkpoint=checkpoint)
    loop = dipgo_fx.trace(model, scheduler, steps)
    generator = torch.Generator().manual_seed(0)
    batch = calibrate(loop, model, None, samples, 1.0, generator)
    return Arena(loop, LoopCost.of(loop), batch, config, generator)


def gradient_step(court: Arena) -> None:
    """Go one step down the loss through the SuperNet of `reuse` backups, all gates half open."""
    gates = torch.full((court.cost.num_steps, len(court.loop.blocks)), 0.5, requires_grad=True)
    court.backward(court.supernet(1), 1.0, court.batch, gates=gates)


def newton_step(court: Arena) -> None:
    """Move the weights of a plan that runs every fifth step."""
    court.improved(rung_draft(court.cost, (tuple(range(0, court.cost.num_steps, 5)),)))


STEPS_OF_A_SEARCH: dict[str, tuple[Callable[[Arena], None], bool]] = {
    "Gauss-Newton (default)": (newton_step, True),
    "gradient, recomputed (paper)": (gradient_step, True),
    "gradient, all kept": (gradient_step, False),
}


def memory(model: Any, scheduler: Any, name: str, steps: int, samples: int) -> Row:
    """Measure the peak of one step of a search."""
    step, checkpoint = STEPS_OF_A_SEARCH[name]
    with frozen(model):
        court = arena(model, scheduler, steps, samples, checkpoint)
        with LiveBytes() as live:
            step(court)
    return {"step of a search": name, "T": steps, "peak_MiB": live.peak / 2**20}


def search(model: Any, scheduler: Any, steps: int, ratio: float, seed: int) -> Row:
    """Measure a default search."""
    generator = torch.Generator().manual_seed(seed)
    pruned = dipgo_fx.prune(
        model, scheduler, ratio, num_inference_steps=steps, generator=generator, progress=False
    )
    origin = pruned.plan.origin
    return {
        "steps": steps,
        "ratio": ratio,
        "full_runs": origin["full_runs"],
        "seconds": origin["seconds"],
        "rungs": len(pruned.plan.rungs),
        "loss": origin["loss"],
    }


def tables(name: DigitModel, steps: Iterable[int], samples: int, seed: int) -> list[Table]:
    """Measure memory, then searches, for every step count."""
    model, scheduler = load(name)
    cases = [(kind, count) for kind in STEPS_OF_A_SEARCH for count in steps]
    peaks = [memory(model, scheduler, *case, samples) for case in tqdm(cases, desc="memory")]
    runs = [search(model, scheduler, count, 0.8, seed) for count in tqdm(steps, desc="searches")]
    return [
        Table("memory", f"Memory of one step of a search, digits {name}, {samples} samples", peaks),
        Table("runs", f"Default searches, digits {name}", runs),
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("dit", "unet"), default="dit")
    parser.add_argument("--steps", nargs="+", type=int, default=[10, 20, 50])
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = tables(options.model, options.steps, options.samples, options.seed)
    write("search_cost", "What a search costs", found)


if __name__ == "__main__":
    main()
