"""Other methods' own packages as samplers, beside which a pruned loop is measured.

`python -m benchmarks.peers --models digits-dit` measures them and nothing else. In Python:

    task = Task.of(Case("digits-dit"), samples=16, ratios=[0.7], full_runs=30)
    curve = Curve.of(task, TAYLORSEER)               # every setting on calibration samples
    best = curve.best(0.3)                           # that with most PSNR at 30 % of the MACs
    latents = best.sampler(other_noise, **labels)    # the same setting on other noise
    best.sampler.macs                                # what that run cost
"""

from .cachedit import CACHE_DIT_DYNAMIC, CACHE_DIT_MASK
from .core import NOTHING, Method, PeerSampler, Setting, Task
from .curve import Curve, Outcome, outcome_of
from .deepcache import DEEPCACHE
from .diffusers_caches import FIRST_BLOCK, MAGCACHE, PAB, TAYLORSEER
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
    "Curve",
    "Method",
    "Outcome",
    "PeerSampler",
    "Setting",
    "Task",
    "outcome_of",
]
