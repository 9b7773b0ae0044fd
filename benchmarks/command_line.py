"""What the command lines of all scripts share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.tables import RESULTS


def parser(doc: str | None, out: Path = RESULTS) -> argparse.ArgumentParser:
    """Return a parser that shows a script's docstring and knows `--out` and `--threads`."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=out, help="folder of what is written")
    made.add_argument("--threads", type=int, default=1)
    return made


def parse(
    made: argparse.ArgumentParser, argv: Sequence[str] | None, smoke: Mapping[str, Any] | None = None
) -> argparse.Namespace:
    """Parse a command line and set the number of threads.

    Args:
        made: of `parser`.
        argv: the words of the command line, those of the process if `None`.
        smoke: for a script that measures: what `--smoke` makes of its defaults, so that it takes seconds.
            Its numbers mean nothing, so it has to be told where else than to the results they go.
    """
    if smoke is not None:
        made.add_argument("--smoke", action="store_true", help="tiny, in seconds, to see whether it runs")
    options = made.parse_args(argv)
    if smoke is not None and options.smoke:
        if options.out == made.get_default("out"):
            made.error("--smoke needs another --out: its numbers are no results")
        made.set_defaults(**smoke)
        options = made.parse_args(argv)
    torch.set_num_threads(options.threads)
    return options
