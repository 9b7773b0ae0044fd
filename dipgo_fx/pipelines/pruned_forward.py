"""What stands in for the `forward` of a pipeline's denoiser, and runs it as a plan says."""

from __future__ import annotations

import functools
import logging
import threading
import types
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ..deriving import at_steps, from_start, with_timesteps
from ..errors import PlanError
from ..passes import GateTable
from ..passes.forward_slot import StandIn
from ..passes.steer_calls import mixture
from ..passes.step_graphs import Step, StepKind, steps_of
from ..plan import Plan
from .call_arguments import CallArguments
from .denoiser import refuse_caches
from .graphs import Graphs, Values, check_blocks
from .lanes import Lane, Mixer, run_halves
from .step_clock import StepClock
from .step_watcher import StepWatcher, conditional

SAME_LEVEL = 0.01
"""Timesteps that differ by less than this share of the first one count as the same."""
logger = logging.getLogger(__name__)


@dataclass
class PipelineRun:
    """What the denoisers of an enabled pipeline share: where its run is, and whose."""

    pipe: Any
    clock: StepClock = field(default_factory=StepClock)
    forwards: list[PrunedForward] = field(default_factory=list)
    thread: int = 0
    watcher: StepWatcher = field(init=False)

    def __post_init__(self) -> None:
        """Watch the scheduler of the pipeline."""
        self.watcher = StepWatcher(self.pipe)


@dataclass(frozen=True)
class _FirstCall:
    """A call of the model at the first step: rows, what follows by each table of the plan, what it saved.

    `prediction` is what the model predicted, where the plan steers its calls or has conditions apart;
    `arguments` are those of the call, in the latter case.
    """

    rows: int
    steps: list[tuple[Step, ...]]
    values: Values
    prediction: torch.Tensor | None
    arguments: CallArguments | None


