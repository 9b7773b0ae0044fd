"""Other packages, stock solvers and learned samplers, beside which a pruned loop is measured.

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
from .ipndm import IPNDM
from .learned_sampler import FITTED, LEARNED, LEARNED_4X, LEARNED_TIMES
from .samplers import FEWER
from .sea_cache import SEACACHE
from .searched_timesteps import SUBSET
from .smoothcache import SMOOTHCACHE
from .stock_solvers import DEIS, DPM, UNIPC

METHODS = (
    FEWER,
    SUBSET,
    DPM,
    UNIPC,
    DEIS,
    IPNDM,
    FITTED,
    LEARNED,
    LEARNED_4X,
    LEARNED_TIMES,
    DEEPCACHE,
    CACHE_DIT_MASK,
    CACHE_DIT_DYNAMIC,
    PAB,
    FIRST_BLOCK,
    MAGCACHE,
    SEACACHE,
    TAYLORSEER,
    SMOOTHCACHE,
)

__all__ = [
    "CACHE_DIT_DYNAMIC",
    "CACHE_DIT_MASK",
    "DEEPCACHE",
    "DEIS",
    "DPM",
    "FEWER",
    "FIRST_BLOCK",
    "FITTED",
    "IPNDM",
    "LEARNED",
    "LEARNED_4X",
    "LEARNED_TIMES",
    "MAGCACHE",
    "METHODS",
    "NOTHING",
    "PAB",
    "SEACACHE",
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
