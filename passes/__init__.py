"""The compiler: one graph pass per file. Import it as ``dipgo_fx.passes``, never as ``passes``."""

if __name__ != "dipgo_fx.passes":
    raise ImportError(
        f"this package was imported as {__name__!r}, but its one name is 'dipgo_fx.passes': under "
        "a second name every class would exist twice and isinstance checks would fail. Write "
        "`import dipgo_fx.passes`; if a tool did this, point it at dipgo_fx/, not at passes/."
    )

from .base import GraphPass, InvariantError, PassError, PassRecord, PassResult, Pipeline
from .bind_gates import BindGates
from .blocks import Granularity, find_blocks
from .drop_dead_blocks import DropDeadBlocks
from .fold_constants import FoldConstants
from .gates import forecast, gate
from .insert_gates import ORDER, Backup, InsertGates
from .recorder import TraceError
from .split_steps import split_steps
from .trace import LoopRecorder

__all__ = [
    "ORDER",
    "Backup",
    "BindGates",
    "DropDeadBlocks",
    "FoldConstants",
    "Granularity",
    "GraphPass",
    "InsertGates",
    "InvariantError",
    "LoopRecorder",
    "PassError",
    "PassRecord",
    "PassResult",
    "Pipeline",
    "TraceError",
    "find_blocks",
    "forecast",
    "gate",
    "split_steps",
]
