"""Blocks on the sizes people run: speed at full width, memory, tracing, compiling."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.tables import grid, grouped

from .results import Row, chosen, numbers, read
from .words import bullets, listed, remarked, span

KINDS = {
    "unpruned": ("traced loop",),
    "whole steps": ("whole steps",),
    "partial steps": ("1 of",),
    "DeepCache's schedule as a plan": ("DeepCache's",),
    "a package": ("DeepCache", "cache-dit"),
}
"""Kinds of loops by how their methods' names begin; the first that fits."""
ASKED = {
    "unpruned": 1.0,
    "whole steps": 0.97,
    "partial steps": 0.95,
    "DeepCache's schedule as a plan": 0.95,
}
"""Share of the speed-up that MACs promise which a loop should reach."""
ONE_CALL, TWO_CALLS = "guidance, one call a step", "guidance, two calls a step"
HALF_CALLS = "guidance, two calls, half of the unconditional ones"
JOINED, HALF_JOINED = "guidance, two calls, joined", f"{HALF_CALLS}, joined"
GUIDED = re.compile("^guidance, ((one call|two calls), )?")
UNDER_GUIDANCE = {
    "one call a step": "unpruned",
    "two calls a step": "unpruned",
    "joined": "unpruned",
    "half of the unconditional ones": "whole steps",
}
"""Kinds of the loops that only guidance has, by how what follows `GUIDED` begins."""
COMPILED = {
    "loop, `loop.compile()`": "`loop.compile()`",
    "loop, its blocks `block.compile()`": "blocks compiled in place",
    "loop, `torch.compile(loop)`": "`torch.compile(loop)`",
}
"""Ways to compile a loop, by their name in the table."""
MEBI = 2**20


def kind_of(row: Row) -> str:
    """Return which kind of loop a row is of, an empty text for others."""
    fits = (kind for kind, starts in KINDS.items() if row["method"].startswith(starts))
    return next(fits, "")


