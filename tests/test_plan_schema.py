"""What a plan file may hold: every bound, and every kind of value."""

from __future__ import annotations

import copy
import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dipgo_fx import PlanError, plan_file
from dipgo_fx.passes import GateTable, Steering
from dipgo_fx.plan import Plan
from dipgo_fx.plan_schema import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_GATES,
    MAX_NAME,
    MAX_POINTS,
    MAX_STEPS,
    MAX_UNIT_STEPS,
    MAX_UNITS,
    MAX_VALUES,
    MAX_WEIGHT,
    SHOWN,
    check_keys,
    check_values,
    parsed,
    shown,
)
from loops import loop
from plans import KEEP, plan

NEUTRAL = {"told": [1.0] * 5, "mix": [[[0.0, 1.0, 0.0, 0.0]]] * 5}


def _values() -> dict[str, Any]:
    """Return the values of a sound file, which steers."""
    values: dict[str, Any] = json.loads(plan_file.written(vars(plan())))
    return {**values, "steering": copy.deepcopy(NEUTRAL)}


def _halves() -> dict[str, Any]:
    """Return the values of a sound file whose steps call the model twice."""
    keep = torch.ones(5, 8, dtype=torch.bool)
    by_hand = Plan.from_keep(loop("dit", "ddim", "block", 3.0, 5, True), keep)
    values: dict[str, Any] = json.loads(plan_file.written(vars(by_hand)))
    return {**values, "frontier": [_point([[0, 2], [0, 2, 3]], 2)]}


def _point(runs: Any, heads: int) -> dict[str, Any]:
    return {"runs": runs, "weights": [[[1.0, 0.0, 0.0]] * heads] * 5, "steering": None}


def _check(values: Any) -> None:
    check_keys(values)
    check_values(values)


# -- size, before anything is parsed


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    """Of a file of ten gigabytes no more is read than the largest plan has."""
    with (tmp_path / "plan.json").open("wb") as file:
        file.truncate(10 * 2**30)
    tracemalloc.start()
    try:
        with pytest.raises(PlanError, match=rf"plan\.json: a plan file must be of {MAX_BYTES} bytes at most"):
            Plan.load(tmp_path / "plan.json")
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="a device of Unix")
def test_a_file_without_an_end_is_not_read() -> None:
    """A device tells no size and never ends."""
    with pytest.raises(PlanError, match="bytes at most"):
        Plan.load("/dev/zero")


def test_many_small_values_are_not_parsed() -> None:
    """They take twenty times the memory of their text."""
    content = b"[" + b"[]," * MAX_VALUES + b"[]]"
    assert len(content) < MAX_BYTES
    tracemalloc.start()
    try:
        with pytest.raises(PlanError, match=f"must hold {MAX_VALUES} values at most"):
            parsed(content)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not the whole of a plan file"),
        (b'{"format": 5', "not the whole of a plan file"),
        (b"\xff\xfe", "not the whole of a plan file"),
        (b"\xef\xbb\xbf{}", "not the whole of a plan file"),
        (b"[" * 10**6, "nested"),
        (b'{"a":' * 10**5, "nested"),
        (b'{"keep": [], "keep": []}', "keys of an object must be distinct, got .'keep', 'keep'"),
        (b"[NaN]", "finite, got NaN"),
        (b"[-Infinity]", "finite, got -Infinity"),
        (b"[" + b"9" * 101 + b"]", "100 digits at most"),
        (b"9" * 10**6, "100 digits at most"),
    ],
)
def test_a_text_that_is_no_sound_json_is_refused(content: bytes, said: str) -> None:
    """Nor are the extensions of JSON read that Python knows."""
    with pytest.raises(PlanError, match=said) as error:
        parsed(content)
    assert len(str(error.value)) < 3 * SHOWN


def test_seeds_of_64_bits_are_read() -> None:
    """A search may be seeded with any of them."""
    assert parsed(str(2**64 - 1).encode()) == 2**64 - 1


# -- kinds, lengths and bounds

