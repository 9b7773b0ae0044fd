"""What searches and plans gave before: a dozen small cases, kept bit by bit.

`python tests/support/golden.py` writes `tests/data/golden.json` anew for the way in which the processor
rounds; run it under each `ATEN_CPU_CAPABILITY` after a change that is meant to alter results, and say in the
commit why.

Processors round differently, and a search follows the last bit. So each record has a `rounding`: a digest of
what eager loops and a linear solver give there. Where it is known, plans and samples must be the very bits.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

if __name__ == "__main__":  # as in conftest.py
    sys.path.insert(0, str(Path(__file__).parent))
    torch.set_num_threads(1)

import dipgo_fx
import zoo
from dipgo_fx import PaperConfig, Plan, PruneConfig, importers

FILE = Path(__file__).parents[1] / "data" / "golden.json"
QUICK = PruneConfig(samples=4, full_runs=6)
Case = Callable[[], Plan]


def _searched(model: str, scheduler: str, ratio: float, **options: Any) -> Case:
    def search() -> Plan:
        given = {"num_inference_steps": 7, "config": QUICK, **options}
        loop = dipgo_fx.prune(
            zoo.model(model),
            zoo.SCHEDULERS[scheduler](),
            ratio,
            generator=zoo.generator(5),
            progress=False,
            **given,
        )
        return loop.plan

    return cache(search)


def _paper(backup: Any, **options: Any) -> dict[str, Any]:
    return {"config": PaperConfig(width=32, samples=3, backup=backup, **options)}


def _applied(case: str, **options: Any) -> Case:
    """Return the plan of a case at another ratio or step count."""

    def apply() -> Plan:
        model, scheduler = WHAT[case]
        return dipgo_fx.apply(zoo.model(model), zoo.SCHEDULERS[scheduler](), CASES[case](), **options).plan

    return apply


def _imported() -> Plan:
    loop = dipgo_fx.trace(zoo.model("unet"), zoo.SCHEDULERS["ddim"](), 7)
    return importers.deepcache(loop, 3)


def _by_hand() -> Plan:
    loop = dipgo_fx.trace(zoo.model("pixart"), zoo.SCHEDULERS["dpm++"](), 7, granularity="branch")
    keep = torch.rand(loop.num_steps, len(loop.blocks), generator=zoo.generator(6)) < 0.5
    keep[0] = True
    return Plan.from_keep(loop, keep, "linear")


# Model and scheduler of every case.
WHAT = {
    "transformer": ("dit", "ddim"),
    "transformer, 0.3 of it": ("dit", "ddim"),
    "transformer, 10 steps of it": ("dit", "ddim"),
    "transformer, halves": ("dit", "euler-a"),
    "transformer, halves, 0.2 of it": ("dit", "euler-a"),
    "transformer, variance": ("dit-variance", "ddpm"),
    "transformer, heun": ("dit", "heun"),
    "u-net": ("unet", "ddim"),
    "u-net, branches": ("unet", "pndm"),
    "u-net, joint guidance": ("unet-text", "dpm++"),
    "u-net, halves, few left": ("unet-text", "ddim"),
    "u-net, stages": ("unet", "unipc"),
    "pixart": ("pixart", "flow-match"),
    "paper, transformer": ("dit", "ddim"),
    "paper, transformer, 0.3 of it": ("dit", "ddim"),
    "paper, u-net": ("unet", "ddim"),
    "nothing removed": ("dit", "ddim"),
    "imported": ("unet", "ddim"),
    "by hand": ("pixart", "dpm++"),
}
CASES: dict[str, Case] = {
    "transformer": _searched("dit", "ddim", 0.5),
    "transformer, 0.3 of it": _applied("transformer", ratio=0.3),
    "transformer, 10 steps of it": _applied("transformer", num_inference_steps=10),
    "transformer, halves": _searched("dit", "euler-a", 0.6, guidance_scale=2.0),
    "transformer, halves, 0.2 of it": _applied("transformer, halves", ratio=0.2),
    "transformer, variance": _searched("dit-variance", "ddpm", 0.4),
    "transformer, heun": _searched("dit", "heun", 0.5),
    "u-net": _searched("unet", "ddim", 0.3, config=PruneConfig(samples=9, chunk=4, full_runs=9)),
    "u-net, branches": _searched("unet", "pndm", 0.4, granularity="branch"),
    "u-net, joint guidance": _searched(
        "unet-text", "dpm++", 0.5, guidance_scale=3.0, split_guidance=False, num_inference_steps=5
    ),
    "u-net, halves, few left": _searched(
        "unet-text",
        "ddim",
        0.75,
        guidance_scale=3.0,
        config=PruneConfig(samples=8, full_runs=12, loss="ssim"),
    ),
    "u-net, stages": _searched("unet", "unipc", 0.5, granularity="stage", guidance_scale=2.0),
    "pixart": _searched("pixart", "flow-match", 0.5, num_inference_steps=5),
    "paper, transformer": _searched("dit", "ddim", 0.5, **_paper("reuse", iterations=5)),
    "paper, transformer, 0.3 of it": _applied("paper, transformer", ratio=0.3),
    "paper, u-net": _searched(
        "unet", "ddim", 0.5, **_paper("linear", iterations=4, encoder="linear"), granularity="stage"
    ),
    "nothing removed": _searched("dit", "ddim", 0.0),
    "imported": _imported,
    "by hand": _by_hand,
}


def rounding() -> str:
    """Return a digest of what this processor rounds: eager loops of all models, and a linear solver."""
    results = []
    for name in zoo.MODELS:
        x, inputs = zoo.sample(name), zoo.conditioning(name)
        results.append(zoo.eager(name, zoo.SCHEDULERS["ddim"](), 3, x, inputs))
        results.append(
            zoo.eager(name, zoo.SCHEDULERS["ddim"](), 3, zoo.sample(name, 4), zoo.conditioning(name, 4))
        )
    matrix = torch.randn(20, 20, dtype=torch.float64, generator=zoo.generator())
    wide = torch.randn(20, 500, generator=zoo.generator(1))
    return _digest(*results, torch.linalg.solve(matrix @ matrix.T, matrix[0]), wide @ wide.T, wide.norm())


def record(case: str) -> dict[str, Any]:
    """Return what a case gives: numbers to read, and digests of the plan and of its samples."""
    plan = CASES[case]()
    model, scheduler = WHAT[case]
    x, inputs = zoo.sample(model), zoo.conditioning(model, 2 if plan.facts.guidance.scale is None else 4)
    loop = dipgo_fx.apply(zoo.model(model), zoo.SCHEDULERS[scheduler](), plan)
    with torch.no_grad():
        samples = loop(x, **inputs, generator=zoo.generator(3))
    numbers = [] if plan.scores is None else [plan.scores]
    for point in plan.frontier:
        numbers += [torch.tensor(steps) for steps in point.runs] + [point.weights]
    origin = plan.origin.get("derived_from", plan.origin)
    curve = torch.tensor(origin.get("curve", []), dtype=torch.float64)
    return {
        "ratio": plan.ratio,
        "macs": loop.report.after.total,
        "full_runs": origin.get("full_runs"),
        "keep": _digest(plan.keep),
        "weights": _digest(plan.weights),
        "others": _digest(curve, *numbers),
        "samples": _digest(samples),
    }


def _digest(*tensors: torch.Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def main() -> None:
    """Write the records of this processor into the file, beside those of others."""
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    known[rounding()] = {case: record(case) for case in CASES}
    FILE.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
