"""What one gate of a plan does and why, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from numbers import Integral

import torch

from .arguments import check
from .passes import GateTable
from .passes.gate_table import last_kept, terms
from .passes.liveness import Liveness, StepReads
from .passes.steering import NEUTRAL
from .plan import Plan
from .states import State, states_of

SHOWN = 6
"""How many names or steps a sentence lists at most."""
MIXED = ("the sample", "its own prediction", "that of a step earlier", "that of two steps earlier")
"""What the four entries of a mixture are shares of, see `Steering`."""
READER = {
    State.RUNS: "runs",
    State.DEAD: "dead too",
    State.REPEATS: "closed, repeats",
    State.FORECASTS: "closed, forecasts",
}
UNKNOWN = (
    "Who reads it is not known, so neither is whether it runs: this plan does not say who reads whom (files "
    "of format 3). dipgo_fx.apply it to its model and explain the plan of the loop that comes back."
)


def explain(plan: Plan, step: int, block: str | int) -> str:
    """Return what happens to a block at a step of a plan, and why, in a few lines.

    It runs, and for whom; or its gate is closed, and what its readers take instead: steps, weights, and
    whether those repeat, are linear or were fitted; or nobody reads it, and what became of its readers. Where
    calls are steered, also what the model is told at that step and what is mixed into its prediction.

    Args:
        plan: any plan; one from a file of format 3 cannot tell who reads whom, and says so.
        step: index of the step, 0 to T - 1.
        block: name of the block as in `plan.blocks`, or its index there, 0 to N - 1.

    Raises:
        TypeError: an argument of another kind, by name.
        ValueError: a step or a block that the plan does not have; names those that it has.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> loop = dipgo_fx.trace(*load("dit"), num_inference_steps=4)
        >>> keep = torch.ones(4, len(loop.blocks), dtype=torch.bool)
        >>> keep[2] = False
        >>> plan = dipgo_fx.Plan.from_keep(loop, keep, backup="linear")
        >>> print(dipgo_fx.explain(plan, 2, "proj_out_2"))
        'proj_out_2' at step 2 (timestep 250)
        It does not run: its gate is closed, and its readers take a sum of its earlier values:
        2 of step 1, -1 of step 0 (linear).
        Read at this step by the prediction.
    """
    check("plan", plan, Plan, "a dipgo_fx.Plan, as Plan.load() returns it")
    check("step", step, Integral, "a whole number, the index of a step")
    gate = _Gate(plan, _checked(step, len(plan.timesteps), "step"), _number(plan, block))
    name, level = plan.blocks[gate.block], plan.timesteps[gate.step]
    return "\n".join([f"{name!r} at step {gate.step} (timestep {level:g})", *gate.sentences()])


@dataclass(frozen=True)
class _Gate:
    """One gate of a plan, and all that its sentences are made of."""

    plan: Plan
    step: int
    block: int

    def sentences(self) -> Iterator[str]:
        """Yield what becomes of the block, for whom or for want of whom, and how its call is steered."""
        if self.step < self.plan.table.first:
            yield self._before_the_first_call()
            return
        state = self.state
        if state is None:
            yield from (
                "Its gate is open." if self.is_open else f"Its gate is closed: {self._backup()}",
                UNKNOWN,
            )
        elif state == State.RUNS:
            yield f"It runs: {self._share():.2%} of the MACs of the unpruned loop."
            yield from self._readers()
        elif state == State.DEAD:
            yield f"It does not run: its gate is {'open' if self.is_open else 'closed'}, but nobody reads it."
            yield from self._dead_readers()
        else:
            yield f"It does not run: its gate is closed, and {self._backup()}"
            yield from self._readers()
        yield from self._steering()

    # -- what becomes of it

    @property
    def is_open(self) -> bool:
        return self.plan.table.keep_rows[self.step][self.block]

    @cached_property
    def _alive(self) -> tuple[StepReads, Liveness] | None:
        cost = self.plan.cost
        return None if cost is None else (cost.reads, cost.reads.liveness(self.plan.table))

    @cached_property
    def _states(self) -> list[list[int]]:
        assert self._alive is not None
        states: list[list[int]] = states_of(self.plan.table, self._alive[1]).tolist()
        return states

    @property
    def state(self) -> State | None:
        """What becomes of the block, `None` if the plan does not know."""
        return None if self._alive is None else State(self._states[self.step][self.block])

    def _share(self) -> float:
        cost = self.plan.cost
        assert cost is not None
        return cost.units[self.block].total / cost.full.total

    # -- what a closed gate reads

    @cached_property
    def _kept_before(self) -> list[list[tuple[int, ...]]]:
        return last_kept(self.plan.table.keep_rows)

    def _read_at(self, step: int) -> dict[int, float]:
        """Return which steps' values the block's backup at a step is made of, and how much of each."""
        weights = self.plan.table.weight_rows[step][self.block]
        read: dict[int, float] = {}
        for k, weight in terms(weights, len(weights)):
            source = self._kept_before[step][self.block][k]
            read[source] = read.get(source, 0.0) + weight
        return read

    def _backup(self) -> str:
        read = self._read_at(self.step)
        kind = _kind(self.plan.table, self.step, self.block)
        if kind == "repeat":
            return f"its readers take its value of step {next(iter(read))} as it is (repeat)."
        parts = ", ".join(f"{weight:.4g} of step {step}" for step, weight in read.items())
        return f"its readers take a sum of its earlier values: {parts} ({kind})."

    # -- who reads it

    def _readers(self) -> Iterator[str]:
        """Yield who reads the block's output at its step, and who reads its value later."""
        assert self._alive is not None
        reads, live = self._alive
        units = [unit for unit in _readers_of(reads, self.block) if live.runs(self.step, unit)]
        now = [*self._named(units), *(["the prediction"] if self.block in reads.output else [])]
        later = [
            step
            for step in range(self.step + 1, len(self.plan.timesteps))
            if live.reads_backup(step, self.block) and self.step in self._read_at(step)
        ]
        yield f"Read at this step by {_listed(now)}." if now else "Nobody reads it at this step itself."
        if later:
            steps = "step" if len(later) == 1 else "steps"
            yield f"Read later by its own closed gate at {steps} {_listed(later)}."

    def _dead_readers(self) -> Iterator[str]:
        """Yield what became of a dead block's readers, and which closed gates between it and the output."""
        assert self._alive is not None
        reads, live = self._alive
        units = _readers_of(reads, self.block)
        if not units:
            yield "Nothing in the model reads it at any step."
            return
        yield f"Its readers: {_listed(self._named(units, with_states=True))}."
        causes = [unit for unit in _all_readers_of(reads, self.block) if self._is_read_closed(live, unit)]
        if causes and {*causes} != {*units}:
            yield f"What it leads to ends at closed gates: {_listed(self._named(causes))}."

    def _is_read_closed(self, live: Liveness, unit: int) -> bool:
        return unit < live.num_blocks and live.reads_backup(self.step, unit)

    def _named(self, units: Sequence[int], with_states: bool = False) -> list[str]:
        """Return the names of the blocks among units, and how many of them are none."""
        row = self._states[self.step]
        blocks = [unit for unit in units if unit < len(row)]
        names = [
            f"{self.plan.blocks[n]!r}" + (f" ({READER[State(row[n])]})" if with_states else "")
            for n in blocks
        ]
        others = len(units) - len(blocks)
        calls = f"{others} call{'s' if others > 1 else ''} outside the blocks"
        return [*names, calls] if others else names

    # -- how its call is steered

    @property
    def _call(self) -> int:
        calls = len(self.plan.facts.guidance.calls)
        return self.block // (len(self.plan.blocks) // calls)

    def _before_the_first_call(self) -> str:
        steering, first = self.plan.steering, self.plan.table.first
        assert steering is not None
        share = steering.mix[self.step, self._call, 0].item()
        return (
            f"The model is not called before step {first}: {share:.4g} of the sample stands for its "
            "prediction."
        )

    def _steering(self) -> Iterator[str]:
        steering = self.plan.steering
        if steering is None:
            return
        told, mix = steering.told[self.step].item(), tuple(steering.of_call(self._call)[self.step])
        if told != 1 and self._something_runs():
            yield f"Steered: at this step the model is told {told:.6g} times the timestep."
        if mix != NEUTRAL:
            shares = [f"{part:.4g} of {what}" for part, what in zip(mix, MIXED, strict=True) if part]
            yield f"Steered: the prediction of {self._call_name()} is {', '.join(shares) or 'nothing'}."

    def _something_runs(self) -> bool:
        """Tell whether anything of the model runs at the step, as far as the plan knows."""
        if self._alive is None:
            return any(self.plan.table.keep_rows[self.step])
        reads, live = self._alive
        return any(live.runs(self.step, unit) for unit in reads.order)

    def _call_name(self) -> str:
        guidance = self.plan.facts.guidance
        return f"the {guidance.calls[self._call] or 'conditional'} call" if guidance.split else "the call"


