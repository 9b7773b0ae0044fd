"""What a plan file may hold: bounds, kinds and lengths of its JSON, checked before anything is made of it.

A plan may come from a stranger. So a file is refused by its size and by how many values it has before it is
parsed, and every value by its kind before it is used: nothing in a file makes memory or time grow beyond what
the largest sound plan takes. What the values mean together (a first row that keeps all, steps that rise) is
checked by the classes that they become.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import Any, NoReturn

from .errors import PlanError
from .guidance import Guidance
from .passes import HISTORY
from .passes.blocks import block_name, call_of, path_of
from .passes.steering import MIXED

MAX_BYTES = 32 * 2**20
"""The largest file that is read. A plan of 1000 steps of 130 blocks takes half of it."""
MAX_VALUES = 1_000_000
"""JSON values in a file: an empty list takes three bytes there and sixty in memory, a new key even more."""
MAX_STEPS = 4096
"""Steps, T; most schedulers end at 1000, which Heun's calls twice."""
MAX_GATES = 2**17
"""Gates, T * N: 1000 steps of 131 blocks, 50 steps of 2621; each takes five values of a file."""
MAX_UNITS = 2**13
"""Units of a cost, blocks among them: sets of units are bit masks, one per step."""
MAX_UNIT_STEPS = 2**20
"""Units times steps, with which the time goes in which a plan is checked and printed: a few seconds."""
MAX_POINTS = 1024
"""Points of a frontier; a search leaves a dozen, other step counts add one per step."""
MAX_DIGITS = 100
"""Digits of a whole number: time grows with their square, and MACs and seeds have 20."""
MAX_NAME = 512
"""Characters of a name: a class, the path of a block."""
MAX_DEPTH = 32
"""Lists and objects inside each other in `origin`, the one part whose depth is not fixed."""
MAX_WEIGHT = 65504.0
"""The largest weight, also of mixtures and guidance: that of float16's largest number.

What searches find stays in the hundreds (225 was the most in a dozen tiny ones), and `linear` draws no line
steeper than T. A value of 1 times more than this is infinity in half precision, and then NaN; in float32 the
rounding of what is weighted, 6e-8 of it, becomes a visible part of the sum: noise.
"""
FORMATS = {
    3: ("format", "facts", "ratio", "keep", "weights", "scores", "rungs", "origin"),
    4: ("format", "facts", "ratio", "keep", "weights", "scores", "frontier", "cost", "origin"),
    5: ("format", "facts", "ratio", "keep", "weights", "scores", "steering", "frontier", "cost", "origin"),
}
"""The formats that are read, with the keys of a file."""
FACTS = ("model", "scheduler", "num_inference_steps", "timesteps", "blocks", "granularity")
COST = ("reads", "output", "order", "units", "fixed", "full")
DERIVED_FROM = "derived_from"
NUMBERS = frozenset({int, float})
"""Exact types: `True` is none of them."""

SHOWN = 100
"""Characters of a wrong value that an error shows."""

_short = reprlib.Repr()  # looks at a few entries only: a whole value may be large
_short.maxlevel, _short.maxstring, _short.maxlong = 2, SHOWN, SHOWN


def shown(value: Any) -> str:
    """Return a value for a message, short whatever its size and depth."""
    text = _short.repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def parsed(content: bytes) -> Any:
    """Return the values of a JSON text. Raises `PlanError` for anything else, and for a text too large."""
    if len(content) > MAX_BYTES:
        raise PlanError(f"a plan file must be of {MAX_BYTES} bytes at most, and has more")
    values = sum(content.count(sign) for sign in (b",", b"[", b"{"))  # one stands before each value
    if values > MAX_VALUES:
        raise PlanError(f"a plan file must hold {MAX_VALUES} values at most, got {values} or so")
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_distinct,
            parse_int=_bounded,
            parse_constant=_refused,
        )
    except PlanError:
        raise
    except ValueError as error:
        raise PlanError(f"this is not the whole of a plan file ({error}): save the plan again") from error
    except RecursionError as error:
        raise PlanError("lists and objects of a plan file must not be nested as deep as here") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Readers differ in which of two equal keys counts, so there may be none."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise PlanError(f"keys of an object must be distinct, got {shown([key for key, _ in pairs])}")
    return made


