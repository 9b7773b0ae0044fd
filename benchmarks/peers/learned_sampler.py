"""A sampler whose coefficients and timesteps are learned: nearest to GS, S4S and BNS.

Every update counts the sample and all predictions so far; what it counts them is theory (DDIM or
DPM-Solver++ 2M) plus a learned correction. Learned are also when the network is called and which timestep
it is told. What is learned minimises the squared error to the unpruned result of the same noise. Those
papers go down the gradient with Adam for thousands of samples; at the budget of a search Levenberg's and
Marquardt's steps end nearer, so they come first, and Adam has what is left.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.cases import CALIBRATION
from dipgo_fx import PruneConfig
from dipgo_fx.denoise import denoise, prepared
from dipgo_fx.guidance import Guidance

from .adam import adam
from .core import Method, Setting, Stage, Task, twin
from .curve import Outcome, words
from .grids import grids, levels_of
from .learning import Corrections, Lesson, Recipe, detached
from .levenberg import levenberg
from .multistep import THEORIES, MultistepScheduler
from .path_fit import Path, fit_to_path
from .samplers import by_share

BUDGET = PruneConfig.full_runs  # of `CALIBRATION` samples, which is what our own search may spend
UNCONDITIONAL = 0.45  # unconditional calls to a conditional one where halves of guidance are forecast
ALL = ("coefficients", "times", "told")


class NoStartError(ValueError):
    """There is nothing to go on from."""


@dataclass(frozen=True)
class Teacher:
    """Learns samplers for a task.

    Attributes:
        times: how much of the task's budget each share has.
        learns: what is learned, see `Recipe`; each is a setting.
        halves: whether to try forecasting the unconditional half of guidance.
        goes_on: whether to go on from the start.
    """

    times: float = 1.0
    learns: tuple[tuple[str, ...], ...] = (ALL,)
    halves: bool = True
    goes_on: bool = True

    def settings(self, task: Task) -> Generator[Setting, Outcome | None, None]:
        """Yield for each share asked for what was learned, of whole calls and of halves."""
        for asked, count in by_share(task).items():
            for learns in self.learns:
                for both in self._calls(task, count):
                    knobs = {"calls": _told(both, count), "learns": "+".join(learns)}
                    try:
                        yield self._learned(task, asked, knobs, learns, both or (True,) * count)
                    except (NotImplementedError, NoStartError, torch.linalg.LinAlgError) as error:
                        yield Setting(knobs, asked=asked, error=words(error))

    def _calls(self, task: Task, count: int) -> list[tuple[bool, ...] | None]:
        """Return which calls make both halves of guidance; `None` is all of them."""
        found: list[tuple[bool, ...] | None] = [None]
        fitting = (
            each for each in range(1, 2 * count) if each + max(1, round(UNCONDITIONAL * each)) <= 2 * count
        )
        conditional = max(fitting, default=1)
        unconditional = 2 * count - conditional
        if self.halves and task.guidance_scale is not None and 1 <= unconditional < conditional:
            found.append(tuple(step < unconditional for step in range(conditional)))
        return found

    def _learned(
        self, task: Task, asked: float, knobs: dict[str, Any], learns: tuple[str, ...], both: tuple[bool, ...]
    ) -> Setting:
        lesson, model = lesson_of(task)
        corrections, spent = best_start(task, lesson, len(both), learns, None if all(both) else both)
        budget = self.times * min(task.full_runs, BUDGET * CALIBRATION / len(task.sample))
        if self.goes_on:
            spent += levenberg(lesson, corrections, budget - spent)
            spent += refined(lesson, model, corrections, budget - spent)
        with torch.no_grad():
            found = detached(corrections())
        return Setting({**knobs, "theory": corrections.recipe.theory}, found, asked, spent)


def lesson_of(task: Task) -> tuple[Lesson, torch.nn.Module]:
    """Return what is learned on, and the model that it calls."""
    model = twin(task.model).eval()

    def call(sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> torch.Tensor:
        result: torch.Tensor = model(sample, timestep=timestep, **conditioning, return_dict=False)[0]
        return result

    steps = len(prepared(task.scheduler, task.steps).timesteps)
    guidance = Guidance(task.guidance_scale)
    levels = levels_of(task)
    return Lesson(call, levels, guidance, task.sample, task.conditioning, task.target, steps), model


@torch.no_grad()
def best_start(
    task: Task, lesson: Lesson, count: int, learns: tuple[str, ...], both: tuple[bool, ...] | None
) -> tuple[Corrections, float]:
    """Return the start of the best theory and grid, and what trying all cost.

    Where coefficients are learned each is fitted to the unpruned path first. All are tried on a third of the
    samples; the best is then fitted on all.
    """
    path = path_of(task)
    few = lesson.part(torch.arange(max(1, len(lesson.sample) // 3)))
    tried: list[tuple[float, Recipe]] = []
    for times in grids(task, count).values():
        for theory in THEORIES:
            recipe = Recipe(theory, times, learns, both)
            tried.append((_started(few, recipe, path.part(len(few.sample)))[1], recipe))
    loss, recipe = min(tried, key=lambda each: each[0])
    if not math.isfinite(loss):
        raise NoStartError("no start has a finite loss")
    corrections, _ = _started(lesson, recipe, path)
    runs = 1 + len(tried) * len(few.sample) / len(lesson.sample)
    return corrections, 1 + runs * lesson.price(corrections())


def _started(lesson: Lesson, recipe: Recipe, path: Path) -> tuple[Corrections, float]:
    """Return the start of a recipe and its error, which is infinite if it is no number."""
    corrections = Corrections(lesson.levels, recipe)
    if "coefficients" in recipe.learns:
        loss = fit_to_path(lesson, corrections, path)
    else:
        loss = lesson.loss(corrections()).item()
    return corrections, loss if math.isfinite(loss) else math.inf


def path_of(task: Task) -> Path:
    """Return the unpruned path of a task's sample."""
    levels, samples = levels_of(task), []
    own = prepared(task.scheduler, task.steps)
    guidance = Guidance(task.guidance_scale)
    with torch.no_grad():
        last = denoise(
            twin(task.model).eval(),
            own,
            task.sample,
            task.conditioning,
            guidance,
            on_step=lambda step, sample: samples.append(sample),
        )
    alpha, sigma = levels.at(own.timesteps)
    alpha = torch.cat([alpha, alpha.new_tensor(levels.end[:1])])
    noise = torch.cat([sigma, sigma.new_tensor(levels.end[1:])]) / alpha
    scaled = [each / scale.to(each) for each, scale in zip([*samples, last], alpha, strict=True)]
    return Path(noise, torch.stack(scaled))


