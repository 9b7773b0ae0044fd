"""Schedulers of diffusers with random settings, for properties to draw.

What a strategy leaves out diffusers itself does not run; each time a comment says why.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import diffusers
import torch
from hypothesis import assume
from hypothesis import strategies as st

from dipgo_fx.denoise import prepared


@dataclass(frozen=True)
class Sampler:
    """A scheduler by its class and settings, and how many steps it is asked for."""

    kind: str
    steps: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """Return the scheduler afresh."""
        return getattr(diffusers, self.kind)(**self.settings)

    @cached_property
    def levels(self) -> torch.Tensor:
        """The timesteps of the loop's calls of a model."""
        return prepared(self.build(), self.steps).timesteps  # type: ignore[no-any-return]

    @property
    def reads_variance(self) -> bool:
        """Whether its steps need a model that predicts a variance."""
        return str(self.settings.get("variance_type")).startswith("learned")


Settings = st.SearchStrategy[dict[str, Any]]
booleans = st.booleans()
spacings = st.sampled_from(("leading", "linspace", "trailing"))
finals = st.sampled_from(("zero", "sigma_min"))
EPSILON_OR_V = st.sampled_from(("epsilon", "v_prediction"))
ANY_PREDICTION = st.sampled_from(("epsilon", "v_prediction", "sample"))
ANY_OR_FLOW = st.sampled_from(("epsilon", "v_prediction", "sample", "flow_prediction"))
# At most one of three, of which each is a flag of its own.
sigma_flags: Settings = st.sampled_from(
    ({}, {}, *({f"use_{name}_sigmas": True} for name in ("karras", "exponential", "beta")))
)
betas: Settings = st.fixed_dictionaries(
    {},
    optional={
        "num_train_timesteps": st.sampled_from((100, 1000)),
        "beta_start": st.sampled_from((1e-4, 8.5e-4)),
        "beta_end": st.sampled_from((0.012, 0.02)),
        "beta_schedule": st.sampled_from(("linear", "scaled_linear", "squaredcos_cap_v2")),
    },
)
clipping: Settings = st.one_of(
    st.just({}),
    st.just({"clip_sample": False}),
    st.fixed_dictionaries({"clip_sample": st.just(True), "clip_sample_range": st.floats(0.5, 4)}),
)
thresholding: Settings = st.just({}) | st.fixed_dictionaries(
    {
        "thresholding": st.just(True),
        "dynamic_thresholding_ratio": st.floats(0.5, 1),
        "sample_max_value": st.floats(1, 3),
    }
)


def options(**choices: st.SearchStrategy[Any]) -> Settings:
    """Draw some of these settings; the others stay as diffusers has them."""
    return st.fixed_dictionaries({}, optional=choices)


@st.composite
def merged(draw: st.DrawFn, *parts: Settings) -> dict[str, Any]:
    """Draw several groups of settings as one."""
    return {name: value for part in parts for name, value in draw(part).items()}


