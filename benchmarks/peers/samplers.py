"""The yardstick: fewer steps, by the same sampler, by better solvers, and at searched timesteps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch.nn import functional as F

from dipgo_fx.denoise import prepared
from dipgo_fx.search.spacing import even_steps

from .core import Method, PeerSampler, Setting, Task

SPACINGS = ("leading", "trailing", "linspace")
ALL_COUNTS = 20  # up to this many steps every number of steps is tried


def counts(task: Task, every: bool = True) -> list[int]:
    """Return numbers of steps, fewest last: those that are asked for, and with `every` others between."""
    found = {fitting(task, asked) for asked in task.asked}
    if every:
        found |= set(range(1, task.steps, -(-task.steps // ALL_COUNTS)))
    return sorted(found, reverse=True)


def fitting(task: Task, asked: float) -> int:
    """Return how many steps keep at most the share `asked` of the MACs, at least one."""
    return max(1, int(task.steps * asked + 1e-9))


def spacings(task: Task) -> Iterator[dict[str, Any]]:
    """Yield numbers of steps with the scheduler's own spacing, then those asked for with others."""
    own = task.scheduler.config.get("timestep_spacing")
    yield from ({"steps": count, "spacing": own} for count in counts(task))
    for spacing in SPACINGS if own else ():
        if spacing != own:
            yield from ({"steps": count, "spacing": spacing} for count in counts(task, every=False))


def in_steps(task: Task, setting: Setting, kind: Any = None) -> Any:
    """Return a scheduler, of the task's class or another, with the setting's steps."""
    spacing = setting.knobs["spacing"]
    config = {"timestep_spacing": spacing} if spacing else {}
    made = (kind or type(task.scheduler)).from_config(task.scheduler.config, **config)
    return prepared(made, setting.knobs["steps"])


def settings(task: Task) -> Iterator[Setting]:
    """Yield numbers of steps and spacings."""
    yield from map(Setting, spacings(task))


# -- searched timesteps


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
    for asked in task.asked:
        count = fitting(task, asked)
        for name in ("same", "DPM-Solver++"):
            if name == "DPM-Solver++" and not isinstance(task.scheduler, DDIMScheduler):
                continue
            chosen = search_subset(task, count, name)
            yield Setting({"steps": count, "solver": name, "kept": " ".join(map(str, chosen))}, chosen)


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


def search_subset(task: Task, count: int, solver: str) -> tuple[int, ...]:
    """Return the `count` step indices with the least error on the task's sample.

    Starts from the best of several spacings, then moves one step at a time, by one place or more, as
    long as that helps and `task.full_runs` lasts.
    """
    known: dict[tuple[int, ...], float] = {}

    def error(chosen: tuple[int, ...]) -> float:
        if chosen not in known:
            setting = Setting({"steps": count, "solver": solver}, chosen)
            sampler = PeerSampler(task, SUBSET, setting)
            known[chosen] = F.mse_loss(sampler(task.sample, **task.conditioning), task.target).item()
        return known[chosen]

    best = min(even_steps(task.steps, count), key=error)
    improved = True
    while improved:
        improved = False
        for moved in _moves(best, task.steps):
            if len(known) * count / task.steps >= task.full_runs:
                return best
            if error(moved) < error(best):
                best, improved = moved, True
                break
    return best


def _moves(chosen: tuple[int, ...], steps: int) -> Iterator[tuple[int, ...]]:
    """Yield the tables with one step moved, nearby places first."""
    for distance in (1, 2, 3, 5, 8):
        for position in chosen:
            for place in (position - distance, position + distance):
                if 0 <= place < steps and place not in chosen:
                    yield tuple(sorted({*chosen, place} - {position}))


def _solver(kind: Any) -> Callable[[Task, Setting], Any]:
    return lambda task, setting: in_steps(task, setting, kind)


FEWER = Method("fewer steps", "diffusers", settings, scheduler=in_steps)
DPM = Method("DPM-Solver++", "diffusers", settings, scheduler=_solver(DPMSolverMultistepScheduler))
UNIPC = Method("UniPC", "diffusers", settings, scheduler=_solver(UniPCMultistepScheduler))
SUBSET = Method("searched timesteps", "diffusers", subset_settings, scheduler=subset)