def refined(lesson: Lesson, model: torch.nn.Module, corrections: Corrections, full_runs: float) -> float:
    """Go on with Adam, take that back if it does not help, and return what it cost."""
    before = {name: value.clone() for name, value in corrections.state_dict().items()}
    with torch.no_grad():
        loss = lesson.loss(corrections()).item()
        check = lesson.price(corrections())
    spent = adam(lesson, model, corrections, full_runs - check) + check
    with torch.no_grad():
        if not lesson.loss(corrections()).item() < loss:
            corrections.load_state_dict(before)
    return spent


def scheduler(task: Task, setting: Setting) -> Any:
    """Return the sampler of a setting."""
    return MultistepScheduler(task.scheduler.config, levels_of(task), setting.data.coefficients)


def install(stage: Stage, setting: Setting) -> None:
    """Forecast the unconditional half of guidance where the setting leaves it out."""
    stage.call = setting.data.on(stage.call)


def _told(both: tuple[bool, ...] | None, count: int) -> str:
    return str(count) if both is None else f"{len(both)} conditional, {sum(both)} unconditional"


def _method(name: str, teacher: Teacher) -> Method:
    return Method(name, "none", teacher.settings, install, scheduler)


FITTED = _method("sampler fitted to the path", Teacher(learns=(("coefficients",),), goes_on=False))
LEARNED = _method("learned sampler", Teacher())
LEARNED_4X = _method("learned sampler, 4 times the runs", Teacher(times=4.0))
LEARNED_TIMES = _method("learned timesteps", Teacher(learns=(("times",), ("times", "told")), halves=False))
