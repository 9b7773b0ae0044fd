"""Blocks on the sizes people run: speed at full width, the memory of a search, compiling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .results import Row, numbers, read
from .words import bullets, listed, span

SCHEDULE = "DeepCache's"
COMPILED = {
    "loop, `loop.compile()`": "`loop.compile()`",
    "loop, its blocks `block.compile()`": "blocks compiled in place",
    "loop, `torch.compile(loop)`": "`torch.compile(loop)`",
}
"""Ways to compile a loop, by their name in the table."""


def speed() -> str:
    """Speed at full width, as shares of what MACs promise."""
    told = [efficiencies(read(f"real_size-{name}")) for name in ("sd15", "dit")]
    return (
        "At full width (random weights, one CPU thread), as a share of the speed-up that MACs promise: "
        f"{'; '.join(told)}."
    )


def efficiencies(rows: Sequence[Row]) -> str:
    """Return how efficient one model's loops are, those of a package beside them."""

    def of(start: str) -> str:
        return span(numbers((row for row in rows if row["method"].startswith(start)), "efficiency"), 2)

    package = [row for row in rows if row["method"].startswith("DeepCache 0")]
    beside = (
        f", DeepCache's schedule as a plan {of(SCHEDULE)} and its package {of('DeepCache 0')}"
        if package
        else ""
    )
    return (
        f"{rows[0]['model']} {of('whole steps')} with whole steps, {of('1 of')} with partial ones, "
        f"{of('traced')} unpruned{beside}"
    )


def memory() -> str:
    """What a search holds beside the model."""
    rows = read("real_size-search")
    told = [
        f"{row['search, MiB']} MiB with chunks of {row['chunk']} (one unpruned step of them: "
        f"{row['one step, MiB']})"
        for row in rows
    ]
    first = rows[0]
    return (
        f"A search on {first['model']} ({first['model, GiB']} GiB of random weights, {first['samples']} "
        f"samples, {first['steps']} steps, {span(numbers(rows, 'minutes'), 0)} minutes on one CPU thread) "
        f"holds, beside the model, at most {listed(told)}."
    )


def compiling() -> str:
    """Seconds of compiling, over those of the plain denoiser."""
    told = [f"{rows[0]['model']} {compared(rows)}" for rows in map(read, ("compiling-dit", "compiling-unet"))]
    return f"Compiling a pruned loop takes, over the plain denoiser: {'; '.join(told)}."


def compared(rows: Sequence[Row]) -> str:
    """Return what each way to compile takes, plans of whole steps before others."""
    loops = [row for row in rows if row["way"] in COMPILED]
    told = []
    for way, name in COMPILED.items():
        whole, partial = (
            [row for row in loops if row["way"] == way and (row["blocks at others"] != "0") == is_partial]
            for is_partial in (False, True)
        )
        told.append(f"{name} {times(whole)}{f' ({times(partial)} with partial steps)' if partial else ''}")
    return listed(told)


def times(rows: Iterable[Row]) -> str:
    """Return the span of what compiling takes, over the plain denoiser."""
    return span(numbers(rows, "of plain"), 1)


def summary() -> str:
    """List of all, for the README."""
    return bullets(speed, memory, compiling)