Path_ = tuple[Any, ...]
WEIGHT = "must lie between -65504 and 65504, got .*noise, in half precision NaN"
NUMBERS = "must be finite numbers, got"
UNSOUND: list[tuple[Path_, Any, str]] = [
    (("format",), True, "plan format True is none of 3 to 5"),
    (("format",), 5.0, "plan format 5.0 is none of"),
    (("format",), [5], r"plan format \[5\] is none of"),
    (("colour",), "red", "unknown .'colour'"),
    (("facts", "colour"), "red", "facts must have the keys .*unknown .'colour'"),
    (("facts",), {}, "facts must have the keys .*missing .'blocks'"),
    (("facts", "model"), "", "model of facts must be a printable text of 1 to 512"),
    (("facts", "model"), "\x1b[2J", "model of facts must be a printable text"),
    (("facts", "scheduler"), "a" * (MAX_NAME + 1), "scheduler of facts must be a printable text"),
    (("facts", "granularity"), ["block"], "granularity of facts must be a printable text"),
    (("facts", "num_inference_steps"), 10**9, "whole number from 1 to 4096, got int 1000000000"),
    (("facts", "num_inference_steps"), True, "whole number from 1 to 4096, got bool True"),
    (("facts", "num_inference_steps"), 5.0, "whole number from 1 to 4096, got float 5.0"),
    (("facts", "timesteps"), [], "timesteps of facts must have a length of 1 to 4096, got 0"),
    (("facts", "timesteps"), [0] * (MAX_STEPS + 1), "timesteps of facts must have a length of 1 to 4096"),
    (("facts", "timesteps", 1), True, f"timesteps of facts {NUMBERS} bool True"),
    (("facts", "timesteps", 1), float("inf"), f"timesteps of facts {NUMBERS} float inf"),
    (("facts", "timesteps", 1), [1], f"timesteps of facts {NUMBERS} list .1."),
    (("facts", "blocks"), "four", "blocks of facts must be a list, got str 'four'"),
    (("facts", "blocks"), ["a"] * (MAX_UNITS + 1), "blocks of facts must have a length of 1 to 8192"),
    (("facts", "blocks"), ["a"] * (MAX_GATES // 5 + 1), "blocks of facts must have a length"),
    (("facts", "blocks", 0), 3, "each of blocks must be a printable text"),
    (("facts", "blocks", 0), "", "each of blocks must be a printable text"),
    (("facts", "blocks", 0), "a..b", "each of blocks must be the path of a part of the model"),
    (("facts", "blocks", 0), "../a", "each of blocks must be the path of a part of the model"),
    (("facts", "blocks", 0), ".", "each of blocks must be the path of a part of the model"),
    (("facts", "blocks", 0), "@unconditional", "each of blocks must be the path of a part of the model"),
    (("facts", "blocks", 0), "a@unconditional", "the same parts of the model in each of its calls"),
    (("facts", "guidance"), 7.5, "guidance of facts must be an object of scale, split, got float 7.5"),
    (("facts", "guidance", "split"), 0, "split of guidance must be true or false, got int 0"),
    (("facts", "guidance", "split"), True, "split_guidance needs a guidance_scale"),
    (("facts", "guidance", "scale"), "7.5", f"scale of guidance {NUMBERS} str '7.5'"),
    (("facts", "guidance", "scale"), True, f"scale of guidance {NUMBERS} bool True"),
    (("facts", "guidance", "scale"), 1e9, f"scale of guidance {WEIGHT}"),
    (("ratio",), "much", f"ratio {NUMBERS} str 'much'"),
    (("ratio",), False, f"ratio {NUMBERS} bool False"),
    (("keep",), {"a": 1}, "keep must be a list, got dict"),
    (("keep",), ["1111"] * 6, "keep must have a length of 5, got 6"),
    (("keep", 1), "111", "each of keep must be a text of 4 characters, 0 or 1, got str '111'"),
    (("keep", 1), "1121", "each of keep must be a text of 4 characters, 0 or 1, got str '1121'"),
    (("keep", 1), [1, 1, 1, 1], "each of keep must be a text of 4 characters"),
    (("weights", 1), [], r"weights of shape \(5, 4, 3\) must be lists of 4, got list"),
    (("weights", 1, 1), [1.0, 0.0], "must be lists of 3, got list .1.0, 0.0."),
    (("weights", 1, 1, 1), None, f"weights {NUMBERS} NoneType None"),
    (("weights", 1, 1, 1), True, f"weights {NUMBERS} bool True"),
    (("weights", 1, 1, 1), -1e5, f"weights {WEIGHT}"),
    (("scores",), [[1.0]], r"scores of shape \(5, 4\) must be lists of 5"),
    (("scores", 1, 1), "1", f"scores {NUMBERS} str '1'"),
    (("steering",), "none", "steering must be an object of told, mix"),
    (("steering", "told"), [1.0], r"told of steering of shape \(5,\) must be lists of 5"),
    (("steering", "told", 1), 1e5, f"told of steering {WEIGHT}"),
    (("steering", "mix", 1, 0), [1.0], "must be lists of 4, got list .1.0."),
    (("steering", "mix", 1, 0, 0), 1e5, f"mix of steering {WEIGHT}"),
    (("frontier",), [{}] * (MAX_POINTS + 1), "frontier must have a length of 0 to 1024, got 1025"),
    (("frontier", 0), [], "each of frontier must be an object of runs, weights, steering"),
    (("frontier", 0, "runs"), [[0], [0]], "runs of the frontier must have a length of 1, got 2"),
    (("frontier", 0, "runs", 0), 0, "each of runs must be a list, got int 0"),
    (("frontier", 0, "runs", 0), [0] * 6, "each of runs must have a length of 1 to 5, got 6"),
    (("frontier", 0, "runs", 0, 0), False, "steps of the frontier must be whole numbers from 0 to 4"),
    (
        ("frontier", 0, "runs", 0),
        [0, 5],
        "steps of the frontier must be whole numbers from 0 to 4, got int 5",
    ),
    (("frontier", 0, "weights"), [], "weights of the frontier must have a length of 5, got 0"),
    (("frontier", 0, "weights", 0), [[0.0] * 3] * 5, "each row of weights must have a length of 1 to 4"),
    (("frontier", 0, "weights", 1), [], "must be lists of 1"),
    (("frontier", 0, "weights", 1, 0, 0), 1e300, f"weights of the frontier {WEIGHT}"),
    (("frontier", 0, "steering"), {"told": []}, "steering of the frontier must have the keys told, mix"),
    (("cost",), [1], "cost must be an object of reads"),
    (("cost", "units"), [], "units of cost must have a length of 1 to 8192, got 0"),
    (("cost", "units"), [[1, 0]] * (MAX_UNITS + 1), "units of cost must have a length of 1 to 8192"),
    (("cost", "fixed"), [1, 0, 0], "MACs must have a length of 2, got 3"),
    (("cost", "full"), 7, "MACs must be a list, got int 7"),
    (("cost", "order"), "0123", "order of cost must be a list"),
    (("cost", "reads", 0), 3, "each of reads of cost must be a list"),
    (("cost", "output"), [0] * 99, "output of cost must have a length of 0 to 7, got 99"),
    (("origin",), [["a", 1]], "origin must be an object"),
    (("origin", "derived_from"), 3, "derived_from of origin must be the origin of another plan, got int 3"),
]


def _set(values: dict[str, Any], path: Path_, value: Any) -> dict[str, Any]:
    changed = holder = copy.deepcopy(values)
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return changed


@pytest.mark.parametrize(("path", "value", "said"), UNSOUND)
def test_a_value_of_another_kind_is_refused(path: Path_, value: Any, said: str) -> None:
    """The error says what it must be and what came, and no more of that than fits a line or two."""
    with pytest.raises(ValueError, match=said) as error:
        _check(_set(_values(), path, value))
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("facts", "num_inference_steps"), MAX_STEPS),
        (("facts", "model"), "a" * MAX_NAME),
        (("facts", "timesteps"), [999, 1e-3, 0, -1, 5.5]),
        (("facts", "blocks"), ["conv_out", "a.0.b-c.d_e", "é", "_0"]),
        (("facts", "guidance", "scale"), -MAX_WEIGHT),
        (("weights", 1, 1, 1), MAX_WEIGHT),
        (("scores",), [[1e300] * 4] * 5),
        (("scores",), None),
        (("steering",), None),
        (("frontier",), []),
        (("cost",), None),
        (("origin",), {}),
        (("origin", "name"), "two\nlines, naïve"),
        (("origin", "derived_from"), {"seed": 2**64 - 1}),
    ],
)
def test_what_a_plan_may_hold_is_let_pass(path: Path_, value: Any) -> None:
    """Bounds are no tighter than they say, and nothing is changed on the way."""
    values = _set(_values(), path, value)
    assert plan_file._checked(json.dumps(values).encode()) == values


