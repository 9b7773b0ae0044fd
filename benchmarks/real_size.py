"""Measure speed, and the memory of a search, on the paper's denoisers at full width, with random weights.

Wall times come from one process: every contestant runs once a round, in an order that turns round every
time. On a CPU latents are 32 x 32 and steps few, so that a run ends; on a GPU (`--device cuda --dtype
bfloat16`) they are those of the models' own images. A search runs in a process of its own, for its peak.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import diffusers as d
import torch
from torch import nn

import dipgo_fx
from benchmarks.architectures import SETTINGS
from benchmarks.command_line import CommandLine
from benchmarks.peers.core import Method, PeerSampler, Setting, Task
from benchmarks.peers.deepcache import DEEPCACHE
from benchmarks.speed.loops import interleaved
from benchmarks.tables import Row, Table, machine, write
from dipgo_fx import Loop, Plan, PruneConfig, importers
from dipgo_fx.applying import build
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.inputs import example_conditioning

PARTS = ("speed", "search")
MODELS = ("sd15", "dit", "pixart", "sd21", "sdxl")
SMALL_SIDE, GIBI, MEBI = 32, 2**30, 2**20
RATIOS = (0.3, 0.5, 0.7, 0.8)
EVERY = 5
"""Interval of DeepCache's schedule."""
SMOKE = {"models": ["dit"], "layers": 2, "side": 8, "steps": 5, "rounds": 1, "search_chunks": [1]}
SPEED_NOTE = (
    "Random weights (seed {seed}), {batch} sample, DDIM, {steps} steps, {dtype} on {device}, median of "
    "{rounds} interleaved rounds. `efficiency` = speed-up x share of MACs. Asked: 0.97 of whole steps, 0.95 "
    "of partial ones."
)
SEARCH_NOTE = (
    "Peak resident memory of a process that does nothing else, above what it held with the model loaded. "
    "`one step`: the unpruned model, called once with as many samples as a chunk."
)


def model_of(key: str, side: int, layers: int | None) -> nn.Module:
    """Build a denoiser with random weights for latents of a side; `layers` shortens a transformer."""
    setting = SETTINGS[key]
    config = {**setting.config, "sample_size": side, **({"num_layers": layers} if layers else {})}
    if key == "pixart":
        config["use_additional_conditions"] = False  # sizes, which it takes at 1024 pixels
    model: nn.Module = setting.model(**config).eval()
    return model


