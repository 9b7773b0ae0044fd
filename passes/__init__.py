"""The compiler. Import it as ``dipgo_fx.passes``, never as ``passes``.

* Six passes, a file each: `steer_calls`, `insert_gates`, `bind_gates`, `drop_dead_blocks`, `fold_constants`,
  `join_calls`; `base` is what they share, `rules` what every graph between them keeps, `gates` the nodes
  that they insert.
* A graph's beginning: `recorder` writes down what Python calls (`graph_writer` its nodes), `loop_recorder` a
  loop around a model, `call_recorder` one call of it; `unify_rows` makes one graph of recordings with two
  batch sizes; `blocks` finds the modules that get gates, `forward_slot` is where a module keeps its
  own `forward`, `uncompiled` the Python behind a compiled one.
* A graph's end: `split_steps` cuts it into one graph a step, `share_calls` makes one of equal calls of the
  model, `step_graphs` cuts a call into those of its steps. `trim` leaves out of a SuperNet what a table will
  not read.
* Looking at it: `dump_graphs` writes what every pass was given and made.
* What is known of a graph: `tags` on its nodes (read them first: they are the schema), `model_calls` and
  their `signature`, `liveness` under a `gate_table`, `steering`, `stored_weights` that hooks move or cast,
  `known_values` that a model's Python asks for, the `call_state` that it is in, the `lazy_caches` that it
  fills. `graph_state` is a graph as plain values, for pickling.
* `errors` and `equality` serve all of them.
"""

if __name__ != "dipgo_fx.passes":
    raise ImportError(
        f"this package was imported as {__name__!r}, but its one name is 'dipgo_fx.passes': under "
        "a second name every class would exist twice and isinstance checks would fail. Write "
        "`import dipgo_fx.passes`; if a tool did this, point it at dipgo_fx/, not at passes/."
    )

from .base import GraphPass, PassRecord, PassResult, Pipeline
from .bind_gates import BindGates
from .blocks import Blocks, Granularity, find_blocks, granularity_of
from .drop_dead_blocks import DropDeadBlocks
from .dump_graphs import dump_graphs
from .errors import InvariantError, PassError, TraceError
from .fold_constants import FoldConstants
from .gate_table import HISTORY, Backup, GateTable
from .gates import forecast, gate
from .insert_gates import InsertGates
from .join_calls import JoinCalls
from .loop_recorder import LoopRecorder
from .split_steps import split_steps
from .steer_calls import SteerCalls
from .steering import Steering

__all__ = [
    "HISTORY",
    "Backup",
    "BindGates",
    "Blocks",
    "DropDeadBlocks",
    "FoldConstants",
    "GateTable",
    "Granularity",
    "GraphPass",
    "InsertGates",
    "InvariantError",
    "JoinCalls",
    "LoopRecorder",
    "PassError",
    "PassRecord",
    "PassResult",
    "Pipeline",
    "SteerCalls",
    "Steering",
    "TraceError",
    "dump_graphs",
    "find_blocks",
    "forecast",
    "gate",
    "granularity_of",
    "split_steps",
]
