"""`dipgo-fx report`: a page with pictures of what a plan does to a pipeline."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from ..applying import build
from ..frozen import frozen
from ..loop import Loop
from ..passes.stored_weights import awake
from ..pipelines.capturing import capture
from ..pipelines.denoiser import only_denoiser
from ..pipelines.enabling import enabled
from ..pipelines.lending import attention_as_found
from ..pipelines.pipeline_call import blank_prompts, completed
from ..pipelines.pruning import shipped_prompts
from ..pipelines.tracing import inputs_of, record_pipeline
from ..plan import Plan
from ..report import Report
from ..similarity import measure_similarity
from .answer import Answer
from .inputs import check_distinct, check_file_to_write, facts_of, load_plan, plan_file_of, read_prompts
from .pipeline import Call, check_takes_prompts, image_of, lines_about, load_pipeline, shows_progress

COLUMNS = 4
"""How many prompts are drawn, the last ones: of the package's own those that few searches see."""
ROWS = 5
"""How many ratios are drawn, from 0 to the plan's."""
BELOW = 1e-9
"""A ratio that lies so little below that of a frontier's point asks for this point, whatever was rounded."""
Maps = dict[str, torch.Tensor]


def run(options: argparse.Namespace) -> Answer:
    """Write the page of a plan at hand."""
    check_distinct(
        {"the plan": plan_file_of(options.plan), "--prompts": options.prompts, "--out": options.out}
    )
    prompts = None if options.prompts is None else read_prompts(options.prompts)
    check_file_to_write(options.out)
    plan = load_plan(options.plan)
    call = Call.of(options, plan)
    pipe = load_pipeline(options)
    check_takes_prompts(pipe)
    ratios = write_page(
        pipe, plan, call.arguments(pipe), prompts, options.seed, options.out, shows_progress(options)
    )
    from_plan = call.from_plan(pipe)
    values = {**facts_of(plan), "from_plan": from_plan, "report": str(options.out), "ratios": ratios}
    return Answer("\n".join([*lines_about(from_plan), f"Wrote {options.out}"]), values)


def check_makes_images(pipe: Any, call: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a pipeline whose page would stay empty: one image tells, before a search."""
    image_of(pipe, shipped_prompts()[0], 0, call)


def write_page(
    pipe: Any,
    plan: Plan,
    call: Mapping[str, Any],
    prompts: Sequence[str] | None,
    seed: int,
    file: Path,
    progress: bool,
) -> list[float]:
    """Write a page with images at several ratios and with maps of how alike steps are.

    It costs a few images at each ratio, and as many unpruned ones for the maps.

    Args:
        call: arguments of the pipeline's call, those under which the plan was searched.
        prompts: the last few are drawn; some that come with the package if omitted.
        seed: of the first image, the next ones count on.

    Returns the ratios.
    """
    shown = list(prompts or shipped_prompts())[-COLUMNS:]
    report, maps = _measured(pipe, plan, call, shown, seed, progress)
    assert report.plan is not None
    images = _drawn(pipe, report.plan, call, shown, seed, progress)
    page = report.html(similarity=maps, images=images, captions=shown)
    file.write_text(page, encoding="utf-8")
    return sorted(images)


def _measured(
    pipe: Any, plan: Plan, call: Mapping[str, Any], prompts: Sequence[str], seed: int, progress: bool
) -> tuple[Report, Maps]:
    """Return what compiling the plan did, and how alike steps are in the mean of prompts, one at a time."""
    model, facts = only_denoiser(pipe), plan.facts
    blank = completed(blank_prompts, call)
    maps: list[Maps] = []
    with frozen(model), attention_as_found(pipe):
        loop = record_pipeline(
            pipe, model, blank, split_guidance=facts.guidance.split, granularity=facts.chosen
        )
        report = build(loop, _guided_as(plan, loop)).report
        with awake(model):
            for number, prompt in enumerate(tqdm(prompts, desc="similarity", disable=not progress)):
                noise = torch.Generator().manual_seed(seed + number)
                arguments_for = completed(_always(prompt), {**call, "generator": noise})
                inputs = inputs_of(loop, capture(pipe, model, arguments_for, 1))
                maps.append(measure_similarity(loop, inputs.pop("sample"), inputs, generator=noise))
    return report, {block: torch.stack([each[block] for each in maps]).mean(0) for block in loop.blocks}


def _guided_as(plan: Plan, loop: Loop) -> Plan:
    """Return the plan as one of a loop whose scale of guidance may be another: what runs does not hang on it.

    Raises `ValueError` where the loop has no guidance, and the plan a table for each condition.
    """
    guidance = loop.facts.guidance
    if plan.facts.guidance.split and not guidance.split:
        raise ValueError(
            "--guidance must be a scale under which the pipeline guides: the plan has the two conditions of "
            "guidance apart"
        )
    return replace(plan, facts=replace(plan.facts, guidance=guidance))


def _always(prompt: str) -> Callable[[int], dict[str, Any]]:
    """Return inputs of one prompt, however many are asked for."""
    return lambda samples: {"prompt": [prompt]}


def _drawn(
    pipe: Any, plan: Plan, call: Mapping[str, Any], prompts: Sequence[str], seed: int, progress: bool
) -> dict[float, list[Image.Image]]:
    """Return images of the prompts by the ratio that they were drawn at."""
    asked = ratios_of(plan)
    images: dict[float, list[Image.Image]] = {}
    with tqdm(total=len(asked) * len(prompts), desc="images", disable=not progress) as bar:
        for ratio in asked:
            with enabled(pipe, plan, ratio=ratio) as forward:
                if forward.plan.ratio in images:  # two ratios that were asked for may mean one plan
                    bar.update(len(prompts))
                    continue
                row = images.setdefault(forward.plan.ratio, [])
                for number, prompt in enumerate(prompts):
                    row.append(image_of(pipe, prompt, seed + number, call))
                    bar.update()
    return images


def ratios_of(plan: Plan) -> list[float | None]:
    """Return the ratios to draw a plan at: 0, a few of its frontier's, and `None`, which is its own."""
    cost = plan.cost
    assert cost is not None
    known = [1 - cost.kept(point.table(cost)) for point in plan.frontier]
    between = [ratio for ratio in known if BELOW < ratio < plan.ratio - BELOW]
    wanted = [plan.ratio * row / (ROWS - 1) for row in range(1, ROWS - 1)]
    nearest = {min((abs(ratio - at), ratio) for ratio in between)[1] for at in wanted if between}
    own: list[float | None] = [None] if plan.ratio > 0 else []
    return [0.0, *(ratio - BELOW for ratio in sorted(nearest)), *own]
