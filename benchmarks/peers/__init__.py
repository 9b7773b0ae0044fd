"""Other methods' own packages as samplers, beside which a pruned loop is measured.

`python -m benchmarks.peers --model dit --guidance 2` measures them on the shipped digits models. In Python:

    task = Task(model, scheduler, 20, noise, {"class_labels": labels})
    outcomes = list(sweep(task, METHODS))            # every setting on the task's noise
    best = best_within(outcomes, 0.3)                # the setting with most PSNR at 30 % of the MACs
    latents = best.sampler(other_noise, **labels)    # the same setting on other noise
    best.sampler.macs                                # what that run cost
"""

from .cachedit import CACHE_DIT_DYNAMIC, CACHE_DIT_MASK
from .competition import Choice, compete
from .core import (
    NOTHING,
    Method,
    Outcome,
    PeerSampler,
    Setting,
    Task,
    best_within,
    outcome,
    sweep,
)
from .deepcache import DEEPCACHE
from .diffusers_caches import FIRST_BLOCK, MAGCACHE, PAB, TAYLORSEER
from .meter import MacMeter
from .samplers import DPM, FEWER, SUBSET, UNIPC
from .smoothcache import SMOOTHCACHE

METHODS = (
    FEWER,
    SUBSET,
    DPM,
    UNIPC,
    DEEPCACHE,
    CACHE_DIT_MASK,
    CACHE_DIT_DYNAMIC,
    PAB,
    FIRST_BLOCK,
    MAGCACHE,
    TAYLORSEER,
    SMOOTHCACHE,
)

__all__ = [
    "CACHE_DIT_DYNAMIC",
    "CACHE_DIT_MASK",
    "DEEPCACHE",
    "DPM",
    "FEWER",
    "FIRST_BLOCK",
    "MAGCACHE",
    "METHODS",
    "NOTHING",
    "PAB",
    "SMOOTHCACHE",
    "SUBSET",
    "TAYLORSEER",
    "UNIPC",
    "Choice",
    "MacMeter",
    "Method",
    "Outcome",
    "PeerSampler",
    "Setting",
    "Task",
    "best_within",
    "compete",
    "outcome",
    "sweep",
]