def _runnable(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings that diffusers runs, of those that it lets one ask for."""
    made = dict(settings)
    if "thresholding" in made:
        made["clip_sample"] = False  # they take each other's place
    solves_for_noise = (
        made.get("algorithm_type") in ("dpmsolver", "sde-dpmsolver", "noise_prediction")
        or made.get("predict_x0") is False
    )
    if solves_for_noise:
        # Refused, or an error of shapes in the step.
        made.pop("thresholding", None)
        made["final_sigmas_type"] = "sigma_min"
        if made.get("prediction_type") == "flow_prediction":
            made["prediction_type"] = "epsilon"
    if made.get("prediction_type") == "flow_prediction":
        # A flow is predicted where the sigmas are those of a flow, and only there.
        made = {name: value for name, value in made.items() if not name.endswith("_sigmas")}
        made |= {"use_flow_sigmas": True, "flow_shift": 3.0}
    if made.get("solver_order") == 3 and made.get("algorithm_type") == "sde-dpmsolver++":
        made["solver_order"] = 2  # the third order has no stochastic form, which EDM's step finds out
    if made.get("solver_order") == 3 and made.get("solver_type") in ("bh1", "bh2"):
        made["rescale_betas_zero_snr"] = False  # a singular matrix in UniPC's corrector
    return made


orders = st.integers(1, 3)
ZERO_SNR = {"rescale_betas_zero_snr": booleans}
DPM = {
    "solver_order": orders,
    "prediction_type": ANY_OR_FLOW,
    "solver_type": st.sampled_from(("midpoint", "heun")),
    "lower_order_final": booleans,
    "final_sigmas_type": finals,
}
LEADING_OFFSET = {"timestep_spacing": spacings, "steps_offset": st.sampled_from((0, 1))}
FLOW = {"shift": st.sampled_from((0.5, 1.0, 3.0)), "shift_terminal": st.none() | st.just(0.1)}

SETTINGS: dict[str, Settings] = {
    "DDIMScheduler": merged(
        betas,
        clipping,
        thresholding,
        options(set_alpha_to_one=booleans, prediction_type=ANY_PREDICTION, **LEADING_OFFSET, **ZERO_SNR),
    ),
    "DDPMScheduler": merged(
        betas,
        clipping,
        thresholding,
        options(
            prediction_type=ANY_PREDICTION,
            variance_type=st.sampled_from(
                (
                    "fixed_small",
                    "fixed_small_log",
                    "fixed_large",
                    "fixed_large_log",
                    "learned",
                    "learned_range",
                )
            ),
            **LEADING_OFFSET,
            **ZERO_SNR,
        ),
    ),
    "PNDMScheduler": merged(
        betas,
        options(
            skip_prk_steps=booleans, set_alpha_to_one=booleans, prediction_type=EPSILON_OR_V, **LEADING_OFFSET
        ),
    ),
    "DPMSolverMultistepScheduler": merged(
        betas,
        sigma_flags,
        thresholding,
        options(
            algorithm_type=st.sampled_from(("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++")),
            euler_at_final=booleans,
            **DPM,
            **LEADING_OFFSET,
            **ZERO_SNR,
        ),
    ),
    "DPMSolverSinglestepScheduler": merged(
        betas,
        sigma_flags,
        thresholding,
        options(algorithm_type=st.sampled_from(("dpmsolver", "dpmsolver++", "sde-dpmsolver++")), **DPM),
    ),
    "EulerDiscreteScheduler": merged(
        betas,
        sigma_flags,
        options(
            prediction_type=EPSILON_OR_V,
            interpolation_type=st.sampled_from(("linear", "log_linear")),
            timestep_type=st.sampled_from(("discrete", "continuous")),
            final_sigmas_type=finals,
            **LEADING_OFFSET,
            **ZERO_SNR,
        ),
    ),
    "EulerAncestralDiscreteScheduler": merged(
        betas, options(prediction_type=EPSILON_OR_V, **LEADING_OFFSET, **ZERO_SNR)
    ),
    "HeunDiscreteScheduler": merged(
        betas, sigma_flags, clipping, options(prediction_type=EPSILON_OR_V, **LEADING_OFFSET)
    ),
    "KDPM2DiscreteScheduler": merged(
        betas, sigma_flags, options(prediction_type=EPSILON_OR_V, **LEADING_OFFSET)
    ),
    "KDPM2AncestralDiscreteScheduler": merged(
        betas, sigma_flags, options(prediction_type=EPSILON_OR_V, **LEADING_OFFSET)
    ),
    "LMSDiscreteScheduler": merged(
        betas, sigma_flags, options(prediction_type=ANY_PREDICTION, **LEADING_OFFSET)
    ),
    "DEISMultistepScheduler": merged(
        betas,
        sigma_flags,
        thresholding,
        options(
            solver_order=orders, prediction_type=ANY_OR_FLOW, lower_order_final=booleans, **LEADING_OFFSET
        ),
    ),
    "UniPCMultistepScheduler": merged(
        betas,
        sigma_flags,
        thresholding,
        options(
            solver_order=orders,
            prediction_type=ANY_OR_FLOW,
            predict_x0=booleans,
            solver_type=st.sampled_from(("bh1", "bh2")),
            lower_order_final=booleans,
            disable_corrector=st.sampled_from(([], [0], [1, 2])),
            final_sigmas_type=finals,
            **LEADING_OFFSET,
            **ZERO_SNR,
        ),
    ),
    "LCMScheduler": merged(
        betas,
        clipping,
        thresholding,
        options(prediction_type=ANY_PREDICTION, timestep_scaling=st.sampled_from((1.0, 10.0)), **ZERO_SNR),
    ),
    "TCDScheduler": merged(betas, clipping, options(prediction_type=ANY_PREDICTION, **ZERO_SNR)),
    "EDMEulerScheduler": options(
        sigma_schedule=st.sampled_from(("karras", "exponential")),
        prediction_type=EPSILON_OR_V,
        final_sigmas_type=finals,
    ),
    "EDMDPMSolverMultistepScheduler": merged(
        thresholding,
        options(
            sigma_schedule=st.sampled_from(("karras", "exponential")),
            solver_order=orders,
            prediction_type=EPSILON_OR_V,
            algorithm_type=st.sampled_from(("dpmsolver++", "sde-dpmsolver++")),
            solver_type=st.sampled_from(("midpoint", "heun")),
            lower_order_final=booleans,
            euler_at_final=booleans,
            final_sigmas_type=finals,
        ),
    ),
    "SASolverScheduler": merged(
        betas,
        sigma_flags,
        thresholding,
        options(
            predictor_order=orders,
            corrector_order=orders,
            prediction_type=ANY_OR_FLOW,
            algorithm_type=st.sampled_from(("data_prediction", "noise_prediction")),
            lower_order_final=booleans,
            **LEADING_OFFSET,
        ),
    ),
    "FlowMatchEulerDiscreteScheduler": merged(
        sigma_flags, options(stochastic_sampling=booleans, invert_sigmas=booleans, **FLOW)
    ),
    "FlowMatchHeunDiscreteScheduler": options(shift=FLOW["shift"]),
    "FlowMatchLCMScheduler": merged(sigma_flags, options(**FLOW)),
    "IPNDMScheduler": st.just({}),
    "DDPMParallelScheduler": merged(
        betas, clipping, options(prediction_type=ANY_PREDICTION, **LEADING_OFFSET)
    ),
    "DDIMParallelScheduler": merged(
        betas, clipping, options(prediction_type=ANY_PREDICTION, **LEADING_OFFSET)
    ),
    "DDIMInverseScheduler": merged(betas, clipping, options(prediction_type=ANY_PREDICTION)),
    "UnCLIPScheduler": merged(clipping, options(prediction_type=st.sampled_from(("epsilon", "sample")))),
    "CMStochasticIterativeScheduler": st.just({}),
}
"""Which settings each scheduler may have."""
KINDS = tuple(sorted(kind for kind in SETTINGS if hasattr(diffusers, kind)))
"""Those that the installed diffusers has."""


def _fewest_steps(kind: str, settings: Mapping[str, Any]) -> int:
    if kind == "PNDMScheduler" and not settings.get("skip_prk_steps"):
        return 4  # the Runge-Kutta warm-up needs the steps that it warms up with
    if kind == "UnCLIPScheduler" or settings.get("shift_terminal") is not None:
        return 2  # they divide by the number of intervals
    return 1


@st.composite
def samplers(draw: st.DrawFn, most_steps: int = 6) -> Sampler:
    """Draw a scheduler, its settings and up to `most_steps` steps."""
    kind = draw(st.sampled_from(KINDS))
    known = inspect.signature(getattr(diffusers, kind)).parameters
    settings = {name: value for name, value in _runnable(draw(SETTINGS[kind])).items() if name in known}
    sampler = Sampler(kind, draw(st.integers(_fewest_steps(kind, settings), most_steps)), settings)
    # Sigmas that round to one timestep: diffusers starts at the second of them and runs out of sigmas.
    assume(bool((sampler.levels[1:] != sampler.levels[0]).all()))
    return sampler
