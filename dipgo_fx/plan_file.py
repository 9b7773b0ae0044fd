"""Plans as JSON: what a file holds, and how files of this format and the one before are read.

Format 5 is an object of

* `format`: 5;
* `facts`: the fields of `LoopFacts`, with `guidance` as an object of `scale` and `split`;
* `ratio`: a number in [0, 1);
* `keep`: T texts of N characters, `1` where a gate is open;
* `weights`: T lists of N lists of three numbers; `scores`: T lists of N numbers, or null;
* `steering`: `{"told": T numbers, "mix": T x C x 4}`, or null;
* `frontier`: a list of `{"runs": lists of steps, one per model call, "weights": T x R x 3, "steering"}`;
* `cost`: `reads`, `output` and `order` of `StepReads`, and `units`, `fixed` and `full` of `LoopCost` as
  pairs of all MACs and attention's; or null;
* `origin`: an object of plain values.

Format 4 has no `steering`. Format 3 has `rungs` for `frontier`, `guidance_scale` and `split_guidance` among
the facts, and no `cost`. How much of all that a file may hold is in `plan_schema`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from .cost import LoopCost
from .errors import PlanError
from .frontier import Point
from .guidance import Guidance
from .loop import LoopFacts
from .macs import Cost
from .passes import GateTable, Steering
from .passes.liveness import StepReads
from .plan_schema import MAX_BYTES, check_keys, check_values, parsed, shown

NAME = "plan.json"
FORMAT = 5


def written(plan: Mapping[str, Any]) -> str:
    """Return the file of a plan, given by its fields. Raises `PlanError` if it could not be read again."""
    table, cost, scores = plan["table"], plan["cost"], plan["scores"]
    values = {
        "format": FORMAT,
        "facts": asdict(plan["facts"]),
        "ratio": plan["ratio"],
        "keep": ["".join("01"[kept] for kept in row) for row in table.keep_rows],
        "weights": table.weight_rows,
        "scores": None if scores is None else scores.tolist(),
        "steering": _steering_values(plan["steering"]),
        "frontier": [
            {"runs": p.runs, "weights": p.weights.tolist(), "steering": _steering_values(p.steering)}
            for p in plan["frontier"]
        ],
        "cost": None if cost is None else _cost_values(cost),
        "origin": plan["origin"],
    }
    text = json.dumps(values, indent=1) + "\n"
    try:
        _checked(text.encode())
    except PlanError as error:
        raise PlanError(f"this plan would not be read again: {error}") from error
    return text


def write(file: Path, text: str) -> None:
    """Write a file whole or not at all: a draft beside it is synced and renamed. A device is written to."""
    file = file.resolve()  # what a link stands for
    if file.exists() and not file.is_file():
        file.write_text(text, encoding="utf-8")
        return
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if file.exists():
            shutil.copymode(file, draft)
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def read(file: str | Path) -> dict[str, Any]:
    """Return the fields of the plan in a file. Raises `PlanError` naming a file that is damaged."""
    with Path(file).open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)  # a size that the system tells may be wrong: devices have none
    try:
        return _fields(_checked(content))
    except ValueError as error:  # a PlanError, or what a gate table or a steering objects to
        raise PlanError(f"{file}: {error}") from error


def _checked(content: bytes) -> dict[str, Any]:
    """Return the values of a file of any format as those of this one, each of its kind and size."""
    values: dict[str, Any] = parsed(content)
    check_keys(values)
    if values["format"] == 3:
        values = _from_format_3(values)
    if values["format"] == 4:
        values = _from_format_4(values)
    check_values(values)
    return values


def _fields(values: dict[str, Any]) -> dict[str, Any]:
    facts, cost, scores = _facts(values["facts"]), values["cost"], values["scores"]
    keep = torch.tensor([[char == "1" for char in row] for row in values["keep"]])
    return {
        "facts": facts,
        "table": GateTable(keep, torch.tensor(values["weights"], dtype=torch.float64)),
        "ratio": float(values["ratio"]),
        "scores": None if scores is None else torch.tensor(scores, dtype=torch.float64),
        "frontier": tuple(_point(point) for point in values["frontier"]),
        "cost": None if cost is None else _cost(cost, facts),
        "origin": values["origin"],
        "steering": _steering(values["steering"]),
    }


def _from_format_3(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a file of format 3 as those of format 4."""
    facts = dict(values["facts"])
    guidance = {"scale": facts.pop("guidance_scale"), "split": facts.pop("split_guidance")}
    old = {key: value for key, value in values.items() if key != "rungs"}
    return {
        **old,
        "format": 4,
        "facts": {**facts, "guidance": guidance},
        "frontier": values["rungs"],
        "cost": None,
    }


