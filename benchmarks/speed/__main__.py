"""The command line of `python -m benchmarks.speed`."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks import speed
from benchmarks.command_line import CommandLine
from benchmarks.kept_tables import beside_earlier
from benchmarks.tables import Row, Table, write

from .loops import guidance_rows, wall_rows
from .startup import growth_rows, import_rows, trace_rows
from .subjects import FULL, SMALL, SUBJECTS, Subject

PARTS = ("trace", "wall", "guidance", "import")
TRACE_NOTE = (
    "`median CPU s`: of the processor, which tells more than the wall where others use the machine too."
)
SMOKE = {"repeats": 1, "traces": 1, "steps": 6, "trace_steps": 4}


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Measure the asked parts, a table each, or one a model."""
    if "trace" in options.parts:
        rows = trace_rows(options.traces, options.trace_steps)
        yield Table("Tracing on the meta device", rows, TRACE_NOTE, "trace")
        rows = growth_rows(options.traces, options.trace_steps)
        yield Table("Tracing by the number of steps", rows, TRACE_NOTE, "trace-steps")
    if "wall" in options.parts:
        yield from by_model(options, "wall", "Wall time", wall_rows, wall_note(options))
    if "guidance" in options.parts:
        title = "Guidance in one call or two"
        yield from by_model(options, "guidance", title, guidance_rows, guidance_note(options))
    if "import" in options.parts:
        yield Table("Importing, fresh processes", import_rows(options.traces), name="import")


def by_model(
    options: argparse.Namespace,
    part: str,
    title: str,
    measured: Callable[[Subject, int, int], list[Row]],
    note: str,
) -> Iterator[Table]:
    """Measure both models of random weights, a table each."""
    for name, make in SUBJECTS.items():
        torch.manual_seed(options.seed)
        subject = make(SMALL if options.smoke else FULL)
        rows = measured(subject, options.steps, options.repeats)
        yield Table(f"{title}: {subject.name}", rows, note, f"{part}-{name}")


def wall_note(options: argparse.Namespace) -> str:
    """Say how wall times were measured and what is asked of them."""
    return (
        f"Random weights (seed {options.seed}), one sample, DDIM, median of {options.repeats} "
        "interleaved rounds. `ideal` = 1 / share of MACs; `efficiency` = speed-up / ideal. Asked: "
        "the traced loop no slower than the eager one; 4.5 of the ideal 5.0 at ratio 0.8."
    )


def guidance_note(options: argparse.Namespace) -> str:
    """Say how guidance was timed."""
    return (
        f"Random weights (seed {options.seed}), one sample, guidance 2, DDIM, median of {options.repeats} "
        "interleaved rounds, against the unpruned loop of one call a step on twice the rows."
    )


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    made = CommandLine(speed.__doc__, SMOKE)
    made.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    made.add_argument("--repeats", type=int, default=8, help="rounds of wall time, even")
    made.add_argument("--traces", type=int, default=3, help="traces a model, and imports")
    made.add_argument("--steps", type=int, default=20, help="of the loops whose wall time is taken")
    made.add_argument("--trace-steps", type=int, help="of the loops that are traced; else the paper's")
    made.add_argument("--seed", type=int, default=0)
    return made.read(argv)


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    """Measure the asked parts and write the tables."""
    options = arguments(argv)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    found = beside_earlier(options.out / "speed.md", list(tables(options)))
    print(write("speed", "Speed", found, options.out))


if __name__ == "__main__":
    main()
