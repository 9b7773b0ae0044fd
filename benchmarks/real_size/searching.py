"""Time and peak memory of a search, each in a process of its own, and the size of the path that it keeps."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import diffusers as d
import torch

import dipgo_fx
from benchmarks.tables import Row
from dipgo_fx import PruneConfig

from .subjects import Size, model_of, name_of, random_inputs

GIBI, MEBI = 2**30, 2**20
NOTE = (
    "Peak memory of a process that does nothing else, above what it held with the model loaded: resident on "
    "a CPU, the allocator's on a GPU. `minutes`: of all of `prune`, tracing included. `one step`: the "
    "unpruned model, called once with as many samples as a chunk."
)


def search_rows(key: str, options: argparse.Namespace) -> list[Row]:
    """Search a plan with chunks of some sizes, each in a process of its own, and tell the peaks."""
    rows = []
    for chunk in options.search_chunks:
        asked = {**vars(options), "out": "", "key": key, "chunk": chunk}
        script = [sys.executable, "-W", "ignore", "-m", "benchmarks.real_size"]
        command = [*script, "--search-of", json.dumps(asked)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows


def searched(asked: dict[str, Any]) -> Row:
    """Search in this process; peaks are the kernel's, above what is held with the model loaded."""
    size = Size(asked["search_side"] or asked["side"], asked["layers"], steps=asked["search_steps"])
    device, guidance = torch.device(asked["device"]), asked["search_guidance"]
    model = model_of(asked["key"], size, device).to(device, getattr(torch, asked["dtype"]))
    samples, chunk = asked["search_samples"], asked["chunk"]
    rows = 1 if guidance is None else 2
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # the model was built in float32
    held = _peak(device)
    with torch.no_grad():
        inputs = random_inputs(model, size, rows * chunk)
        model(inputs.pop("sample"), timestep=torch.full((rows * chunk,), 500, device=device), **inputs)
    one_step = _peak(device) - held
    start = time.perf_counter()
    inputs = random_inputs(model, size, rows * samples)
    pruned = dipgo_fx.prune(
        model,
        d.DDIMScheduler(),
        0.5,
        num_inference_steps=size.steps,
        calibration={name: value for name, value in inputs.items() if name != "sample"},
        guidance_scale=guidance,
        config=PruneConfig(samples=samples, chunk=chunk, full_runs=asked["search_runs"]),
        progress=False,
    )
    return {
        "model": name_of(asked["key"], size),
        "device": _name_of(device),
        "dtype": asked["dtype"],
        "guidance": guidance,
        "steps": size.steps,
        "samples": samples,
        "chunk": chunk,
        "full runs": round(pruned.plan.origin["full_runs"], 1),
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "model, GiB": round(sum(p.nbytes for p in model.parameters()) / GIBI, 2),
        "one step, MiB": round(one_step / MEBI),
        "search, MiB": round((_peak(device) - held) / MEBI),
        "ratio": round(pruned.plan.ratio, 3),
    }


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _peak(device: torch.device) -> int:
    """Return the most bytes so far that this process has in memory, or of a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
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
