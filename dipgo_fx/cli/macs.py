"""`dipgo-fx macs`: what a plan costs by step, or what a pipeline's denoiser does."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..cost import LoopCost
from ..macs import Cost, amount
from ..pipelines.tracing import trace_pipeline
from ..plan import Plan
from .answer import Answer, lines_of
from .inputs import facts_of, load_plan
from .pipeline import INDEX, call_of, check_takes_prompts, load_pipeline

HEADER = ("for one image", "MACs", "without attention")


def run(options: argparse.Namespace) -> Answer:
    """Count, without a search and without an image."""
    source = Path(options.source)
    call = call_of(options)
    if source.is_dir() and (source / INDEX).is_file():
        options.folder = source
        return _of_pipeline(load_pipeline(options), call)
    if call or options.device is not None or options.dtype is not None:
        raise ValueError(
            "--steps, --guidance, --height, --width, --device and --dtype are for a pipeline, and "
            f"{source} is none: leave them out for a plan, whose MACs hang on none of them"
        )
    return _of_plan(load_plan(source))


def _of_plan(plan: Plan) -> Answer:
    shares = plan.kept_by_step()  # refuses a plan that does not know
    assert plan.cost is not None
    full, left = plan.cost.full, plan.cost.of_table(plan.table)
    by_step = [share * full.total / len(shares) for share in shares]
    rows = [("step", "kept", "MACs")]
    for step, (share, macs) in enumerate(zip(shares, by_step, strict=True)):
        rows.append((str(step), f"{share:.1%}", amount(macs)))
    text = [
        f"{plan.facts.model}, {plan.facts.scheduler}, {plan.facts.num_inference_steps} steps",
        *lines_of([HEADER, _row("unpruned loop", full), _row("by the plan", left)]),
        f"kept: {left.total / full.total:.1%}, by step:",
        *lines_of(rows),
    ]
    values = {
        **facts_of(plan),
        "loop": _values(full),
        "by_plan": _values(left),
        "by_step": [
            {"step": step, "kept": share, "macs": round(macs)}
            for step, (share, macs) in enumerate(zip(shares, by_step, strict=True))
        ],
    }
    return Answer("\n".join(text), values)


def _of_pipeline(pipe: Any, call: dict[str, Any]) -> Answer:
    check_takes_prompts(pipe)
    loop = trace_pipeline(pipe, **call)
    facts, cost = loop.facts, LoopCost.of(loop)
    steps = len(facts.timesteps)
    guided = "" if facts.guidance.scale is None else f", guidance {facts.guidance.scale:g}"
    where = f"{facts.model} in {type(pipe).__name__}"
    text = [
        f"{where}, {facts.scheduler}, {facts.num_inference_steps} steps{guided}",
        *lines_of([HEADER, _row("a step", cost.step), _row(f"the loop, {steps} steps", cost.full)]),
    ]
    values = {
        "pipeline": type(pipe).__name__,
        "model": facts.model,
        "scheduler": facts.scheduler,
        "steps": facts.num_inference_steps,
        "calls": steps,
        "guidance": facts.guidance.scale,
        "step": _values(cost.step),
        "loop": _values(cost.full),
    }
    return Answer("\n".join(text), values)


def _row(name: str, cost: Cost) -> tuple[str, ...]:
    return name, amount(cost.total), amount(cost.without_attention)


def _values(cost: Cost) -> dict[str, int]:
    return {"macs": cost.total, "macs_without_attention": cost.without_attention}
