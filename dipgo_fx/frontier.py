"""The frontier of a search: plans for other shares of MACs and other step counts, without a new search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .arguments import check
from .budget import fits
from .cost import LoopCost
from .errors import PlanError
from .passes import HISTORY, GateTable, Steering
from .passes.equality import ComparedByValue
from .passes.gate_table import REPEAT
from .placement import Placement, Runs, nearest_free


@dataclass(frozen=True, eq=False)
class Point(ComparedByValue):
    """A plan of the frontier: which steps make which call of the model whole, and what the others read.

    Attributes:
        runs: see `Runs`.
        weights: `(T, R, 3)`: of the R blocks that the model's predictions read (mostly one per call, the
            output head), which are all that a skipped call reads.
        steering: of its calls; `None` if they are not steered.
    """

    runs: Runs
    weights: torch.Tensor
    steering: Steering | None = None

    def __post_init__(self) -> None:
        """Raise `PlanError` for steps or weights that no point has."""
        for steps in self.runs:
            if not steps or any(type(step) is not int for step in steps):
                raise PlanError(f"steps of the frontier must be whole numbers, got {steps}")
            if steps[0] < 0 or list(steps) != sorted({*steps}):
                raise PlanError(f"steps of the frontier must rise from 0 or above, got {steps}")
        weights = self.weights
        if not self.runs or weights.dim() != 3 or weights.shape[2] != HISTORY:
            raise PlanError(
                f"a point of the frontier must have steps of every call and weights (T, R, {HISTORY}), got "
                f"{len(self.runs)} calls and {tuple(weights.shape)}"
            )
        if not bool(torch.isfinite(weights).all()):
            raise PlanError("weights of the frontier must be finite")
        check("steering of the frontier", self.steering, (Steering, type(None)), "a Steering or None")
        check_steering(self.steering, len(weights), len(self.runs))
        first = 0 if self.steering is None else self.steering.first
        if {steps[0] for steps in self.runs} != {first}:
            raise PlanError(f"steps of the frontier must rise from {first}, got {self.runs}")

    @classmethod
    def of(cls, runs: Runs, table: GateTable, cost: LoopCost, steering: Steering | None = None) -> Point:
        """Return the point of a table that makes `runs` and skips the rest."""
        return cls(runs, table.weights[:, cost.reads.heads], steering)

    def check_fits(self, cost: LoopCost) -> None:
        """Raise `PlanError` unless there are weights of the R blocks that the loop's predictions read."""
        heads, got = len(cost.reads.heads), self.weights.shape[1]
        if got != heads:
            raise PlanError(
                f"weights of the frontier must be of the {heads} blocks that the loop's predictions "
                f"read, got {got}"
            )

    def table(self, cost: LoopCost) -> GateTable:
        """Return the point's gate table."""
        self.check_fits(cost)
        plain = whole_steps_table(cost, self.runs)
        weights, heads = plain.weights.clone(), cost.reads.heads
        weights[:, heads] = torch.where(plain.keep[:, heads, None], weights[:, heads], self.weights)
        return GateTable(plain.keep, weights)


def check_steering(steering: Steering | None, steps: int, calls: int) -> None:
    """Raise `PlanError` for a steering of another number of steps or of calls of a step."""
    if steering is not None and tuple(steering.mix.shape[:2]) != (steps, calls):
        raise PlanError(
            f"steering must be of {steps} steps and {calls} calls, got {tuple(steering.mix.shape[:2])}"
        )


def whole_steps_table(cost: LoopCost, runs: Runs) -> GateTable:
    """Return the linear table that makes each call at its steps and nothing at the others."""
    return GateTable.of(Placement(runs).keep(cost), "linear")


def best_within(points: Sequence[Point], cost: LoopCost, kept: float) -> Point | None:
    """Return the dearest point that keeps at most `kept` of the MACs, `None` if there is none.

    A frontier holds no point that is both dearer and worse, so it is the best one too.
    """
    affordable = [p for p in points if fits(cost, Placement(p.runs).keep(cost), kept, HISTORY)]
    return affordable[-1] if affordable else None


def at_timesteps(
    points: Sequence[Point], old: Sequence[float], new: Sequence[float], cost: LoopCost
) -> tuple[Point, ...]:
    """Return the frontier for a loop with other timesteps: the same evaluations, placed by noise level.

    Points of more steps than were fitted extrapolate linearly.

    Args:
        points: made for the timesteps `old`, at least one.
        old: noise levels of the steps of the loop that was searched, falling.
        new: those of the loop to run.
        cost: of the loop to run.
    """
    placed = [_placed(point, old, new) for point in points if len(point.runs[-1]) < len(new)]
    top = points[-1].runs
    more = (_denser(top, len(old), len(new), count) for count in range(len(top[-1]) + 1, len(new)))
    return (*placed, *(Point.of(runs, whole_steps_table(cost, runs), cost) for runs in more))