class PrunedForward(StandIn):
    """Stands in for the `forward` of a pipeline's denoiser and runs it as a plan says.

    Attributes:
        plan: the plan of the run at hand or, before the first, the one that was enabled.
        graphs: what was traced and compiled so far.

    Example:
        >>> from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
        >>> small = {"sample_size": 8, "block_out_channels": (8, 8), "norm_num_groups": 4}
        >>> kinds = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
        >>> pipe = DDIMPipeline(UNet2DModel(**small, **kinds), DDIMScheduler())
        >>> loop = dipgo_fx.trace(pipe.unet, pipe.scheduler, num_inference_steps=4)
        >>> keep = torch.ones(4, len(loop.blocks), dtype=torch.bool)
        >>> keep[1::2] = False
        >>> plan = dipgo_fx.Plan.from_keep(loop, keep)  # or one that prune_pipeline found

        >>> pipe.set_progress_bar_config(disable=True)
        >>> forward = dipgo_fx.enable(pipe, plan)
        >>> image = pipe(num_inference_steps=4).images[0]
        >>> forward.plan == plan, forward.bytes_held()  # after each step
        (True, [768, 0, 768, 0])
    """

    def __init__(self, run: PipelineRun, model: nn.Module, plan: Plan, graphs: Graphs) -> None:
        self.plan, self.graphs = plan, graphs
        self._run, self._enabled = run, plan
        self._run_number = 0  # of the run at hand
        self._offset = 0  # the step of the scheduler that is the plan's first: a strength leaves some out
        self._start = 0  # the step at which this denoiser's turn began
        self._first_step = 0  # that runs: before it the sample stands for predictions
        self._step, self._call = 0, 0  # the step at hand, and the call within it
        self._has_turn = False
        self._placed: dict[tuple[tuple[float, ...], int], Plan] = {}  # by timesteps, and where a run starts
        self._first_calls: list[_FirstCall] = []
        self._lanes: list[Lane] = []  # in the order in which calls of a step take them
        self._halves: list[Lane] = []  # by rows, where one call holds both conditions
        # Pipelines may read the signature of `forward`.
        functools.update_wrapper(self, types.MethodType(type(model).forward, model))

    # A model that is compiled afterwards would have each line of it compiled.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model returns, computed as far as the plan says."""
        arguments = CallArguments.of(self.graphs.model, args, kwargs)
        clock, scheduler = self._run.clock, self._run.pipe.scheduler
        if clock.is_within_run(scheduler) and self._run.thread != threading.get_ident():
            raise RuntimeError(
                "another thread calls the model in the middle of a run: one run at a time is served"
            )
        with torch.no_grad():
            if clock.tick(scheduler, arguments.timestep, getattr(self._run.pipe, "num_timesteps", None)):
                self._run.thread = threading.get_ident()
            if self._run_number != clock.runs or not self._has_turn:
                self._begin(clock)
            is_first = self._step != clock.step
            self._call = 0 if is_first else self._call + 1
            self._step = clock.step
            if is_first and clock.step > self._start and self._run.watcher.is_watching:
                self._run.watcher.leave()
                raise RuntimeError(
                    "the model is called for a second step, but the scheduler of the enabled pipeline was "
                    "not stepped: another pipeline has the same model. Enable that one, or disable this one"
                )
            if self._step - self._offset == len(self.plan.timesteps):
                raise RuntimeError(
                    f"the pipeline goes on after the {len(self.plan.timesteps)} steps that it said it runs: "
                    "dipgo_fx.disable(pipe) runs it unpruned"
                )
            steering = self.plan.steering
            if steering is not None and steering.tells:
                arguments = arguments.told(steering.told[self._step - self._offset].item())
            if self._step < self._first_step:
                return self._sample_alone(arguments)
            if self._step == self._first_step:
                return self._run_first(arguments)
            if steering is None and bool(self.plan.table.keep.all()):  # nothing is kept, so rows may change
                return self.graphs.run(arguments, StepKind((), ()), (), ())[0]
            return self._run_step(arguments)

    def leave(self) -> None:
        """Leave the pipeline's scheduler as it was found, in the middle of a run too."""
        self._run.watcher.leave()

    def bytes_held(self) -> list[int]:
        """Return for each step of the last run how many bytes of earlier steps were held after it."""
        held = [0] * (len(self._run.clock.levels) - self._run.clock.start)
        of_run = (forward for forward in self._run.forwards if forward._run_number == self._run.clock.runs)
        for forward in of_run:
            for lane in forward._lanes:
                for step, count in enumerate(lane.bytes_held, forward._first_step - self._run.clock.start):
                    held[step] += count
        return held

    # -- one run

    def _begin(self, clock: StepClock) -> None:
        """Forget the run before, and choose the plan of this one by its number of steps."""
        self._run_number, self._offset = clock.runs, clock.start
        self._start, self._step = clock.step, -1
        self._lanes, self._halves, self._first_calls = [], [], []
        if clock.step > clock.start:  # this denoiser takes the place of another
            for forward in self._run.forwards:
                forward._end_turn(clock)
        self._has_turn = True
        self.graphs.forget_outdated()
        refuse_caches(self.graphs.model)
        check_scheduler(self._run.pipe, self._enabled)
        # A run that ends before the scheduler's last timestep is a part of the plan's loop, or as long as it.
        run = clock.levels if _are_those(clock.levels, self._enabled) else clock.walked, clock.start
        if run not in self._placed:
            self._placed[run] = from_start(_for_levels(self._enabled, run[0]), clock.start)
        self.plan = self._placed[run]
        steering = self.plan.steering
        # A run that leaves steps out starts from other samples than noise: no sample stands for a prediction.
        self._first_step = self._start if steering is None or self._start else steering.first
        if self.plan.facts.guidance.split:
            self._check_shares_no_step(clock)
        if self.plan.facts.guidance.split or not clock.set_anew:
            self._run.watcher.watch()

    def _check_shares_no_step(self, clock: StepClock) -> None:
        """Raise `RuntimeError` if another denoiser began at this very step: whose condition is whose?"""
        others = [forward for forward in self._run.forwards if forward is not self]
        if any(other._run_number == clock.runs and other._start == clock.step for other in others):
            raise RuntimeError(
                "this plan has the conditions of guidance apart, and two denoisers of the pipeline share a "
                "step: search it with split_guidance=False"
            )

    def _end_turn(self, clock: StepClock) -> None:
        """Hold nothing for later steps unless they began this very step; called again, it begins anew."""
        if self._step < clock.step and self._run_number == clock.runs:
            self._has_turn, self._first_calls = False, []
            for lane in self._lanes:
                lane.let_go()

    def _run_first(self, arguments: CallArguments) -> Any:
        """Run all of the model, at the first step."""
        call = self.graphs.call(arguments)
        check_blocks(call, self.plan.facts)
        first = self._first_step - self._offset
        tables = [table.from_step(first) for table in _table_of_each_call(self.plan)]
        steps = [steps_of(call, table) for table in tables]
        saved = sorted({output for of_table in steps for output in of_table[0].kind.saved})
        seen: list[torch.Tensor] = []

        def noted(prediction: torch.Tensor) -> torch.Tensor:
            seen.append(prediction)
            return prediction

        result, values = self.graphs.run(arguments, StepKind((), tuple(saved)), (), (), noted)
        is_split = self.plan.facts.guidance.split
        if is_split and not self._first_calls and not self._run.watcher.is_watching:
            self._run.watcher.watch()  # steps before this one made their predictions of the sample
        prediction = seen[0] if is_split or self.plan.steering is not None else None
        own = arguments if is_split else None
        self._first_calls.append(_FirstCall(arguments.rows, steps, values, prediction, own))
        return result

    def _sample_alone(self, arguments: CallArguments) -> Any:
        """Return what stands for the prediction before the first run: some of the sample."""
        call, sample = self.graphs.call(arguments), arguments.tensors[0]
        check_blocks(call, self.plan.facts)
        assert self.plan.steering is not None
        weights = self.plan.steering.of_call(0)[self._step - self._offset]  # those of all calls
        return call.wrapped([mixture(weights, sample, [], call.channels)])

    def _mixer(self, call: int, first: torch.Tensor | None) -> Mixer:
        """Return what mixes the predictions of a call of a step from the first run on."""
        steering = self.plan.steering
        start = self._first_step - self._offset
        return Mixer(None if steering is None else steering.from_step(start).of_call(call), first)

    def _run_step(self, arguments: CallArguments) -> Any:
        if not self._lanes:
            self._open()
            # From here on lanes hold what is still read, and let it go.
            self._first_calls = [
                replace(first, values={}, prediction=None, arguments=None) for first in self._first_calls
            ]
        if self._call >= len(self._lanes):
            raise RuntimeError(
                f"the model is called {self._call + 1} times at step {self._step}, "
                f"{len(self._first_calls)} times at the first: guidance that begins later than the first "
                "step cannot follow a plan"
            )
        index, first = self._step - self._first_step, self._first_calls
        rows = first[min(self._call, len(first) - 1)].rows
        if self._halves and arguments.rows == rows:
            return run_halves(self._halves, index, arguments)
        if arguments.rows != rows and not self._halves:
            raise RuntimeError(
                f"the model got {rows} rows at the first step and {arguments.rows} at step "
                f"{self._step}: guidance that is switched off during a run needs a plan with split_guidance"
            )
        return self._lanes[self._call].run(index, arguments)

    def _open(self) -> None:
        """Make a lane for each condition of guidance that the plan has apart, else for each call."""
        firsts = self._first_calls
        if not self.plan.facts.guidance.split:
            self._lanes = [self._lane(0, first) for first in firsts]
            return
        weights = self._weights_of_conditions()
        is_batched = len(firsts) < len(weights)
        # Of conditions that are the same: stock pipelines mostly have those rows last, but that call first.
        chosen = conditional(weights, 1 if is_batched else 0)
        apart = self._halved(firsts[0]) if is_batched else firsts
        self._lanes = [self._lane(int(number == chosen), first) for number, first in enumerate(apart)]
        if is_batched:
            self._halves = self._lanes
            # Guidance that ends goes on with the conditional rows alone.
            self._lanes = [self._halves[chosen], self._halves[1 - chosen]]

    def _halved(self, first: _FirstCall) -> list[_FirstCall]:
        """Return a call that holds both conditions as one of each."""
        assert first.prediction is not None
        assert first.arguments is not None
        parts = self.graphs.halved(first.arguments, first.values), first.prediction.chunk(2)
        return [replace(first, values=values, prediction=made) for values, made in zip(*parts, strict=True)]

    def _lane(self, table: int, first: _FirstCall) -> Lane:
        """Return what goes on by one of the plan's tables from a call of the first step."""
        return Lane(self.graphs, first.steps[table], first.values, self._mixer(table, first.prediction))

    def _weights_of_conditions(self) -> list[float]:
        """Return the weights of the conditions of guidance at the first step that ran.

        Raises `RuntimeError` for more than two, or for calls with different rows.
        """
        stepped, rows = self._run.watcher.stepped, [first.rows for first in self._first_calls]
        assert stepped is not None  # or there was an error before
        predictions = [first.prediction for first in self._first_calls if first.prediction is not None]
        weights = stepped.weights(predictions) if len({*rows}) == 1 else []
        if len(weights) not in (1, 2):
            raise RuntimeError(
                "this plan has the two conditions of guidance apart, and at each step the pipeline calls its "
                f"model with {' and '.join(map(str, rows))} rows for {len(stepped.sample)} samples: search "
                "it with split_guidance=False"
            )
        return weights