def _kind(table: GateTable, step: int, block: int) -> str:
    """Return what the weights of a closed gate are: repeat, linear or fitted."""
    if bool(table.repeats[step, block]):
        return "repeat"
    linear = GateTable.of(table.keep, "linear").weights[step, block]
    return "linear" if torch.allclose(table.weights[step, block], linear, rtol=1e-6, atol=0) else "fitted"


def _readers_of(reads: StepReads, unit: int) -> list[int]:
    """Return the units that read a unit, in the order in which they are called."""
    return [other for other in reads.order if unit in reads.reads[other]]


def _all_readers_of(reads: StepReads, unit: int) -> list[int]:
    """Return the units that read a unit, over whatever others, in the order in which they are called."""
    found = {unit}
    for other in reads.order:
        if not found.isdisjoint(reads.reads[other]):
            found.add(other)
    return [other for other in reads.order if other in found and other != unit]


def _number(plan: Plan, block: object) -> int:
    """Return the index of a block that is given by name or by index."""
    if not isinstance(block, str):
        check("block", block, Integral, "the name of a block or its index")
        return _checked(block, len(plan.blocks), "block")
    if block not in plan.blocks:
        near = get_close_matches(block, plan.blocks, SHOWN, 0.0)
        raise ValueError(
            f"block must be one of the {len(plan.blocks)} of plan.blocks, such as {near}, got {block!r}"
        )
    return plan.blocks.index(block)


def _checked(index: object, count: int, name: str) -> int:
    number = int(index)  # type: ignore[call-overload]
    if not 0 <= number < count:
        raise ValueError(f"{name} must lie in 0 to {count - 1}, this plan has {count} {name}s, got {number}")
    return int(number)


def _listed(items: Sequence[object]) -> str:
    """Return items for a sentence: all of a few, the first of many."""
    shown = ", ".join(map(str, items[:SHOWN]))
    return shown if len(items) <= SHOWN else f"{shown} and {len(items) - SHOWN} more"