def timed(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of loops that ran as they are, not compiled."""
    return [row for row in rows if row["efficiency"] and not row["compile_seconds"]]


def place(row: Row) -> str:
    """Return where a row was measured."""
    if row["device"] == "cpu":
        return "one CPU thread"
    _, _, card = row.get("machine", "").partition(" cores and ")
    torch = row["torch"].partition("+")[0]
    return f"{f'one {card}' if card else row['device']}, {row['dtype']}, torch {torch}"


def measured_on(row: Row) -> str:
    """Return where a row was measured, and how."""
    return f"{place(row)} by {row['clock']} time"


def speed() -> str:
    """Speed at full width, as shares of what MACs promise."""
    told = [
        f"on {where} {efficiencies(own)} ({models(own)})"
        for where, own in grouped(filter(kind_of, timed(read("speed"))), measured_on).items()
    ]
    return (
        "At full width, with random weights, loops reach this share of the speed-up that MACs promise: "
        f"{'; '.join(told)}."
    )


def models(rows: Iterable[Row]) -> str:
    """Return whose rows they are, without sizes."""
    return listed(dict.fromkeys(row["model"].partition(",")[0] for row in rows))


def efficiencies(rows: Sequence[Row]) -> str:
    """Return how efficient loops are, by kind."""
    by_kind = grouped(rows, kind_of)
    return listed(
        f"{kind} {span(numbers(by_kind[kind], 'efficiency'), 2)}" for kind in KINDS if kind in by_kind
    )


def behind() -> str:
    """Where a loop is slower than was asked, plainly."""
    rows = timed(read("speed"))
    told = [f"{name} {value:.2f} instead of {asked:g}" for name, value, asked in shortfalls(rows)]
    told += slower_than_packages(rows)
    told += unequal(rows)
    if not told:
        return "No loop is behind what was asked of it."
    return (
        f"Behind what was asked (whole steps {ASKED['whole steps']:g}, partial ones "
        f"{ASKED['partial steps']:g}, unpruned no slower than the eager loop, plans no slower than "
        f"DeepCache at equal MACs): {'; '.join(told)}."
    )


def shortfalls(rows: Iterable[Row]) -> list[tuple[str, float, float]]:
    """Return the loops that are, to two digits, less efficient than asked: name, value, what was asked.

    The same is asked of loops under guidance, whatever the number of calls.
    """
    return [
        (named(row), float(row["efficiency"]), asked)
        for row in rows
        if (asked := asked_of(row)) and round(float(row["efficiency"]), 2) < asked
    ]


def asked_of(row: Row) -> float | None:
    """Return what efficiency was asked of a loop, if any was."""
    method, guided = GUIDED.subn("", row["method"])
    own = (kind for start, kind in UNDER_GUIDANCE.items() if guided and method.startswith(start))
    return ASKED.get(next(own, kind_of({**row, "method": method})))


def unequal(rows: Iterable[Row]) -> list[str]:
    """Return which loops differ from what they must equal bit for bit."""
    return [
        f"{named(row)} differs by {row['max_abs_diff']} from what it must equal"
        for row in rows
        if row["max_abs_diff"] and float(row["max_abs_diff"]) != 0
    ]


def slower_than_packages(rows: Iterable[Row]) -> list[str]:
    """Return where DeepCache's schedule as a plan is slower than the package."""
    told = []
    for own in grouped(rows, about).values():
        plans = [row for row in own if kind_of(row) == "DeepCache's schedule as a plan"]
        packages = [row for row in own if row["method"].startswith("DeepCache ")]
        told += [
            f"{named(plan)} {float(plan['speedup']):.2f} times as fast as the eager loop, the package "
            f"{float(package['speedup']):.2f}"
            for plan in plans
            for package in packages
            if float(plan["speedup"]) < float(package["speedup"])
        ]
    return told


def about(row: Row) -> tuple[str, ...]:
    """Return what rows of one measurement have in common."""
    return tuple(row[name] for name in ("model", "device", "dtype", "steps", "batch"))


def named(row: Row) -> str:
    """Return what a row is of, in words."""
    ratio = f"at {row['ratio_asked']}" if row["ratio_asked"] else ""
    where = "" if row["device"] == "cpu" else place(row)
    return remarked(f"{row['model']}, {row['method']}", ratio, where, f"{row['steps']} steps")


def guidance() -> str:
    """What two calls of the model a step take instead of one."""
    told = []
    for own in grouped(timed(read("speed")), about).values():
        by_method = {row["method"]: row for row in own}
        if {ONE_CALL, TWO_CALLS, HALF_CALLS} <= set(by_method):
            told.append(f"{own[0]['model']} ({place(own[0])}) {_two_calls(by_method)}")
    return (
        "Guidance in two calls of the model a step takes, unpruned, this times as long as in one on twice "
        "the rows (asked: at most 1), and without half of the unconditional calls it reaches this share of "
        f"the speed-up that MACs promise (in brackets: joined where both run): {'; '.join(told)}."
    )


def _two_calls(by_method: Mapping[str, Row]) -> str:
    """Tell how long two calls take, and what leaving half of one kind out gains, in brackets joined ones."""

    def times(name: str) -> str:
        return (
            f"{float(by_method[name]['seconds_median']) / float(by_method[ONE_CALL]['seconds_median']):.2f}"
        )

    def efficiency(name: str) -> str:
        return f"{float(by_method[name]['efficiency']):.2f}"

    if not {JOINED, HALF_JOINED} <= set(by_method):
        return f"{times(TWO_CALLS)} and {efficiency(HALF_CALLS)}"
    return f"{times(TWO_CALLS)} [{times(JOINED)}] and {efficiency(HALF_CALLS)} [{efficiency(HALF_JOINED)}]"


def runs() -> str:
    """What a pruned run has alive, beside the unpruned one."""
    rows = read("real_size-memory")
    told = [
        f"{mebi(row, 'pruned peak')} MiB by the plan `{row['plan']}`, of which {mebi(row, 'values alive')} "
        "live from step to step"
        for row in rows
    ]
    above = [f"`{row['plan']}`" for row in rows if row["within"] != "yes"]
    verdict = f"not so with {listed(above)}" if above else "so at every step"
    return (
        f"A run of {rows[0]['model']} has at most so much alive, beside weights and inputs: "
        f"{mebi(rows[0], 'unpruned peak')} MiB unpruned, {listed(told)}. Asked: no more than the unpruned "
        f"peak and the values alive; {verdict}."
    )


def mebi(row: Row, column: str) -> str:
    """Return a column's bytes in MiB."""
    return f"{float(row[column]) / MEBI:.2f}"


def growth() -> str:
    """How tracing grows with the steps."""
    rows = read("speed-trace-steps")
    told = [f"{row['steps']} steps {float(row['median CPU s']):.1f} s" for row in rows]
    return (
        f"Tracing {rows[0]['model']} on the meta device takes, of the processor's time: {listed(told)}; "
        f"milliseconds a step: {listed(f'{1000 * seconds_a_step(row):.0f}' for row in rows)}."
    )


def seconds_a_step(row: Row) -> float:
    """Return what tracing takes over the number of steps."""
    return float(row["median CPU s"]) / float(row["steps"])


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


def compiled() -> str:
    """What compiling takes at full width, and whether anything was compiled twice or not in one graph."""
    told = []
    for own in grouped((row for row in read("speed") if row["compile_seconds"]), about).values():
        each = [f"{row['method']} {float(row['compile_seconds']):.0f} s" for row in own]
        told.append(f"{own[0]['model']} ({place(own[0])}) {listed(each)}")
    breaks, again = (sum(numbers(read("speed"), name)) for name in ("graph_breaks", "recompiles"))
    return (
        f"Compiling at full width takes: {'; '.join(told)}; {breaks:.0f} graph breaks and {again:.0f} "
        "recompiles in all."
    )


def table() -> str:
    """Efficiencies by model, as a table."""
    header = ["model", "measured on", "steps", "clock, rounds", *KINDS, "failed"]
    models = grouped((row for row in read("speed") if not row["compile_seconds"]), about).values()
    return grid(header, (line_of(own) for own in models if any(map(kind_of, own))))


def line_of(rows: Sequence[Row]) -> list[str]:
    """Return a model's line: the span of each kind's efficiency, with the shares kept."""
    first, by_kind = rows[0], grouped(timed(rows), kind_of)
    cells = [
        f"{span(numbers(by_kind[kind], 'efficiency'), 2)} ({span(numbers(by_kind[kind], 'macs_kept'), 2)})"
        if kind in by_kind
        else ""
        for kind in KINDS
    ]
    failed = ", ".join(row["method"].partition(",")[0] for row in rows if row["error"])
    shown = [row for own in by_kind.values() for row in own if kind_of(row)]
    rounds = ", ".join("/".join(sorted({row[name] for row in shown})) for name in ("clock", "rounds"))
    return [first["model"], place(first), first["steps"], rounds, *cells, failed]


def summary() -> str:
    """List of what a user asks first."""
    return bullets(*present(speed, behind, guidance, memory, compiling))


def details() -> str:
    """List of the rest."""
    return bullets(*present(runs, growth, compiled))


def present(*sentences: Callable[[], str]) -> list[Callable[[], str]]:
    """Return the sentences of which something was measured."""
    rows = read("speed")
    there: dict[Callable[[], str], object] = {
        runs: read("real_size-memory"),
        growth: read("speed-trace-steps"),
        guidance: chosen(rows, method=HALF_CALLS, error=""),
        compiled: numbers(rows, "compile_seconds"),
    }
    return [sentence for sentence in sentences if there.get(sentence, True)]
