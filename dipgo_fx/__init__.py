"""dipgo_fx: an ahead-of-time compiler that prunes diffusion sampling (DiP-GO, NeurIPS 2024)."""

from .macs import count_macs
from .plan import Plan, PlanError
from .tracing import Loop, trace

__all__ = ["Loop", "Plan", "PlanError", "count_macs", "trace"]
