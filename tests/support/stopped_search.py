"""A small search that is killed again and again: `python stopped_search.py JOURNAL KILLS`."""

from __future__ import annotations

import math
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

import dipgo_fx
import zoo
from dipgo_fx import Plan, PruneConfig

STEPS = 5


def found(journal: Path | None, config: Any = None, model: Any = None, **given: Any) -> Plan:
    """Return what a small search finds; every argument of `prune` may be another one."""
    asked: dict[str, Any] = {
        "scheduler": zoo.SCHEDULERS["ddim"](),
        "num_inference_steps": STEPS,
        "config": config or PruneConfig(samples=9, full_runs=14),
        "progress": False,
        "ratio": 0.6,
        **given,
    }
    return dipgo_fx.prune(model or zoo.model("dit"), journal=journal, **asked).plan


def killed_after(seconds: float, journal: Path) -> bool:
    """Search in a process of its own, killed after some seconds; tell whether it was still searching."""
    child = os.fork()
    if child == 0:
        found(journal)
        os._exit(0)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return False
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def main(journal: Path, kills: int) -> None:
    """Start a search, kill it, and let it go on, so many times; one that ends is cut off anywhere."""
    start, drawn = time.perf_counter(), random.Random(1)
    killed_after(math.inf, journal)
    took, done = time.perf_counter() - start, 0
    journal.unlink()
    while done < kills:
        if killed_after(took * drawn.random(), journal):
            done += 1
        else:
            os.truncate(journal, drawn.randrange(journal.stat().st_size))


if __name__ == "__main__":
    torch.set_num_threads(1)  # what is forked has no others
    main(Path(sys.argv[1]), int(sys.argv[2]))