def _placed(point: Point, old: Sequence[float], new: Sequence[float]) -> Point:
    every = sorted({step for steps in point.runs for step in steps})
    levels = [new[0] if step == 0 else old[step] for step in every]  # the start is the start
    place = dict(zip(every, _nearest_steps(levels, new), strict=True))
    runs = tuple(tuple(place[step] for step in steps) for steps in point.runs)
    heads = zip(point.weights.chunk(len(runs), 1), point.runs, runs, strict=True)
    repeat = torch.tensor(REPEAT, dtype=torch.float64)
    placed = [_interpolated(weights, repeat, before, after, old, new) for weights, before, after in heads]
    steering = None
    if point.steering is not None:
        steering = _placed_steering(point.steering, point.runs, runs, place, old, new)
    return Point(runs, torch.cat(placed, 1), steering)


def _placed_steering(
    steering: Steering,
    before: Runs,
    after: Runs,
    place: Mapping[int, int],
    old: Sequence[float],
    new: Sequence[float],
) -> Steering:
    """Return a steering for other timesteps.

    A running step is told as much more or less as before. The share of the sample in forecasts goes with
    their weights, by noise level. Mixtures of running steps make up for steps between, which are others now,
    and are left out.
    """
    told = torch.ones(len(new), dtype=torch.float64)
    for step, placed in place.items():
        told[placed] = steering.told[step]
    calls = zip(steering.mix[:, :, None, :1].unbind(1), before, after, strict=True)
    nothing = torch.zeros(1, dtype=torch.float64)
    carry = [_interpolated(share, nothing, start, end, old, new) for share, start, end in calls]
    first = after[0][0]
    mix = Steering.neutral(len(new), len(after), first).mix
    mix[first:, :, :1] = torch.cat(carry, 1)[first:]
    for step in range(first):
        mix[step, :, 0] = steering.mix[min(_nearest(new[step], old), steering.first - 1), :, 0]
    return Steering(told, mix)


def _interpolated(
    weights: torch.Tensor,
    at_runs: torch.Tensor,
    before: tuple[int, ...],
    after: tuple[int, ...],
    old: Sequence[float],
    new: Sequence[float],
) -> torch.Tensor:
    """Return weights `(T, R, K)` of a call, read off at the noise levels of a loop with other steps.

    Those of the steps that run, `after`, are `at_runs`.
    """
    placed = at_runs.expand(len(new), *weights.shape[1:]).clone()
    ends = zip(before, [*before[1:], len(old)], after, [*after[1:], len(new)], strict=True)
    for start, stop, new_start, new_stop in ends:
        known = weights[start:stop].clone()
        known[0] = at_runs
        levels = [-old[t] for t in range(start, stop)]
        wanted = [-new[t] for t in range(new_start + 1, new_stop)]
        read = [np.interp(wanted, levels, column) for column in known.flatten(1).T.numpy()]
        rows = torch.from_numpy(np.stack(read, 1))
        placed[new_start + 1 : new_stop] = rows.view(-1, *known.shape[1:])
    return placed


def _denser(top: Runs, old: int, new: int, count: int) -> Runs:
    """Return runs of `count` of `new` steps whose density follows that of `top`, of `old` steps."""
    conditional: tuple[int, ...] | None = None
    made: list[tuple[int, ...]] = []
    for steps in reversed(top):
        wanted = max(1, round(count * len(steps) / len(top[-1])))
        known = [index / len(steps) for index in range(len(steps) + 1)]
        places = [*(step / old for step in steps), 1.0]
        quantiles = np.interp([index / wanted for index in range(1, wanted)], known, places)
        made.append(nearest_free([0, *(quantiles * new).tolist()], conditional or range(new)))
        conditional = made[0]
    return tuple(reversed(made))


def _nearest_steps(levels: Sequence[float], new: Sequence[float]) -> tuple[int, ...]:
    """Return the steps whose noise levels are nearest to `levels`."""
    return nearest_free([_nearest(level, new) for level in levels], range(len(new)))


def _nearest(level: float, new: Sequence[float]) -> int:
    return min(range(len(new)), key=lambda t: abs(new[t] - level))
