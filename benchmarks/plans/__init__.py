"""Ways to a plan that all run in dipgo_fx's executor: they differ in the plan and in nothing else.

Baselines: evenly spaced steps, random and genetic search over keep tables as in DiP-GO's Table 6, schedules
of DeepCache and T-GATE. Beside them the paper's recipe and the default of `prune`.
"""

from .learned import DEFAULT, ONE_SEARCH, PAPER
from .method import Effort, Found, OutOfReachError, PlanMethod, compiled
from .schedules import DEEPCACHE, TGATE, UNIFORM_LINEAR, UNIFORM_REUSE
from .table_search import GENETIC, RANDOM

PLAN_METHODS = (DEFAULT, ONE_SEARCH, UNIFORM_REUSE, UNIFORM_LINEAR, DEEPCACHE, TGATE, RANDOM, GENETIC, PAPER)

__all__ = [
    "DEEPCACHE",
    "DEFAULT",
    "GENETIC",
    "ONE_SEARCH",
    "PAPER",
    "PLAN_METHODS",
    "RANDOM",
    "TGATE",
    "UNIFORM_LINEAR",
    "UNIFORM_REUSE",
    "Effort",
    "Found",
    "OutOfReachError",
    "PlanMethod",
    "compiled",
]
