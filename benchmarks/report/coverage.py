"""The blocks on which classes of diffusers run by a plan, and on what that costs a pipeline."""

from __future__ import annotations

from .results import read
from .words import bullets, listed, span, wrapped


def classes() -> str:
    """How many denoisers, schedulers and pipelines run by a plan, compile and can be searched on."""
    rows = read("coverage-counts")
    every = listed(f"{row['classes']} {row['kind']}" for row in rows)
    built, run, compiled = (
        listed(f"{row[check]} {row['kind']}" for row in rows) for check in ("built", "enabled", "compiled")
    )
    (pipelines,) = (row for row in rows if row["kind"] == "pipelines")
    return (
        f"diffusers {rows[0]['diffusers']} has {every}; in tiny pipelines with random weights {built} could "
        f"be tried. By a plan, bit for bit as if blocks were skipped by hand, run {run}; every step is one "
        f"graph for `torch.compile(fullgraph=True)` with {compiled}; the loops of "
        f"{pipelines['searchable']} pipelines can be recorded for `prune_pipeline`."
    )


def counted() -> str:
    """Say of how many pipelines what is true."""
    rows = read("coverage-counts")
    (row,) = (row for row in rows if row["kind"] == "pipelines")
    return wrapped(
        f"Of the {row['classes']} pipelines of diffusers {row['diffusers']}, {row['built']} could be tried, "
        f"tiny and with random weights: {row['enabled']} run by a plan, bit for bit as if blocks were "
        f"skipped by hand, and of {row['searchable']} the loop can be recorded for `prune_pipeline`."
    )


def price() -> str:
    """What an enabled plan costs a step, and holds."""
    ratios = [float(row["ratio"]) for row in read("enabled-overhead") if row["run"] != "plain pipeline"]
    held = [f"{float(row['held at most, MiB']):.1f} MiB ({row['run']})" for row in read("enabled-held")]
    return (
        "At the width of Stable Diffusion 1.5 a step by a plan that keeps all, or all but a gate, takes "
        f"{span(ratios, 3)} times that of the plain pipeline (one CPU thread). Held from step to step at "
        f"512² pixels: {listed(held)}."
    )


def coverage() -> str:
    """List of both."""
    return bullets(classes, price)
