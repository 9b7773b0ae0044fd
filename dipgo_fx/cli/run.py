"""`dipgo-fx run`: images of a pipeline that runs by a plan."""

from __future__ import annotations

import argparse
import time
from typing import Any

from tqdm import tqdm

from ..arguments import check_ratio
from ..pipelines.enabling import enabled
from .answer import Answer
from .inputs import facts_of, load_plan, read_prompts
from .pipeline import Call, check_takes_prompts, lines_about, load_pipeline, shows_progress


def run(options: argparse.Namespace) -> Answer:
    """Draw the images, one file each, and return where they are."""
    if options.ratio is not None:
        check_ratio(options.ratio)
    prompts = [*options.prompt, *([] if options.prompts is None else read_prompts(options.prompts))]
    if not prompts:
        raise ValueError("what is to be drawn? Give prompts, or --prompts with a file of them")
    plan = load_plan(options.plan)
    call = Call.of(options, plan)
    pipe = load_pipeline(options)
    check_takes_prompts(pipe)
    images: list[dict[str, Any]] = []
    with enabled(pipe, plan, ratio=options.ratio, compile=options.compile) as forward:
        options.out.mkdir(parents=True, exist_ok=True)
        bar = tqdm(prompts, desc="images", unit="image", disable=not shows_progress(options))
        for number, prompt in enumerate(bar):
            start = time.perf_counter()
            image = call.image(pipe, prompt, number)
            seconds = time.perf_counter() - start
            file = options.out / f"{number:03d}.png"
            image.save(file)
            images.append(
                {"file": str(file), "prompt": prompt, "seed": call.seed + number, "seconds": seconds}
            )
        ran = forward.plan
    from_plan = call.from_plan(pipe)
    values = {**facts_of(ran), "from_plan": from_plan, "images": images}
    lines = [f"{image['file']}  {image['prompt']}" for image in images] + lines_about(from_plan)
    lines.append(f"{call.steps} steps, {ran.ratio:.1%} of the MACs removed")
    return Answer("\n".join(lines), values)
