"""dipgo_fx: an ahead-of-time compiler that prunes diffusion sampling (DiP-GO, NeurIPS 2024).

* In: `tracing` makes a `loop` of a model and a scheduler (`denoise` is the Python that is traced, `guidance`
  and `inputs` what it is called with, `arguments` the checks at the door).
* Deciding: `pruning` searches a `plan` (`search/`), `importers` read those of others, `plan_file` keeps one.
* Counting: `macs` counts calls, `cost` is what every plan of a loop costs, `budget` and `placement` stay
  within it, `frontier` holds plans for other budgets.
* Out: `applying` compiles a plan by the passes in `passes/`, `states` and `report` say what it did.
"""

from .applying import PrunedLoop, apply
from .errors import PlanError
from .loop import Loop
from .macs import count_macs
from .passes import TraceError
from .pipelines.enabling import PrunedForward, disable, enable, enabled
from .pipelines.pruning import prune_pipeline
from .plan import Plan
from .pruning import prune
from .report import Report
from .search.config import PaperConfig, PruneConfig
from .tracing import trace

__all__ = [
    "Loop",
    "PaperConfig",
    "Plan",
    "PlanError",
    "PruneConfig",
    "PrunedForward",
    "PrunedLoop",
    "Report",
    "TraceError",
    "apply",
    "count_macs",
    "disable",
    "enable",
    "enabled",
    "prune",
    "prune_pipeline",
    "trace",
]