def inputs_of(model: Any, batch: int, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return noise and conditioning of a batch, as arguments of a loop."""
    noise, side = torch.Generator().manual_seed(1), model.config.sample_size

    def rows(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: rows(each) for name, each in value.items()}
        shape = (batch, *value.shape[1:])
        made = torch.randn(shape, generator=noise) if value.is_floating_point() else torch.zeros(shape)
        return made.to(device, value.dtype)

    sample = torch.randn(batch, model.config.in_channels, side, side, generator=noise).to(device, dtype)
    return {"sample": sample, **rows(example_conditioning(model))}


# -- speed


def contestants(loop: Loop, name: str) -> Iterator[tuple[str, Plan]]:
    """Yield plans by hand: whole steps at every ratio, and steps of which only the last blocks run."""
    steps, blocks = loop.num_steps, len(loop.blocks)
    for ratio in RATIOS:
        runs = max(1, round((1 - ratio) * steps))
        keep = torch.zeros(steps, blocks, dtype=torch.bool)
        keep[[round(step * steps / runs) for step in range(runs)]] = True
        yield f"whole steps, {ratio}", Plan.from_keep(loop, keep, "linear")
    if name.startswith("UNet"):
        yield f"DeepCache's schedule, interval {EVERY}", importers.deepcache(loop, EVERY)
    keep = torch.zeros(steps, blocks, dtype=torch.bool)
    keep[::EVERY] = True
    keep[:, -3:] = True
    yield f"1 of {EVERY} whole, else the last 3 blocks", Plan.from_keep(loop, keep, "linear")


@torch.no_grad()
def speed_rows(key: str, options: argparse.Namespace) -> list[Row]:
    """Time the eager loop, the traced loop, plans, and DeepCache's package where it can run."""
    device, dtype, scheduler = torch.device(options.device), getattr(torch, options.dtype), d.DDIMScheduler()
    side = options.side or (SETTINGS[key].config["sample_size"] if device.type == "cuda" else SMALL_SIDE)
    model: Any = model_of(key, side, options.layers).to(device, dtype)
    inputs = inputs_of(model, options.batch, device, dtype)
    sample, conditioning = inputs["sample"], {k: v for k, v in inputs.items() if k != "sample"}
    loop = dipgo_fx.trace(model, scheduler, options.steps, sample=sample, conditioning=conditioning)

    def eager() -> torch.Tensor:
        return denoise(model, prepared(scheduler, options.steps), sample, conditioning)

    runs: dict[str, Callable[[], torch.Tensor]] = {
        "eager loop": eager,
        "traced loop": partial(loop, **inputs),
    }
    kept = {"eager loop": 1.0, "traced loop": 1.0}
    for name, plan in contestants(loop, type(model).__name__):
        runs[name], kept[name] = partial(build(loop, plan), **inputs), 1 - plan.ratio
    if type(model).__name__.startswith("UNet"):
        task = Task(model, scheduler, options.steps, sample, conditioning)
        name = f"DeepCache 0.1.1, interval {EVERY}"
        setting = Setting({"cache_interval": EVERY, "cache_branch_id": 0})
        runs[name], kept[name] = (
            _package(task, DEEPCACHE, setting),
            kept[f"DeepCache's schedule, interval {EVERY}"],
        )
    results = {name: run() for name, run in runs.items()}
    _check_equal(results)
    if device.type == "cuda":
        runs = {name: partial(_synchronized, run) for name, run in runs.items()}
    seconds, base = interleaved(runs, options.rounds), "eager loop"
    rows = []
    for name, own in seconds.items():
        speed_up = median(plain / mine for plain, mine in zip(seconds[base], own, strict=True))
        rows.append(
            {
                "model": f"{SETTINGS[key].name.partition(',')[0]}, {side} x {side}",
                "method": name,
                "macs_kept": round(kept[name], 4),
                "seconds_median": round(median(own), 3),
                "seconds_min": round(min(own), 3),
                "speedup": round(speed_up, 3),
                "ideal": round(1 / kept[name], 3),
                "efficiency": round(speed_up * kept[name], 3),
            }
        )
    return rows


def _package(task: Task, method: Method, setting: Setting) -> Callable[[], torch.Tensor]:
    """Return a run of a package, without the meter that counts its MACs."""
    sampler = PeerSampler(task, method, setting)
    return partial(sampler.plain, task.sample, **task.conditioning)


def _check_equal(results: dict[str, torch.Tensor]) -> None:
    """Raise `AssertionError` where what must be equal is not."""
    pairs = [("eager loop", "traced loop")]
    pairs += [(f"DeepCache's schedule, interval {EVERY}", f"DeepCache 0.1.1, interval {EVERY}")]
    for one, other in pairs:
        if one in results and other in results and not torch.equal(results[one], results[other]):
            raise AssertionError(f"{one} and {other} give different samples")


def _synchronized(run: Callable[[], torch.Tensor]) -> torch.Tensor:
    result = run()
    torch.cuda.synchronize()
    return result


# -- memory


def memory_rows(key: str, options: argparse.Namespace) -> list[Row]:
    """Search a plan with chunks of some sizes, each in a process of its own, and tell the peaks."""
    rows = []
    for chunk in options.search_chunks:
        asked = {**vars(options), "out": "", "key": key, "chunk": chunk}
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "benchmarks.real_size",
            "--search-of",
            json.dumps(asked),
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows


def searched(asked: dict[str, Any]) -> Row:
    """Search in this process; peaks are the kernel's, above what is held with the model loaded."""
    side = asked["search_side"] or asked["side"] or SETTINGS[asked["key"]].config["sample_size"]
    model: Any = model_of(asked["key"], side, asked["layers"])
    samples, chunk, steps = asked["search_samples"], asked["chunk"], asked["search_steps"]
    held = _peak()
    with torch.no_grad():
        inputs = inputs_of(model, chunk, torch.device("cpu"), torch.float32)
        model(inputs.pop("sample"), timestep=torch.full((chunk,), 500), **inputs)
    one_step = _peak() - held
    start = time.perf_counter()
    pruned = dipgo_fx.prune(
        model,
        d.DDIMScheduler(),
        0.5,
        num_inference_steps=steps,
        calibration={
            n: v
            for n, v in inputs_of(model, samples, torch.device("cpu"), torch.float32).items()
            if n != "sample"
        },
        config=PruneConfig(samples=samples, chunk=chunk, full_runs=asked["search_runs"]),
        progress=False,
    )
    return {
        "model": f"{SETTINGS[asked['key']].name.partition(',')[0]}, {side} x {side}",
        "steps": steps,
        "samples": samples,
        "chunk": chunk,
        "full runs": round(pruned.plan.origin["full_runs"], 1),
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "model, GiB": round(sum(p.nbytes for p in model.parameters()) / GIBI, 2),
        "one step, MiB": round(one_step / MEBI),
        "search, MiB": round((_peak() - held) / MEBI),
        "ratio": round(pruned.plan.ratio, 3),
    }


def _peak() -> int:
    """Return the most resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def path_rows(samples: int = 48) -> list[Row]:
    """Return how large the path of a search is: the samples after each step, kept beside the model."""
    sizes = {
        "SD-1.5, 512²": (50, 4, 64, 64),
        "SDXL, 1024²": (50, 4, 128, 128),
        "DiT-XL/2, 256²": (250, 4, 32, 32),
        "PixArt-α, 1024²": (20, 4, 128, 128),
        "SD3, 1024²": (28, 16, 128, 128),
        "Flux, 1024²": (28, 64, 64, 64),
    }
    return [
        {
            "model": name,
            "steps": steps,
            "samples": samples,
            "float32, MiB": round(samples * steps * channels * height * width * 4 / MEBI),
            "bfloat16, MiB": round(samples * steps * channels * height * width * 2 / MEBI),
        }
        for name, (steps, channels, height, width) in sizes.items()
    ]


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    made = CommandLine(__doc__, SMOKE)
    made.add_models(MODELS, ("sd15", "dit", "pixart"))
    made.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    made.add_argument("--device", default="cpu")
    made.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    made.add_argument("--side", type=int, help="of the latents")
    made.add_argument("--layers", type=int, help="of a transformer, the real ones if omitted")
    made.add_argument("--batch", type=int, default=1)
    made.add_argument("--steps", type=int, default=10)
    made.add_argument("--rounds", type=int, default=4)
    made.add_argument(
        "--search-model", default="", help="whose search is measured, the first model if omitted"
    )
    made.add_argument("--search-chunks", type=int, nargs="*", default=[1, 2])
    made.add_argument("--search-side", type=int, help="of the latents, that of the real images if omitted")
    made.add_argument("--search-steps", type=int, default=4)
    made.add_argument("--search-samples", type=int, default=2)
    made.add_argument("--search-runs", type=float, default=4.0)
    made.add_argument("--search-of", type=json.loads, help="what a process of its own is to search")
    made.add_argument("--seed", type=int, default=0)
    return made.read(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the asked parts and write the tables."""
    options = arguments(argv)
    torch.manual_seed(options.seed)
    if options.search_of:
        torch.set_num_threads(options.search_of["threads"])
        print(json.dumps(searched(options.search_of)))
        return
    tables = []
    for key in options.models:
        note = SPEED_NOTE.format(**vars(options))
        measure = partial(speed_rows, key, options) if "speed" in options.parts else None
        tables.append(table_of(f"Speed: {SETTINGS[key].name}", key, note, measure, options.out))
    key = options.search_model or options.models[0]
    measure = partial(memory_rows, key, options) if "search" in options.parts else None
    tables.append(table_of("Memory of a search", "search", SEARCH_NOTE, measure, options.out))
    tables.append(Table("The path of a search", path_rows(), "Computed, not measured.", "path"))
    print(write("real_size", "At real size", [table for table in tables if table.rows], options.out))


def table_of(title: str, name: str, note: str, measure: Callable[[], list[Row]] | None, out: Path) -> Table:
    """Return what is measured, or what an earlier run measured of a part that was not asked for."""
    file = out / f"real_size-{name}.csv"
    if measure is not None:
        rows = measure()
    elif file.exists():
        with file.open(newline="", encoding="utf-8") as stream:
            rows = [{k: v for k, v in row.items() if k not in machine()} for row in csv.DictReader(stream)]
    else:
        rows = []
    return Table(title, rows, note, name)


if __name__ == "__main__":
    main()
