"""The command line of every script: what all share, and options that go by one name."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.tables import RESULTS


class CommandLine(argparse.ArgumentParser):
    """A command line with `--out`, `--threads` and `--smoke`.

    Args:
        doc: the docstring of the script.
        smoke: what `--smoke` makes of the defaults, so that the script takes seconds.
        out: where results go unless `--out` says otherwise; without it `--out` has to be given.
    """

    def __init__(self, doc: str | None, smoke: Mapping[str, Any], out: Path | None = RESULTS) -> None:
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        self._smoke, self._out = smoke, out
        self.add_argument("--out", type=Path, help="folder of what is written")
        self.add_argument("--threads", type=int, default=1, help="of torch")
        self.add_argument(
            "--smoke",
            action="store_true",
            help="tiny, to see whether it runs; written to a temporary folder unless --out names one",
        )

    def add_models(self, known: Sequence[str], default: Sequence[str] | None = None) -> None:
        """Add `--models`: some of those that are known, all by default."""
        self.add_argument("--models", nargs="+", choices=known, default=list(default or known))

    def add_held_out(self, default: int) -> None:
        """Add `--samples`."""
        self.add_argument("--samples", type=int, default=default, help="held-out samples")

    def add_device(self) -> None:
        """Add `--device`."""
        self.add_argument("--device", default="cpu", help="that models run on")

    def add_tuning(self) -> None:
        """Add `--tune`."""
        self.add_argument("--tune", type=int, default=16, help="samples a package's settings are tried on")

    def add_search(self, samples: int) -> None:
        """Add what a search goes by and may spend."""
        self.add_argument("--calibration", type=int, default=samples, help="samples of a search")
        self.add_argument("--full-runs", type=float, default=30.0, help="budget of a search at a ratio")

    def add_baselines(self) -> None:
        """Add what other searches than ours may spend."""
        self.add_argument(
            "--search-scale", type=float, default=1.0, help="random, genetic; the paper's is 11"
        )
        self.add_argument("--paper-iterations", type=int, default=1000, help="of the paper's recipe")

    def read(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Return the options, those of the process if `argv` is `None`, and set the number of threads.

        What a smoke run measures means nothing: it never goes to where results go.
        """
        options = self.parse_args(argv)
        if options.smoke:
            self._check_is_elsewhere(options.out)
            self.set_defaults(**self._smoke)
            options = self.parse_args(argv)
        elif options.out is None and self._out is None:
            self.error("the following arguments are required: --out")
        if options.out is None:
            options.out = Path(tempfile.mkdtemp(prefix="smoke-")) if options.smoke else self._out
        if options.smoke:
            print(f"smoke run, written to {options.out}")
        torch.set_num_threads(options.threads)
        torch.backends.cudnn.allow_tf32 = False  # what is float32 is computed as such on a GPU too
        return options

    def _check_is_elsewhere(self, out: Path | None) -> None:
        if out is not None and self._out is not None and out.resolve() == self._out.resolve():
            self.error("a smoke run needs another --out: its numbers are no results")
