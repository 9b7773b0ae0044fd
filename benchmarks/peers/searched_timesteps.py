"""Which of the loop's own timesteps to run, by local search."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch.nn import functional as F

from dipgo_fx.denoise import prepared
from dipgo_fx.search.spacing import even_steps

from .core import Method, PeerSampler, Setting, Task
from .curve import words
from .samplers import by_share

SOLVERS = ("same", "DPM-Solver++")  # the latter of order 2, for loops of DDIM
KICK = 2  # steps that are moved at random where no single move helps
SEED = 0


class SubsetDDIM(DDIMScheduler):
    """DDIM without noise over any falling list of timesteps, which the stock class does not take."""

    def set_subset(self, timesteps: Sequence[int]) -> None:
        """Step through `timesteps`, from the last of them to the clean sample."""
        self.num_inference_steps = len(timesteps)
        self.timesteps = torch.tensor(timesteps)

    def step(
        self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, return_dict: bool = True
    ) -> Any:
        """Return the sample at the next timestep of the list."""
        following = self.timesteps[self.timesteps < timestep]
        now = self.alphas_cumprod[timestep]
        after = self.alphas_cumprod[following[0]] if len(following) else self.final_alpha_cumprod
        clean, noise = self._parts(model_output, sample, now)
        if self.config.thresholding:
            clean = self._threshold_sample(clean)
        elif self.config.clip_sample:
            clean = clean.clamp(-self.config.clip_sample_range, self.config.clip_sample_range)
        return (after**0.5 * clean + (1 - after) ** 0.5 * noise, clean)

    def _parts(self, output: torch.Tensor, sample: torch.Tensor, now: torch.Tensor) -> Any:
        """Return the clean sample and the noise that an output of the model stands for."""
        root, rest = now**0.5, (1 - now) ** 0.5
        if self.config.prediction_type == "epsilon":
            return (sample - rest * output) / root, output
        if self.config.prediction_type == "sample":
            return output, (sample - root * output) / rest
        return root * sample - rest * output, root * output + rest * sample


def subset_settings(task: Task) -> Iterator[Setting]:
    """Search, for each share asked for, which of the loop's own timesteps to run, with two solvers."""
    for asked, count in by_share(task).items():
        for solver in SOLVERS[: 2 if isinstance(task.scheduler, DDIMScheduler) else 1]:
            knobs = {"steps": count, "solver": solver}
            try:
                chosen, spent = search_subset(task, count, solver)
            except NotImplementedError as error:
                yield Setting(knobs, asked=asked, error=words(error))
            else:
                yield Setting({**knobs, "kept": " ".join(map(str, chosen))}, chosen, asked, spent)


def subset(task: Task, setting: Setting) -> Any:
    """Return a scheduler that runs the chosen steps of the task's loop only."""
    own = prepared(task.scheduler, task.steps)
    timesteps = [own.timesteps[index].item() for index in setting.data]
    if setting.knobs["solver"] == "DPM-Solver++":
        faster = DPMSolverMultistepScheduler.from_config(task.scheduler.config)
        faster.set_timesteps(timesteps=timesteps)
        return faster
    if isinstance(own, DDIMScheduler):
        chosen = SubsetDDIM.from_config(own.config)
        chosen.set_subset(timesteps)
        return chosen
    if "timesteps" not in inspect.signature(own.set_timesteps).parameters:
        raise NotImplementedError(f"{type(own).__name__}.set_timesteps takes no timesteps of one's own")
    own.set_timesteps(timesteps=timesteps)
    return own


def search_subset(task: Task, count: int, solver: str) -> tuple[tuple[int, ...], float]:
    """Return the `count` step indices with the least error on the task's sample, and the full runs it took.

    Starts from the best of several spacings, then moves one step at a time, by one place or more, as long
    as that helps. Where it does not, it goes on from the best with two steps moved at random, until
    `task.full_runs` are spent.
    """
    known: dict[tuple[int, ...], float] = {}
    most = max(1, int(task.full_runs * task.steps / count))
    rng = random.Random(SEED)

    def error(chosen: tuple[int, ...]) -> float:
        if chosen not in known:
            setting = Setting({"steps": count, "solver": solver}, chosen)
            sampler = PeerSampler(task, SUBSET, setting)
            known[chosen] = F.mse_loss(sampler.plain(task.sample, **task.conditioning), task.target).item()
        return known[chosen]

    current = min(list(even_steps(task.steps, count))[:most], key=error)
    for _ in range(most):  # kicks; many lead to what is known
        current = _descended(current, task.steps, error, lambda: len(known) >= most)
        if len(known) >= most:
            break
        current = _kicked(min(known, key=lambda chosen: known[chosen]), task.steps, rng)
    return min(known, key=lambda chosen: known[chosen]), len(known) * count / task.steps


def _descended(
    chosen: tuple[int, ...],
    steps: int,
    error: Callable[[tuple[int, ...]], float],
    over: Callable[[], bool],
) -> tuple[int, ...]:
    """Return where moves of one step lead."""
    improved = True
    while improved:
        improved = False
        for moved in _moves(chosen, steps):
            if over():
                return chosen
            if error(moved) < error(chosen):
                chosen, improved = moved, True
                break
    return chosen


def _kicked(chosen: tuple[int, ...], steps: int, rng: random.Random) -> tuple[int, ...]:
    """Return steps of which a few are others at random."""
    gone = min(KICK, len(chosen), steps - len(chosen))
    free = [step for step in range(steps) if step not in chosen]
    left = rng.sample(chosen, len(chosen) - gone)
    return tuple(sorted([*left, *rng.sample(free, gone)]))


def _moves(chosen: tuple[int, ...], steps: int) -> Iterator[tuple[int, ...]]:
    """Yield the tables with one step moved, nearby places first."""
    for distance in (1, 2, 3, 5, 8):
        for position in chosen:
            for place in (position - distance, position + distance):
                if 0 <= place < steps and place not in chosen:
                    yield tuple(sorted({*chosen, place} - {position}))


SUBSET = Method("searched timesteps", "diffusers", subset_settings, scheduler=subset)
