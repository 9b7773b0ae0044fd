"""Better solvers of diffusers with fewer steps: DPM-Solver++, UniPC and DEIS, with all they can be told."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from diffusers.schedulers.scheduling_deis_multistep import DEISMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from .core import Method, Setting, Task
from .curve import Outcome
from .grids import grids, levels_of, place
from .samplers import SPACINGS, by_share, counts
from .tuning import Knobs, staged

SIGMA_GRIDS = {
    "Karras": "use_karras_sigmas",
    "exponential": "use_exponential_sigmas",
    "lu": "use_lu_lambdas",
}
ORDERS = (1, 2, 3)


@dataclass(frozen=True)
class Solver:
    """A scheduler class of diffusers.

    Attributes:
        kind: the class.
        sigma_grids: names of `SIGMA_GRIDS` that it has.
        stages: further options of its config, tried one group after the other.
    """

    kind: Any
    sigma_grids: Sequence[str]
    stages: Sequence[Sequence[Knobs]]

    def settings(self, task: Task) -> Generator[Setting, Outcome, None]:
        """Yield all numbers of steps with the loop's own spacing, then tune each that is asked for.

        That goes knob by knob: where the timesteps are, the order, further options, and timesteps again.
        """
        own = task.scheduler.config.get("timestep_spacing") or "linspace"
        for count in counts(task):
            yield Setting({"steps": count, "grid": own, "solver_order": 2})
        for asked, count in by_share(task).items():
            points = grids(task, count)
            places = [{"grid": name} for name in (own, *SPACINGS, *self.sigma_grids, *points)]
            orders = [{"solver_order": order} for order in ORDERS]

            def made(
                knobs: Knobs, asked: float = asked, points: dict[str, tuple[float, ...]] = points
            ) -> Setting:
                return Setting(knobs, points.get(knobs["grid"]), asked)

            stages = [places, orders, *self.stages, places]
            yield from staged({"steps": count, "solver_order": 2}, stages, made)

    def scheduler(self, task: Task, setting: Setting) -> Any:
        """Return the scheduler of a setting."""
        knobs = dict(setting.knobs)
        count, grid = knobs.pop("steps"), knobs.pop("grid")
        if grid in SIGMA_GRIDS:
            knobs[SIGMA_GRIDS[grid]] = True
        elif setting.data is None:
            knobs["timestep_spacing"] = grid
        made = self.kind.from_config(task.scheduler.config, **_of_flow(task.scheduler), **knobs)
        if setting.data is not None:
            return place(made, levels_of(task), setting.data)
        made.set_timesteps(count)
        return made


def _of_flow(scheduler: Any) -> dict[str, Any]:
    """Return what a solver must be told of a loop of flow matching."""
    if "FlowMatch" not in type(scheduler).__name__:
        return {}
    shift = scheduler.config.get("shift", 1.0)
    return {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}


def _method(name: str, solver: Solver) -> Method:
    return Method(name, "diffusers", solver.settings, scheduler=solver.scheduler)


ENDS = (
    {"final_sigmas_type": "zero", "lower_order_final": False},
    {"final_sigmas_type": "sigma_min"},
    {"final_sigmas_type": "sigma_min", "lower_order_final": False},
)
DPM = _method(
    "DPM-Solver++",
    Solver(
        DPMSolverMultistepScheduler,
        ("Karras", "exponential", "lu"),
        (
            (*ENDS, {"final_sigmas_type": "sigma_min", "euler_at_final": True}),
            ({"lambda_min_clipped": -5.1}, {"solver_type": "heun"}),
        ),
    ),
)
UNIPC = _method(
    "UniPC",
    Solver(
        UniPCMultistepScheduler,
        ("Karras", "exponential"),
        (ENDS, ({"solver_type": "bh1"}, {"predict_x0": False}, {"disable_corrector": [0]})),
    ),
)
DEIS = _method(
    "DEIS",
    Solver(DEISMultistepScheduler, ("Karras", "exponential"), (({"lower_order_final": False},),)),
)