def _from_format_4(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a file of format 4, which steers nothing, as those of format 5."""
    frontier = [{**point, "steering": None} for point in values["frontier"]]
    return {**values, "format": FORMAT, "frontier": frontier, "steering": None}


def _steering_values(steering: Steering | None) -> Any:
    return None if steering is None else {"told": steering.told.tolist(), "mix": steering.mix.tolist()}


def _steering(values: Any) -> Steering | None:
    if values is None:
        return None
    told, mix = (torch.tensor(values[name], dtype=torch.float64) for name in ("told", "mix"))
    return Steering(told, mix)


def _facts(values: dict[str, Any]) -> LoopFacts:
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return LoopFacts(**{**given, "guidance": Guidance(**given["guidance"])})


def is_plain(value: Any) -> bool:
    """Tell whether a value comes back from JSON as it is."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False


def _point(values: dict[str, Any]) -> Point:
    runs = tuple(tuple(of_call) for of_call in values["runs"])
    weights = torch.tensor(values["weights"], dtype=torch.float64)
    return Point(runs, weights, _steering(values["steering"]))


def _cost_values(cost: LoopCost) -> dict[str, Any]:
    reads = {key: value for key, value in asdict(cost.reads).items() if key != "num_blocks"}
    units = [[unit.total, unit.attention] for unit in cost.units]
    fixed, full = cost.fixed, cost.full
    return {
        **reads,
        "units": units,
        "fixed": [fixed.total, fixed.attention],
        "full": [full.total, full.attention],
    }


def _cost(values: dict[str, Any], facts: LoopFacts) -> LoopCost:
    units = tuple(_macs(pair) for pair in values["units"])
    number, blocks = len(units), len(facts.blocks)
    reads = tuple(_units(read, number) for read in values["reads"])
    order = _units(values["order"], number)
    places = {unit: place for place, unit in enumerate(order)}
    if blocks > number or len(reads) != number or sorted(order) != list(range(number)):
        raise PlanError(f"cost must have {blocks} blocks or more units, each with its reads and in the order")
    if any(places[read] >= places[unit] for unit in order for read in reads[unit]):
        raise PlanError("a unit of cost must come after those it reads")
    full, output = _macs(values["full"]), _units(values["output"], number)
    if not full.total or not output:
        raise PlanError("cost of a loop must be above 0, and its predictions must read a unit")
    cost = LoopCost(
        StepReads(blocks, reads, output, order),
        units,
        _macs(values["fixed"]),
        full,
        len(facts.timesteps),
        len(facts.guidance.calls),
    )
    if cost.with_steps(cost.num_steps) != cost:
        raise PlanError(
            "the MACs of the whole loop must be those of its units at each step and the fixed ones"
        )
    return cost


def _units(values: Any, number: int) -> tuple[int, ...]:
    """Return distinct numbers of units."""
    units = tuple(values)
    if any(type(unit) is not int or not 0 <= unit < number for unit in units) or len({*units}) < len(units):
        raise PlanError(f"units of cost must be distinct numbers from 0 to {number - 1}, got {shown(units)}")
    return units


def _macs(pair: Any) -> Cost:
    total, attention = pair
    if type(total) is not int or type(attention) is not int or not 0 <= attention <= total:
        raise PlanError(f"MACs must be two whole numbers, all and attention's, got {shown(pair)}")
    return Cost(total, attention)
