"""The command line of `python -m benchmarks.coverage`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from diffusers.utils import logging as diffusers_logging
from tqdm import tqdm

from benchmarks import coverage
from benchmarks.command_line import CommandLine
from benchmarks.results_store import ResultStore
from benchmarks.tables import write

from . import tables
from .checks import CHECKS
from .inventory import denoiser_classes, pipeline_classes, scheduler_classes
from .pipelines import LEFT_OUT, NOT_BUILT, PIPELINES
from .rows import Row, outcome
from .schedulers import NoHost, host_of
from .subject import Subject

SMOKE = {"cases": ["dit"], "schedulers": ["DDIMScheduler"]}
Case = tuple[str, str, Callable[[], tuple[str, Subject]]]
"""Kind, key, and what gives the class that is checked, in which pipeline."""


def cases(keys: Sequence[str], schedulers: Sequence[str]) -> Iterator[Case]:
    """Yield what to check: pipelines, then schedulers."""
    for key in keys:
        yield "pipeline", key, partial(_of_pipeline, key)
    for name in schedulers:
        yield "scheduler", name, partial(_of_scheduler, name)


def _of_pipeline(key: str) -> tuple[str, Subject]:
    return type(PIPELINES[key].build()).__name__, Subject.of(key)


def _of_scheduler(name: str) -> tuple[str, Subject]:
    return name, host_of(scheduler_classes()[name])


def measured(kind: str, key: str, name: str, subject: Subject) -> Iterator[Row]:
    """Yield a row a check."""
    denoiser = subject.denoiser
    yield Row(kind, name, key, "built", denoiser, "")
    for check, holds in CHECKS.items():
        if kind == "pipeline" or check != "searchable":
            yield Row(kind, name, key, check, denoiser, outcome(partial(holds, subject)))
            torch._dynamo.reset()


def absent(rows: Sequence[Row]) -> Iterator[Row]:
    """Yield rows of the classes that no tiny pipeline has, with the reason."""
    built = {row.name for row in rows} | {row.denoiser for row in rows}
    for name in [name for name in pipeline_classes() if name not in built]:
        yield Row("pipeline", name, "", "built", "", NOT_BUILT.get(name, "not yet built"))
    for name in [name for name in denoiser_classes() if name not in built]:
        yield Row("denoiser", name, "", "built", "", LEFT_OUT.get(name, "not yet built"))


def _rows(kind: str, key: str, made_of: Callable[[], tuple[str, Subject]]) -> list[Row]:
    """Return all rows of a case: it is measured whole or not at all."""
    try:
        return list(measured(kind, key, *made_of()))
    except NoHost as error:
        return [Row(kind, key, key, "built", "", str(error))]


def main(argv: Sequence[str] | None = None) -> None:
    """Check what is missing and write the page."""
    made = CommandLine(coverage.__doc__, SMOKE)
    made.add_argument("--cases", nargs="*", choices=PIPELINES, default=list(PIPELINES), metavar="KEY")
    made.add_argument("--schedulers", nargs="*", default=list(scheduler_classes()), metavar="CLASS")
    options = made.read(argv)
    warnings.simplefilter("ignore")  # of diffusers and torch, about their own deprecations
    diffusers_logging.set_verbosity_error()
    store = ResultStore(options.out / "coverage.csv", Row)
    known = {(row.kind, row.case) for row in store.rows()}
    for kind, key, made_of in tqdm(list(cases(options.cases, options.schedulers)), unit="case"):
        if (kind, key) not in known:
            for row in _rows(kind, key, made_of):
                store.add(row)
    if set(options.cases) == set(PIPELINES):
        for row in absent(store.rows()):
            store.add(row)
    write("coverage", tables.TITLE, tables.parts(store.rows()), options.out, tables.GUIDE)


if __name__ == "__main__":
    main()
