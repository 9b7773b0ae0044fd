"""`dipgo-fx prune`: a search, and its plan in a file."""

from __future__ import annotations

import argparse

import torch

from ..arguments import check_ratio
from ..macs import amount
from ..pipelines.pruning import prune_pipeline
from ..plan import Plan
from ..search.config import PruneConfig
from .answer import Answer
from .inputs import check_distinct, check_file_to_write, facts_of, read_prompts
from .pipeline import call_of, load_pipeline, shows_progress
from .report import check_makes_images, write_page


def run(options: argparse.Namespace) -> Answer:
    """Search, write the plan and, if asked for, its page; return what it removes and what the search cost."""
    check_ratio(options.ratio)
    call = call_of(options)
    sizes = {"samples": options.samples, "full_runs": options.full_runs}
    config = PruneConfig(**{name: size for name, size in sizes.items() if size is not None})
    prompts = None if options.prompts is None else read_prompts(options.prompts)
    names = ("out", "report", "journal", "prompts")
    check_distinct({f"--{name}": getattr(options, name) for name in names})
    check_file_to_write(options.out, drafted=True)
    if options.report is not None:
        check_file_to_write(options.report, "--report")
    pipe = load_pipeline(options)
    if options.report is not None:
        check_makes_images(pipe, call)
    plan = prune_pipeline(
        pipe,
        options.ratio,
        prompts=prompts,
        config=config,
        generator=torch.Generator().manual_seed(options.seed),
        progress=shows_progress(options),
        journal=options.journal,
        **call,
    )
    plan.save(options.out)
    if options.report is not None:
        write_page(pipe, plan, call, prompts, options.seed, options.report, shows_progress(options))
    return _answer(options, plan)


def _answer(options: argparse.Namespace, plan: Plan) -> Answer:
    """Return what a plan removes and what its search cost."""
    assert plan.cost is not None
    before, after = plan.cost.full, plan.cost.of_table(plan.table)
    facts, origin = facts_of(plan), plan.origin
    values = {
        "plan": str(options.out),
        "report": None if options.report is None else str(options.report),
        "pipeline": origin["pipeline"],
        **facts,
        "asked": options.ratio,
        "macs_before": before.total,
        "macs_after": after.total,
        **{name: origin[name] for name in ("samples", "full_runs", "seconds", "seed")},
    }
    lines = [
        f"Wrote {options.out}: {plan.ratio:.1%} of the MACs removed, {amount(before.total)} -> "
        f"{amount(after.total)} an image, {facts['steps']} steps of {facts['scheduler']}",
        f"Search: {origin['seconds']} s, worth {origin['full_runs']} unpruned runs; found: {origin['name']}",
    ]
    if options.report is not None:
        lines.append(f"Wrote {options.report}")
    return Answer("\n".join(lines), values)
