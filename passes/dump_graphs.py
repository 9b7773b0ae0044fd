"""The graph before and after every pass as Python that runs, for whoever asks what a pass did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from torch import fx
from torch.fx.graph_module import _format_import_block  # the narrow range of versions is for such names
from torch.package.importer import sys_importer

HEAD = '''"""{title}: {count} nodes.

`forward(loop, ...)` runs it on a loop that has the modules it calls: what the pass was given, or made.
"""

{imports}

'''


class Dump:
    """A folder of graphs, numbered in the order of the passes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._passes = folder, 0

    def write(self, name: str, before: str, after: str) -> None:
        """Write what a pass was given and what it made of that."""
        for when, text in (("before", before), ("after", after)):
            file = self.folder / f"{self._passes:03d}-{name}-{when}.py"
            file.write_text(text, encoding="utf-8")
        self._passes += 1


CURRENT: ContextVar[Dump | None] = ContextVar("dump", default=None)
"""Where passes write their graphs, if anywhere."""


@contextmanager
def dump_graphs(folder: str | Path) -> Iterator[None]:
    """Write the graph before and after every pass that runs in this context into a folder.

    A search runs passes for every candidate: dump its plan's `apply` instead.

    Example:
        >>> from pathlib import Path
        >>> from dipgo_fx.demo.models import load
        >>> loop = dipgo_fx.trace(*load("dit"), num_inference_steps=4)
        >>> with dipgo_fx.passes.dump_graphs("graphs"):
        ...     supernet = dipgo_fx.passes.InsertGates()(loop).graph_module
        >>> sorted(file.name for file in Path("graphs").iterdir())
        ['000-insert-gates-after.py', '000-insert-gates-before.py']
    """
    token = CURRENT.set(Dump(Path(folder)))
    try:
        yield
    finally:
        CURRENT.reset(token)


def python_of(gm: fx.GraphModule, title: str) -> str:
    """Return a graph as the text of a Python file with a function `forward`."""
    code = gm.graph.python_code("self")
    imports = _format_import_block(code.globals, sys_importer)
    return HEAD.format(title=title, count=len(gm.graph.nodes), imports=imports) + code.src.lstrip("\n")
