"""dipgo_fx: an ahead-of-time compiler that prunes diffusion sampling (DiP-GO, NeurIPS 2024)."""

from .api import apply, prune
from .config import PruneConfig
from .macs import count_macs
from .passes import TraceError
from .plan import Plan, PlanError
from .report import Report
from .tracing import Loop, trace

__all__ = [
    "Loop",
    "Plan",
    "PlanError",
    "PruneConfig",
    "Report",
    "TraceError",
    "apply",
    "count_macs",
    "prune",
    "trace",
]
