"""dipgo_fx: an ahead-of-time compiler that prunes diffusion sampling (DiP-GO, NeurIPS 2024)."""

from .applying import PrunedLoop, apply
from .loop import Loop
from .macs import count_macs
from .passes import TraceError
from .plan import Plan
from .plan_file import PlanError
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
    "PrunedLoop",
    "Report",
    "TraceError",
    "apply",
    "count_macs",
    "prune",
    "trace",
]
