"""What every pass shares: the template around a rewrite, its result, and the pipeline."""

from __future__ import annotations

import copy
import logging
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

from torch import fx

from . import rules
from .dump_graphs import CURRENT, python_of
from .errors import InvariantError, PassError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PassResult:
    """The graph after a pass and whether the pass changed anything.

    An unmodified run returns the very module that went in, so `result.graph_module is gm` tells
    that nothing was left to do.
    """

    graph_module: fx.GraphModule
    modified: bool


@dataclass(frozen=True)
class GraphPass(ABC):
    """One rewrite of a graph. Authors write `rewrite`; fields of the subclass are its options.

    Calling a pass never edits the graph that is handed in: it works on a new graph that shares all
    parameters with it, and checks the result with `graph.lint()` and `rules.check`.

    Example:
        >>> from dipgo_fx.passes import GraphPass
        >>> class DropRelu(GraphPass):
        ...     name = "drop-relu"
        ...
        ...     def rewrite(self, gm):
        ...         found = [node for node in gm.graph.nodes if node.target is torch.relu]
        ...         for node in found:
        ...             node.replace_all_uses_with(node.args[0])
        ...             gm.graph.erase_node(node)
        ...         return bool(found)
        >>> graph = torch.fx.symbolic_trace(lambda x: torch.relu(x) + 1)
        >>> DropRelu()(graph).graph_module(torch.tensor([-3.0]))
        tensor([-2.])
    """

    name: ClassVar[str]

    def requires(self, gm: fx.GraphModule) -> None:
        """Raise `InvariantError` if `gm` is not a graph that this pass can work on."""
        return None

    @abstractmethod
    def rewrite(self, gm: fx.GraphModule) -> bool:
        """Edit `gm` in place and tell whether anything changed."""

    def ensures(self, gm: fx.GraphModule) -> None:
        """Raise `InvariantError` if the result `gm` is not what the pass promises."""
        return None

    @final
    def __call__(self, gm: fx.GraphModule) -> PassResult:
        """Run the pass on a copy of `gm`'s graph, check the result and recompile it."""
        result, _ = Pipeline((self,))(gm)
        return PassResult(result, result is not gm)


@dataclass(frozen=True)
class PassRecord:
    """What one pass of a pipeline did: its name, its effect on the number of nodes, seconds."""

    name: str
    modified: bool
    nodes_before: int
    nodes_after: int
    seconds: float

    def __str__(self) -> str:
        """Return it as a line of a log."""
        nodes = f"{self.nodes_before} nodes"
        changed = f"{nodes} -> {self.nodes_after}" if self.modified else f"{nodes}, nothing to do"
        return f"pass {self.name}: {changed}, {self.seconds:.3f} s"


@dataclass(frozen=True)
class Pipeline:
    """Passes in order. The graph is copied once, checked after every pass, recompiled once.

    Every pass is timed, logged at level DEBUG and, under `dump_graphs`, written to files. The result is a
    module of class `kind`, or of that of the input.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> from dipgo_fx.passes import BindGates, DropDeadBlocks, GateTable, InsertGates, Pipeline
        >>> loop = dipgo_fx.trace(*load("dit"), num_inference_steps=4)
        >>> keep = torch.ones(4, len(loop.blocks), dtype=torch.bool)
        >>> keep[2] = False
        >>> passes = Pipeline((InsertGates(), BindGates(GateTable.of(keep)), DropDeadBlocks()))
        >>> subnet, records = passes(loop)
        >>> [record.name for record in records]
        ['insert-gates', 'bind-gates', 'drop-dead-blocks']
        >>> records[-1].nodes_after < records[-1].nodes_before
        True
    """

    passes: tuple[GraphPass, ...]
    kind: type[fx.GraphModule] | None = None

    def __call__(self, gm: fx.GraphModule) -> tuple[fx.GraphModule, tuple[PassRecord, ...]]:
        """Return the rewritten module (`gm` itself if no pass changed it) and one record a pass."""
        work = with_graph(gm, copy.deepcopy(gm.graph), draft_class(written_class(gm)))
        records = self._rewritten(work)
        if not any(record.modified for record in records):
            return gm, records
        work.meta.pop("cost", None)  # it is another loop now
        return with_graph(work, work.graph, self.kind or written_class(gm)), records

    def edit(self, work: fx.GraphModule) -> fx.GraphModule:
        """Return what the passes make of a graph that the caller made for them: it is not copied first."""
        self._rewritten(work)
        return with_graph(work, work.graph, self.kind)

    def _rewritten(self, work: fx.GraphModule) -> tuple[PassRecord, ...]:
        """Run the passes on a module of one's own."""
        records = list[PassRecord]()
        dump = CURRENT.get()
        for step in self.passes:
            before = "" if dump is None else python_of(work, f"Before {step.name}")
            record = _run(step, work, [r.name for r in records])
            records.append(record)
            logger.debug("%s", record)
            if dump is not None:
                dump.write(step.name, before, python_of(work, f"After {step.name}"))
        return tuple(records)


def with_graph(
    gm: fx.GraphModule, graph: fx.Graph, kind: type[fx.GraphModule] | None = None
) -> fx.GraphModule:
    """Return a module that runs `graph` and holds just what it uses of `gm`, shared, not copied."""
    new = (kind or written_class(gm))(gm, graph)
    new.meta = dict(gm.meta)
    new.training = gm.training
    new._non_persistent_buffers_set |= gm._non_persistent_buffers_set & set(new._buffers)
    return new


def written_class(gm: fx.GraphModule) -> type[fx.GraphModule]:
    """Return the class that somebody wrote: every GraphModule has one of its own below it."""
    return next(cls for cls in type(gm).__mro__ if not cls.__qualname__.endswith("Impl"))


def draft_class(kind: type[fx.GraphModule]) -> type[fx.GraphModule]:
    """Return a class of modules that are rewritten or split, but never run: their graph is not compiled."""
    return type(f"{kind.__name__}Draft", (kind,), {"recompile": lambda self: None})


def _run(step: GraphPass, gm: fx.GraphModule, before: list[str]) -> PassRecord:
    start, count = time.perf_counter(), len(gm.graph.nodes)
    try:
        step.requires(gm)
        modified = step.rewrite(gm)
        gm.graph.lint()
        rules.check(gm)
        step.ensures(gm)
    except Exception as error:
        kind = InvariantError if isinstance(error, InvariantError) else PassError
        reason = str(error).partition("\n")[0]
        raise kind(f"pass {step.name!r} failed after {before}: {reason}") from error
    return PassRecord(step.name, modified, count, len(gm.graph.nodes), time.perf_counter() - start)
