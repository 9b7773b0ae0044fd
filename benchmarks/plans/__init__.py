"""Ways to a plan that all run in dipgo_fx's executor: they differ in the plan and in nothing else.

Baselines: evenly spaced steps, random and genetic search over keep tables as in DiP-GO's Table 6, schedules
of DeepCache and T-GATE. Beside them the paper's recipe, as we first ran it and as the paper does, and the
default of `prune`.
"""

from .annealing import ANNEALED_LINEAR, ANNEALED_REUSE
from .learned import DEFAULT, ONE_SEARCH, PAPER
from .method import Effort, Found, OutOfReachError, PlanMethod, compiled
from .papers_blocks import PAPER_EXACT, PAPER_OUR_WEIGHTS, PAPER_STEPS
from .schedules import DEEPCACHE, TGATE, UNIFORM_LINEAR, UNIFORM_REUSE
from .table_search import GENETIC, RANDOM
from .unpruned_fits import FITTED_BY_PROGRAMMING, FITTED_BY_SENSITIVITY, FITTED_EVENLY
from .whole_steps import PLACED_WHOLE_STEPS, WHOLE_STEPS

PLAN_METHODS = (
    DEFAULT,
    ONE_SEARCH,
    WHOLE_STEPS,
    PLACED_WHOLE_STEPS,
    UNIFORM_REUSE,
    UNIFORM_LINEAR,
    FITTED_EVENLY,
    FITTED_BY_SENSITIVITY,
    FITTED_BY_PROGRAMMING,
    ANNEALED_REUSE,
    ANNEALED_LINEAR,
    DEEPCACHE,
    TGATE,
    RANDOM,
    GENETIC,
    PAPER,
    PAPER_EXACT,
    PAPER_OUR_WEIGHTS,
    PAPER_STEPS,
)

__all__ = [
    "ANNEALED_LINEAR",
    "ANNEALED_REUSE",
    "DEEPCACHE",
    "DEFAULT",
    "FITTED_BY_PROGRAMMING",
    "FITTED_BY_SENSITIVITY",
    "FITTED_EVENLY",
    "GENETIC",
    "ONE_SEARCH",
    "PAPER",
    "PAPER_EXACT",
    "PAPER_OUR_WEIGHTS",
    "PAPER_STEPS",
    "PLACED_WHOLE_STEPS",
    "PLAN_METHODS",
    "RANDOM",
    "TGATE",
    "UNIFORM_LINEAR",
    "UNIFORM_REUSE",
    "WHOLE_STEPS",
    "Effort",
    "Found",
    "OutOfReachError",
    "PlanMethod",
    "compiled",
]