def test_calls_of_a_step_are_alike() -> None:
    """Where guidance is split, its calls have the same blocks, and none is made alone but the last."""
    halves = _halves()
    _check(halves)
    blocks = halves["facts"]["blocks"]
    for wrong in (blocks[4:], blocks[::-1], [*blocks[:7], "other"], [*blocks[:4], *blocks[:4]]):
        with pytest.raises(PlanError, match="the same parts of the model in each of its calls"):
            _check(_set(halves, ("facts", "blocks"), wrong))
    for point, said in (
        (_point([[0, 1], [0, 2]], 2), "steps that make the last call"),
        (_point([[0, 9], [0, 9]], 2), "whole numbers from 0 to 4"),
        (_point([[0], [0]], 1), "as many blocks for each of 2 calls"),
    ):
        with pytest.raises(PlanError, match=said):
            _check({**halves, "frontier": [point]})


def test_gates_and_units_are_bounded_by_step() -> None:
    """What a plan takes goes with their number times that of the steps."""
    values = _values()
    values["facts"]["timesteps"] = [0] * 1024
    values["facts"]["blocks"] = [f"blocks.{n}" for n in range(MAX_GATES // 1024 + 1)]
    with pytest.raises(PlanError, match="must have 131072 gates at most, got 1024 steps of 129 blocks"):
        _check(values)
    keep, weights = ["1"] * 1024, [[[1.0, 0.0, 0.0]]] * 1024
    values = {**values, "keep": keep, "weights": weights, "scores": None, "steering": None, "frontier": []}
    values["facts"]["blocks"] = ["block"]
    values["cost"]["units"] = [[1, 0]] * (MAX_UNIT_STEPS // 1024 + 1)
    with pytest.raises(PlanError, match="units of cost must have a length of 1 to 1024, got 1025"):
        _check(values)


@pytest.mark.parametrize("kind", [list, dict])
def test_an_origin_is_as_deep_as_it_may_be_printed(kind: type) -> None:
    """Beyond that Python's own limits would be met, later."""

    def nested(depth: int) -> dict[str, Any]:
        value: Any = 1
        for _ in range(depth):
            value = [value] if kind is list else {"a": value}
        return {"nested": value}

    _check({**_values(), "origin": nested(MAX_DEPTH - 2)})
    with pytest.raises(PlanError, match=f"origin must be nested {MAX_DEPTH} deep at most"):
        _check({**_values(), "origin": nested(MAX_DEPTH)})


@pytest.mark.parametrize("value", [[[[0] * 10**6]], {"a" * 10**6: "b" * 10**6}, 10**2000, "é" * 10**6])
def test_a_wrong_value_is_shown_in_short(value: Any) -> None:
    """Whatever its size."""
    assert len(shown(value)) <= SHOWN


# -- writing


@pytest.mark.parametrize(
    "unsound",
    [
        replace(plan(), cost=None, table=GateTable(KEEP, torch.full((5, 4, 3), 1e6))),
        replace(plan(), steering=Steering(torch.full((5,), 1e6), Steering.neutral(5, 1).mix)),
    ],
)
def test_what_would_not_be_read_is_not_written(unsound: Plan, tmp_path: Path) -> None:
    """A plan of one's own may be beyond the bounds; its file would be of no use, and is not made."""
    with pytest.raises(PlanError, match="this plan would not be read again: "):
        unsound.save(tmp_path / "plan.json")
    assert list(tmp_path.iterdir()) == []