def _bounded(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise PlanError(f"a whole number must have {MAX_DIGITS} digits at most, got {shown(digits)}")
    return int(digits)


def _refused(name: str) -> NoReturn:
    raise PlanError(f"numbers must be finite, got {name}")


def check_keys(values: Any) -> None:
    """Raise `PlanError` unless the objects of a file have the keys of its format."""
    if type(values) is not dict:
        _refuse("a plan file", "an object", values)
    number = values.get("format")
    if type(number) is not int or number not in FORMATS:
        read = f"{min(FORMATS)} to {max(FORMATS)}, which this version reads"
        raise PlanError(f"plan format {shown(number)} is none of {read}")
    _object("the file", values, FORMATS[number])
    guidance = ("guidance_scale", "split_guidance") if number == 3 else ("guidance",)
    _object("facts", values["facts"], (*FACTS, *guidance))
    points = "rungs" if number == 3 else "frontier"
    for point in _list(points, values[points], MAX_POINTS):
        _object(f"each of {points}", point, ("runs", "weights", *(("steering",) if number == 5 else ())))


def check_values(values: dict[str, Any]) -> None:
    """Raise `PlanError` unless values with the keys of format 5 are of its kinds and sizes."""
    facts = values["facts"]
    calls = _check_facts(facts)
    steps, blocks = len(facts["timesteps"]), len(facts["blocks"])
    _check_numbers("ratio", [values["ratio"]], (1,))
    _check_keep(values["keep"], steps, blocks)
    _check_numbers("weights", values["weights"], (steps, blocks, HISTORY), MAX_WEIGHT)
    if values["scores"] is not None:
        _check_numbers("scores", values["scores"], (steps, blocks))
    _check_steering("steering", values["steering"], steps, calls)
    for point in values["frontier"]:
        _check_point(point, steps, blocks, calls)
    if values["cost"] is not None:
        _check_cost(values["cost"], steps)
    _check_origin(values["origin"])


def _check_facts(facts: dict[str, Any]) -> int:
    """Return how many calls of the model a step has."""
    for key in ("model", "scheduler", "granularity"):
        _text(f"{key} of facts", facts[key])
    steps = facts["num_inference_steps"]
    if type(steps) is not int or not 0 < steps <= MAX_STEPS:
        _refuse("num_inference_steps of facts", f"a whole number from 1 to {MAX_STEPS}", steps)
    timesteps = _list("timesteps of facts", facts["timesteps"], MAX_STEPS, least=1)
    _check_numbers("timesteps of facts", timesteps, (len(timesteps),))
    blocks = _list("blocks of facts", facts["blocks"], MAX_UNITS, least=1)
    if len(timesteps) * len(blocks) > MAX_GATES:
        raise PlanError(
            f"a plan must have {MAX_GATES} gates at most, got {len(timesteps)} steps of {len(blocks)} blocks"
        )
    guidance = _object("guidance of facts", facts["guidance"], ("scale", "split"))
    if type(guidance["split"]) is not bool:
        _refuse("split of guidance", "true or false", guidance["split"])
    if guidance["scale"] is not None:
        _check_numbers("scale of guidance", [guidance["scale"]], (1,), MAX_WEIGHT)
    calls = Guidance(**guidance).calls
    _check_blocks(blocks, calls)
    return len(calls)


def _check_blocks(blocks: Sequence[Any], calls: Sequence[str]) -> None:
    """Check that blocks are parts of a model, the same ones in each of its calls of a step."""
    for name in blocks:
        _text("each of blocks", name)
        if not all(path_of(name).split(".")):
            _refuse("each of blocks", "the path of a part of the model, such as 'blocks.0'", name)
    first = [path_of(name) for name in blocks if call_of(name) == calls[0]]
    expected = [block_name(path, call) for call in calls for path in first]
    if [*blocks] != expected:
        _refuse("blocks of facts", f"the same parts of the model in each of its calls {[*calls]}", blocks)


def _check_keep(keep: Any, steps: int, blocks: int) -> None:
    rows = _list("keep", keep, steps, least=steps)
    for row in rows:
        if type(row) is not str or len(row) != blocks or row.strip("01"):
            _refuse("each of keep", f"a text of {blocks} characters, 0 or 1", row)


def _check_steering(name: str, steering: Any, steps: int, calls: int) -> None:
    if steering is not None:
        _object(name, steering, ("told", "mix"))
        _check_numbers(f"told of {name}", steering["told"], (steps,), MAX_WEIGHT)
        _check_numbers(f"mix of {name}", steering["mix"], (steps, calls, MIXED), MAX_WEIGHT)


def _check_point(point: dict[str, Any], steps: int, blocks: int, calls: int) -> None:
    runs = _list("runs of the frontier", point["runs"], calls, least=calls)
    for of_call in runs:
        for step in _list("each of runs", of_call, steps, least=1):
            if type(step) is not int or not 0 <= step < steps:
                _refuse("steps of the frontier", f"whole numbers from 0 to {steps - 1}", step)
    if any(not {*of_call} <= {*runs[-1]} for of_call in runs):
        _refuse(
            "runs of the frontier", "steps that make the last call, and of those that make the others", runs
        )
    rows = _list("weights of the frontier", point["weights"], steps, least=steps)
    heads = len(_list("each row of weights", rows[0], blocks, least=1))
    if heads % calls:
        _refuse(
            "each row of weights of the frontier", f"of as many blocks for each of {calls} calls", rows[0]
        )
    _check_numbers("weights of the frontier", rows, (steps, heads, HISTORY), MAX_WEIGHT)
    _check_steering("steering of the frontier", point["steering"], steps, calls)


def _check_cost(cost: Any, steps: int) -> None:
    """Check kinds and sizes; `plan_file` knows what units and MACs mean."""
    _object("cost", cost, COST)
    units = _list("units of cost", cost["units"], min(MAX_UNITS, MAX_UNIT_STEPS // steps), least=1)
    for pair in (*units, cost["fixed"], cost["full"]):
        _list("MACs", pair, 2, least=2)
    for key in ("reads", "output", "order"):
        _list(f"{key} of cost", cost[key], len(units))
    for read in cost["reads"]:
        _list("each of reads of cost", read, len(units))


def _check_origin(origin: Any) -> None:
    """Check that an origin is no deeper than what can be written; its texts are made printable elsewhere."""
    if type(origin) is not dict:
        _refuse("origin", "an object", origin)
    if type(origin.get(DERIVED_FROM, {})) is not dict:
        _refuse(f"{DERIVED_FROM} of origin", "the origin of another plan", origin[DERIVED_FROM])
    level: list[Any] = [origin]
    for _ in range(MAX_DEPTH):
        level = [*chain.from_iterable(map(_inside, level))]
        if not level:
            return
    raise PlanError(f"origin must be nested {MAX_DEPTH} deep at most")


def _inside(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return chain(value, value.values())
    return value if type(value) is list else ()


# -- kinds


def _refuse(name: str, wanted: str, got: Any) -> NoReturn:
    raise PlanError(f"{name} must be {wanted}, got {type(got).__name__} {shown(got)}")


def _object(name: str, value: Any, keys: Collection[str]) -> dict[str, Any]:
    """Return an object that has exactly these keys."""
    if type(value) is not dict:
        _refuse(name, f"an object of {', '.join(keys)}", value)
    missing, unknown = [*{*keys} - {*value}], [*{*value} - {*keys}]
    if missing or unknown:
        raise PlanError(
            f"{name} must have the keys {', '.join(keys)}; missing {shown(sorted(missing))}, "
            f"unknown {shown(sorted(unknown))}"
        )
    return value


def _list(name: str, value: Any, most: int, least: int = 0) -> list[Any]:
    if type(value) is not list:
        _refuse(name, "a list", value)
    if not least <= len(value) <= most:
        wanted = most if least == most else f"{least} to {most}"
        raise PlanError(f"{name} must have a length of {wanted}, got {len(value)}")
    return value


def _text(name: str, value: Any) -> None:
    if type(value) is not str or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        _refuse(name, f"a printable text of 1 to {MAX_NAME} characters", value)


def _check_numbers(name: str, values: Any, shape: Sequence[int], most: float | None = None) -> None:
    """Check lists of lists of numbers, whole ones or not, and that none is beyond `most`."""
    level = [values]
    for length in shape:
        for row in level:
            if type(row) is not list or len(row) != length:
                _refuse(f"{name} of shape {tuple(shape)}", f"lists of {length}", row)
        level = [*chain.from_iterable(level)]
    for number in level:
        if type(number) not in NUMBERS or abs(number) == float("inf"):
            _refuse(name, "finite numbers", number)
        if most is not None and abs(number) > most:
            raise PlanError(
                f"{name} must lie between {-most:g} and {most:g}, got {number:g}: the result would be noise, "
                "in half precision NaN"
            )
