"""`dipgo-fx compare`: plans beside the full pipeline, on the same prompts and noise."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..passes.forward_slot import ForwardSlot
from ..pipelines.denoiser import denoisers_of
from ..pipelines.enabling import disable, enable
from ..pipelines.pruned_forward import PrunedForward
from ..pipelines.pruning import shipped_prompts
from ..plan import Plan
from ..plan_schema import shown
from ..search.losses import psnr
from .answer import Answer, lines_of
from .inputs import check_distinct, check_file_to_write, load_plan, plan_file_of, read_prompts
from .pictures import draw_side_by_side
from .pipeline import Call, check_takes_prompts, lines_about, load_pipeline, shows_progress

OWN_PROMPTS = 4
"""How many of the package's own prompts are drawn if none are given: the last, which few searches see."""


@dataclass
class Subject:
    """A way to run the pipeline, with what came of it.

    Attributes:
        name: `full`, or the plan's path.
        forwards: what stands in for the denoisers' `forward`; none for the full pipeline.
        images: one per prompt.
        seconds: that each took.
    """

    name: str
    forwards: Sequence[PrunedForward] = ()
    images: list[Image.Image] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def kept(self) -> float:
        """Share of the loop's MACs that its last run kept."""
        return 1 - self.forwards[0].plan.ratio if self.forwards else 1.0


def run(options: argparse.Namespace) -> Answer:
    """Draw every prompt by every plan and without one, in turn, and return a row each."""
    for path in options.plans:  # one by one: a plan may be named twice
        check_distinct({"a plan": plan_file_of(path), "--prompts": options.prompts, "--out": options.out})
    prompts = shipped_prompts()[-OWN_PROMPTS:] if options.prompts is None else read_prompts(options.prompts)
    check_file_to_write(options.out)
    plans = {str(path): load_plan(path) for path in options.plans}
    calls = {name: Call.of(options, plan) for name, plan in plans.items()}
    pipe = load_pipeline(options)
    check_takes_prompts(pipe)
    _check_alike({name: call.arguments(pipe) for name, call in calls.items()})
    call = next(iter(calls.values()))
    from_plan: dict[str, Any] = {}
    for each in calls.values():
        from_plan |= each.from_plan(pipe)
    try:
        subjects = [Subject("full"), *_enabled(pipe, plans, options.compile)]
        _draw(pipe, subjects, call, prompts, shows_progress(options))
        rows = [_measured(subject, subjects[0]) for subject in subjects]
    finally:
        disable(pipe)
    columns = [
        (f"{Path(subject.name).name}, {subject.kept:.1%} kept", subject.images) for subject in subjects
    ]
    draw_side_by_side(columns, prompts, options.out)
    values = {
        "steps": call.steps,
        "from_plan": from_plan,
        "prompts": prompts,
        "picture": str(options.out),
        "rows": rows,
    }
    lines = [*lines_of(_table(rows)), *lines_about(from_plan), f"Wrote {options.out}"]
    return Answer("\n".join(lines), values)


def _check_alike(calls: dict[str, dict[str, Any]]) -> None:
    """Raise `ValueError` unless the pipeline is called alike by all plans: it runs without one just once."""
    (first, wanted), *others = calls.items()
    for name, call in others:
        differing = sorted(word for word in {*wanted, *call} if wanted.get(word) != call.get(word))
        if differing:
            one, other = (
                ", ".join(f"{word}={shown(given.get(word))}" for word in differing)
                for given in (wanted, call)
            )
            raise ValueError(
                f"plans must be for one call of the pipeline, got {one} by {first} and {other} by {name}: "
                "give --steps or --guidance for all of them, or compare plans that were searched alike"
            )


def _enabled(pipe: Any, plans: dict[str, Plan], compile: bool) -> Iterator[Subject]:
    """Yield a subject for each plan; what they share is traced and compiled once."""
    for name, plan in plans.items():
        enable(pipe, plan, compile=compile)
        yield Subject(name, [slot.current for slot in _slots(pipe, plan)])  # type: ignore[misc]


def _slots(pipe: Any, plan: Plan) -> list[ForwardSlot]:
    return [ForwardSlot(module) for module in denoisers_of(pipe, plan.facts.model)]


@contextmanager
def _running(pipe: Any, subject: Subject) -> Iterator[None]:
    """Let the pipeline run as the subject does; every plan stays traced."""
    with ExitStack() as stack:
        for forward in subject.forwards:
            ForwardSlot(forward.graphs.model).put(forward)
        if not subject.forwards:
            for module in pipe.components.values():
                if isinstance(module, torch.nn.Module):
                    stack.enter_context(ForwardSlot(module).unpruned())
        yield


def _draw(pipe: Any, subjects: list[Subject], call: Call, prompts: list[str], progress: bool) -> None:
    """Draw the first prompt by each for warming up, then all, by each in turn."""
    with tqdm(total=(len(prompts) + 1) * len(subjects), desc="images", disable=not progress) as bar:
        for round_ in range(-1, len(prompts)):
            number = max(round_, 0)
            for subject in subjects:
                with _running(pipe, subject):
                    start = time.perf_counter()
                    image = call.image(pipe, prompts[number], number)
                    seconds = time.perf_counter() - start
                if round_ >= 0:
                    subject.images.append(image)
                    subject.seconds.append(seconds)
                bar.update()


def _measured(subject: Subject, full: Subject) -> dict[str, Any]:
    """Return a subject's row: PSNR in dB of 8-bit images to the full ones, `None` where they are equal."""
    made, wanted = _pixels(subject.images), _pixels(full.images)
    each = [psnr(*pair, 255) for pair in zip(made, wanted, strict=True)]
    seconds = median(subject.seconds)
    return {
        "name": subject.name,
        "kept": subject.kept,
        "seconds": seconds,
        "speed": median(full.seconds) / seconds,
        "psnr": _finite(psnr(made, wanted, 255)),
        "psnr_mean": _finite(mean(each)),
        "psnr_of_images": [_finite(value) for value in each],
    }


def _pixels(images: list[Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).double()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _table(rows: list[dict[str, Any]]) -> Sequence[tuple[str, ...]]:
    table = [("", "MACs kept", "seconds", "speed", "PSNR dB")]
    for row in rows:
        decibel = "equal" if row["psnr"] is None else f"{row['psnr']:.1f}"
        speed = f"{row['speed']:.2f}x"
        table.append((row["name"], f"{row['kept']:.1%}", f"{row['seconds']:.3f}", speed, decibel))
    return table
