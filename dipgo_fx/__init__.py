"""dipgo_fx: an ahead-of-time compiler that prunes diffusion sampling (DiP-GO, NeurIPS 2024).

* In: `tracing` makes a `loop` of a model and a scheduler (`denoise` is the Python that is traced,
  `guidance`, `conditioning` and `inputs` what it is called with, `arguments` the checks at the door).
* Deciding: `pruning` searches a `plan` (`search/`), `importers` read those of others, `plan_file` keeps one
  as `plan_schema` says.
* Counting: `macs` counts calls, `cost` is what every plan of a loop costs, `budget` and `placement` stay
  within it, `frontier` holds plans for other budgets, `deriving` makes them of a plan at hand.
* Out: `applying` compiles a plan by the passes in `passes/`, `states` and `report` say what it did
  (`report_page`, `report_plots`, `report_maps` and `report_strips` draw it), `explaining` says of one gate
  what it does and why, `similarity` how alike steps are.
* In a stock pipeline: `pipelines/` does all of this there.
* Around them: `cli/` is the command line, `demo/` has the shipped models; `errors`, `frozen`,
  `own_draws` and `cuda_graphs` serve several of these.

A name is imported when it is first asked for: `dipgo-fx --help` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .applying import PrunedLoop, apply
    from .errors import PlanError
    from .explaining import explain
    from .loop import Loop
    from .macs import count_macs
    from .passes import TraceError
    from .pipelines.enabling import disable, enable, enabled
    from .pipelines.pruned_forward import PrunedForward
    from .pipelines.pruning import prune_pipeline
    from .pipelines.tracing import trace_pipeline
    from .plan import Plan
    from .pruning import prune
    from .report import Report
    from .search.config import PaperConfig, PruneConfig
    from .similarity import measure_similarity
    from .tracing import trace

_HOMES = {
    "Loop": "loop",
    "PaperConfig": "search.config",
    "Plan": "plan",
    "PlanError": "errors",
    "PruneConfig": "search.config",
    "PrunedForward": "pipelines.pruned_forward",
    "PrunedLoop": "applying",
    "Report": "report",
    "TraceError": "passes",
    "apply": "applying",
    "count_macs": "macs",
    "disable": "pipelines.enabling",
    "enable": "pipelines.enabling",
    "enabled": "pipelines.enabling",
    "explain": "explaining",
    "measure_similarity": "similarity",
    "prune": "pruning",
    "prune_pipeline": "pipelines.pruning",
    "trace": "tracing",
    "trace_pipeline": "pipelines.tracing",
}


_MODULES = ("demo", "importers", "passes")
"""Modules whose names are public too; what else lies in others may change."""


def __getattr__(name: str) -> Any:
    """Return a public name, or a module of the package, and remember it."""
    if name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    elif name.isidentifier() and not name.startswith("_") and find_spec(f".{name}", __name__):
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what is public and nothing else, before it was asked for, too."""
    return sorted([*__all__, *_MODULES])


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
    "explain",
    "measure_similarity",
    "prune",
    "prune_pipeline",
    "trace",
    "trace_pipeline",
]