# -- which plan a run follows


def _for_levels(plan: Plan, levels: Sequence[float]) -> Plan:
    """Return the plan for a run with these timesteps: by index if as many, else from the frontier."""
    if len(levels) == len(plan.timesteps):
        if not _are_those(levels, plan):
            logger.warning(
                "the pipeline runs at timesteps %s where the plan was searched at %s: it is followed step by "
                "step, with what was fitted to the others; search with the scheduler's settings, image size "
                "and timesteps that you use",
                _shown(levels),
                _shown(plan.timesteps),
            )
        return plan
    if plan.cost is None or not (plan.frontier or plan.ratio == 0):
        raise PlanError(
            f"this plan is for {len(plan.timesteps)} steps, the pipeline runs {len(levels)}, and the plan "
            "holds no frontier to place at another number: call the pipeline with as many steps, "
            "or search a plan for this one"
        )
    facts = with_timesteps(plan.facts, levels)
    return at_steps(plan, facts, plan.ratio, plan.cost.with_steps(len(levels)))


def _are_those(levels: Sequence[float], plan: Plan) -> bool:
    """Tell whether timesteps are those of a plan, but for what schedulers and devices may round otherwise."""
    return len(levels) == len(plan.timesteps) and all(
        abs(level - own) <= SAME_LEVEL * max(plan.timesteps)
        for level, own in zip(levels, plan.timesteps, strict=True)
    )


def _shown(levels: Sequence[float]) -> str:
    told = ", ".join(f"{level:g}" for level in levels[:4])
    return f"{told}, ..." if len(levels) > 4 else told


def check_scheduler(pipe: Any, plan: Plan) -> None:
    """Raise `PlanError` if a pipeline has a scheduler of another class than the plan's."""
    given = type(pipe.scheduler).__name__
    if given != plan.facts.scheduler:
        raise PlanError(
            f"this plan is for {plan.facts.scheduler}, the pipeline has {given}: give it that scheduler, or "
            "search a plan for this one"
        )


def _table_of_each_call(plan: Plan) -> list[GateTable]:
    """Return the plan's table, or those of the unconditional and the conditional call."""
    calls = len(plan.facts.guidance.calls)
    tables = zip(plan.table.keep.chunk(calls, 1), plan.table.weights.chunk(calls, 1), strict=True)
    return [GateTable(keep, weights) for keep, weights in tables]
