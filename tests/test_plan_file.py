"""Plans as files: what is written is read back, and nothing else is taken for a plan."""

from __future__ import annotations

import copy
import errno
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dipgo_fx
import zoo
from dipgo_fx import PlanError, plan_file, plan_schema
from dipgo_fx.applying import build
from dipgo_fx.cost import LoopCost
from dipgo_fx.deriving import at_ratio, at_steps
from dipgo_fx.frontier import Point
from dipgo_fx.loop import LoopFacts
from dipgo_fx.passes import GateTable
from dipgo_fx.plan import Plan
from loops import cost, inputs, loop, run
from plans import KEEP, plan
from steerings import steering_of

DATA = Path(__file__).parent / "data"


def _steered(first: int) -> Plan:
    keep = KEEP.clone()
    keep[:first], keep[first] = False, True
    steering = steering_of(plan().facts, 1, first)
    point = Point(((first, 3),), plan().frontier[0].weights, steering_of(plan().facts, 2, first))
    return replace(
        plan(), table=GateTable.of(keep, "linear"), steering=steering, frontier=(point,), cost=None
    )


def _as_format_4(values: dict[str, Any]) -> dict[str, Any]:
    """Return what a file of the format before held of a plan that steers nothing."""
    frontier = [{"runs": p["runs"], "weights": p["weights"]} for p in values["frontier"]]
    return {**_without("steering")(values), "format": 4, "frontier": frontier}


# -- what was written comes back


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    """What is read back says and does the same as what was written."""
    plan().save(tmp_path / "plan.json")
    read = Plan.load(tmp_path / "plan.json")
    assert read == plan()
    assert (read.keep.dtype, read.weights.dtype) == (torch.bool, torch.float64)
    assert read.blocks == loop("dit").blocks
    assert read.timesteps == loop("dit").facts.timesteps
    for mine, theirs in zip(plan().frontier, read.frontier, strict=True):
        assert mine.runs == theirs.runs
        assert theirs.weights.dtype == torch.float64
        assert torch.equal(mine.weights, theirs.weights)
    x, c = inputs("dit", 2)
    assert torch.equal(run(build(loop("dit"), read), x, c), run(build(loop("dit"), plan()), x, c))


@pytest.mark.parametrize("first", [0, 2])
def test_a_steered_plan_survives_its_file(tmp_path: Path, first: int) -> None:
    """What calls are told, how they are mixed and where they begin, for the points of the frontier too."""
    written = _steered(first)
    written.save(tmp_path / "plan.json")
    read = Plan.load(tmp_path / "plan.json")
    assert read == written
    x, c = inputs("dit", 2)
    assert torch.equal(run(build(loop("dit"), read), x, c), run(build(loop("dit"), written), x, c))


def test_a_file_of_format_4_is_read(tmp_path: Path) -> None:
    """It steers nothing."""
    plan().save(tmp_path / "plan.json")
    values = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    (tmp_path / "plan.json").write_text(json.dumps(_as_format_4(values)), encoding="utf-8")
    assert Plan.load(tmp_path / "plan.json") == plan()


def test_a_plan_without_scores_survives_its_file(tmp_path: Path) -> None:
    """A plan written by hand has no scores, nor has its file."""
    written = Plan.from_keep(loop("dit"), KEEP)
    written.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == written


def test_a_plan_survives_a_folder(tmp_path: Path) -> None:
    """`save_pretrained` makes the folder, and `from_pretrained` finds the plan in it."""
    plan().save_pretrained(tmp_path / "new" / "folder")
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == [plan_file.NAME]
    assert Plan.from_pretrained(tmp_path / "new" / "folder") == plan()
    assert Plan.from_pretrained(str(tmp_path / "new" / "folder")) == plan()


def test_a_plan_file_is_readable_json(tmp_path: Path) -> None:
    """The keep table is one row of digits a step, and the keys are those that plan_file.py describes."""
    plan().save(tmp_path / "plan.json")
    values = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    assert values["keep"] == ["1111", "1001", "0011", "0001", "0100"]
    assert values["facts"]["scheduler"] == "DDIMScheduler"
    assert values["format"] == plan_file.FORMAT
    assert list(values) == re.findall(r"`(\w+)`:", str(plan_file.__doc__))


@pytest.mark.parametrize("name", ["halves", "paper"])
def test_a_file_of_format_3_is_read(name: str) -> None:
    """Old plans load and apply, and what they lack is said."""
    old = Plan.load(DATA / f"plan-format-3-{name}.json")
    assert "apply the plan to see what runs" in str(old)
    with pytest.raises(PlanError, match="apply it to its model"):
        old.states()
    scheduler = zoo.SCHEDULERS["euler-a" if name == "halves" else "ddim"]()
    applied = dipgo_fx.apply(zoo.model("dit"), scheduler, old)
    assert applied.plan.table == old.table
    assert applied.plan.ratio == pytest.approx(1 - applied.plan.cost.kept(old.table))
    assert dipgo_fx.apply(zoo.model("dit"), scheduler, old, ratio=0.3).plan.ratio >= 0.3


# -- what is no plan


def test_a_missing_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    """A path without a file is no damaged plan."""
    with pytest.raises(FileNotFoundError):
        Plan.load(tmp_path / "plan.json")
    with pytest.raises(FileNotFoundError):
        Plan.from_pretrained(tmp_path)


def _without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda values: {k: v for k, v in values.items() if k != key}


def _with(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda values: {**values, **changes}


def _facts(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda values: {**values, "facts": {**values["facts"], **changes}}


def _point(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda values: {
        **values,
        "frontier": [{**values["frontier"][0], **changes}, *values["frontier"][1:]],
    }


def _cost(
    key: str = "", place: int = 0, entry: Any = None, /, **changes: Any
) -> Callable[[dict[str, Any]], Any]:
    """Change whole parts of a cost, or one entry of a part."""

    def damage(values: dict[str, Any]) -> Any:
        cost = {**values["cost"], **changes}
        if key:
            cost[key] = [*cost[key][:place], entry, *cost[key][place + 1 :]]
        return {**values, "cost": cost}

    return damage


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{f"no {key}": _without(key) for key in ("format", "facts", "keep", "weights", "ratio", "scores")},
    **{f"no {key}": _without(key) for key in ("frontier", "cost", "origin", "steering")},
    "a steering of text": _with(steering="none"),
    "a steering without a mixture": _with(steering={"told": [1.0] * 5}),
    "a steering of fewer steps": _with(steering={"told": [1.0], "mix": [[[0.0, 1.0, 0.0, 0.0]]]}),
    "a steering of two calls": _with(steering={"told": [1.0] * 5, "mix": [[[0.0, 1.0, 0.0, 0.0]] * 2] * 5}),
    "a steering with a number that is none": _with(
        steering={"told": [float("nan")] * 5, "mix": [[[0.0, 1.0, 0.0, 0.0]]] * 5}
    ),
    "a steering that begins late": _with(
        steering={"told": [1.0] * 5, "mix": [[[1.0, 0.0, 0.0, 0.0]], *[[[0.0, 1.0, 0.0, 0.0]]] * 4]}
    ),
    "a list": lambda values: [values],
    "a number": lambda values: 3,
    "null": lambda values: None,
    "another format": _with(format=99),
    "an older format": _with(format=2, weights=[[1.0] * 4] * 5),
    "facts a list": _with(facts=[1, 2]),
    "facts a text": _with(facts="DiT"),
    "facts null": _with(facts=None),
    "unknown fact": _facts(colour="red"),
    "missing fact": lambda values: {**values, "facts": _without("blocks")(values["facts"])},
    "blocks a number": _facts(blocks=4),
    "blocks null": _facts(blocks=None),
    "one timestep less": lambda v: _facts(timesteps=v["facts"]["timesteps"][1:])(v),
    "keep too short": lambda values: {**values, "keep": values["keep"][1:]},
    "keep ragged": lambda values: {**values, "keep": [*values["keep"][:-1], "1"]},
    "keep of other letters": lambda values: {**values, "keep": [*values["keep"][:-1], "01x1"]},
    "keep of numbers": _with(keep=[1, 2, 3]),
    "keep empty": _with(keep=[]),
    "keep null": _with(keep=None),
    "first row not kept": lambda values: {**values, "keep": ["1110", *values["keep"][1:]]},
    "weights ragged": lambda values: {**values, "weights": [*values["weights"][:-1], [1.0]]},
    "weights one number each": _with(weights=[[1.0] * 4] * 5),
    "weights of two values": _with(weights=[[[1.0] * 2] * 4] * 5),
    "weights of four values": _with(weights=[[[1.0] * 4] * 4] * 5),
    "weights ragged within": lambda values: {
        **values,
        "weights": [*values["weights"][:-1], [[1.0, 0.0]] * 4],
    },
    "weights of text": _with(weights=[[["a"] * 3] * 4] * 5),
    "weights infinite": _with(weights=[[[1e999] * 3] * 4] * 5),
    "weights not a number": _with(weights=[[[float("nan")] * 3] * 4] * 5),
    "weights huge": _with(weights=[[[10**400] * 3] * 4] * 5),
    "weights null": _with(weights=None),
    "frontier null": _with(frontier=None),
    "frontier a number": _with(frontier=2),
    "frontier of numbers": _with(frontier=[1, 2]),
    "a point without steps": _point(runs=[[]]),
    "a point without step 0": _point(runs=[[1, 2]]),
    "a point of falling steps": _point(runs=[[0, 3, 2]]),
    "a point with a step twice": _point(runs=[[0, 2, 2]]),
    "a point beyond the loop": _point(runs=[[0, 5]]),
    "a point before the loop": _point(runs=[[0, -1]]),
    "a point's steps of text": _point(runs=[["a"]]),
    "a point's steps a text": _point(runs=["01"]),
    "a point's steps of truths": _point(runs=[[False, True]]),
    "a point of two calls": _point(runs=[[0], [0, 2]]),
    "a point of no call": _point(runs=[]),
    "a point's weights of a row less": _point(weights=[[[1.0] * 3]] * 4),
    "a point's weights of two values": _point(weights=[[[1.0] * 2]] * 5),
    "a point's weights flat": _point(weights=[[1.0] * 3] * 5),
    "a point's weights infinite": _point(weights=[[[1e999] * 3]] * 5),
    "a point's weights null": _point(weights=None),
    "scores of another shape": _with(scores=[[1.0]]),
    "scores not a number": _with(scores=[[float("nan")] * 4] * 5),
    "ratio above 1": _with(ratio=1.5),
    "ratio negative": _with(ratio=-0.1),
    "ratio not a number": _with(ratio=float("nan")),
    "ratio huge": _with(ratio=10**400),
    "ratio a text": _with(ratio="much"),
    "ratio null": _with(ratio=None),
    "cost a list": _with(cost=[1]),
    "a loop dearer than its parts": lambda v: _cost("full", 0, v["cost"]["full"][0] + 1)(v),
    **{
        f"no {key} in cost": lambda values, key=key: {**values, "cost": _without(key)(values["cost"])}
        for key in ("reads", "output", "order", "units", "fixed", "full")
    },
    "guidance a number": _facts(guidance=7.5),
    "timesteps null": _facts(timesteps=None),
    "no blocks": _facts(blocks=[]),
    "a block twice": lambda v: _facts(blocks=[*v["facts"]["blocks"][:-1], v["facts"]["blocks"][0]])(v),
    "origin a list": _with(origin=[1]),
    "origin null": _with(origin=None),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_refused_by_name(damage: Callable[[Any], Any], tmp_path: Path) -> None:
    """Whatever is wrong with the values of a file, the error is a `PlanError` that names the file."""
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(damage(json.loads(plan_file.written(vars(plan()))))), encoding="utf-8")
    with pytest.raises(PlanError, match=r"plan\.json"):
        Plan.load(file)


FACTS = "of facts cannot be"
UNITS = "units of cost must be distinct numbers"
ORDER = "units, each with its reads and in the order"
# What no damaged value gives away by itself, with what is said of it.
UNSOUND: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "blocks of numbers": (_facts(blocks=[1, 2, 3, 4]), "each of blocks must be a printable text"),
    "blocks a text": (_facts(blocks="four"), "blocks of facts must be a list, got str 'four'"),
    "model null": (_facts(model=None), "model of facts must be a printable text"),
    "scheduler a number": (_facts(scheduler=3), "scheduler of facts must be a printable text"),
    "step count a text": (
        _facts(num_inference_steps="5"),
        "num_inference_steps of facts must be a whole number from 1",
    ),
    "step count 0": (
        _facts(num_inference_steps=0),
        "num_inference_steps of facts must be a whole number from 1",
    ),
    "timesteps of text": (_facts(timesteps=["a"] * 5), "timesteps of facts must be finite numbers"),
    "timesteps infinite": (_facts(timesteps=[1e999] * 5), "numbers must be finite, got Infinity"),
    "granularity unknown": (_facts(granularity="layer"), f"granularity {FACTS} 'layer'"),
    "guidance scale a text": (
        _facts(guidance={"scale": "7.5", "split": False}),
        "scale of guidance must be finite numbers",
    ),
    "guidance scale no number": (
        _facts(guidance={"scale": 1e999, "split": False}),
        "numbers must be finite, got Infinity",
    ),
    "guidance split a number": (
        _facts(guidance={"scale": 7.5, "split": 1}),
        "split of guidance must be true or false",
    ),
    "guidance split without a scale": (
        _facts(guidance={"scale": None, "split": True}),
        "needs a guidance_scale",
    ),
    "ratio of another table": (_with(ratio=0.123), "ratio is 0.123, but the gates remove 0"),
    "reads of no unit": (_cost(reads=[]), ORDER),
    "an unknown unit is read": (_cost("reads", 1, [7]), UNITS),
    "a unit below 0 is read": (_cost("reads", 1, [-1]), UNITS),
    "a text is read": (_cost("reads", 1, ["a"]), UNITS),
    "a truth is read": (_cost("reads", 1, [False]), UNITS),
    "a unit is read twice": (_cost("reads", 1, [0, 0]), UNITS),
    "a unit reads itself": (_cost("reads", 1, [0, 1]), "must come after those it reads"),
    "units read each other": (_cost("reads", 0, [1, 4]), "must come after those it reads"),
    "order of six units": (_cost(order=[4, 0, 1, 2, 5, 6]), ORDER),
    "order with a unit twice": (_cost(order=[4, 0, 1, 2, 5, 6, 6]), UNITS),
    "order backwards": (_cost(order=[3, 6, 5, 2, 1, 0, 4]), "must come after those it reads"),
    "nothing is the output": (_cost(output=[]), "predictions must read a unit"),
    "an unknown unit is the output": (_cost(output=[99]), UNITS),
    "units of one number": (_cost(units=[[1]] * 7), "MACs must have a length of 2, got 1"),
    "units of fractions": (_cost("units", 5, [1.5, 0.5]), "MACs must be two whole numbers"),
    "units fewer than blocks": (_cost(units=[[1, 0]], reads=[[]], output=[0], order=[0]), ORDER),
    "attention above all": (_cost(fixed=[1, 2]), "MACs must be two whole numbers"),
    "attention below 0": (_cost(fixed=[1, -1]), "MACs must be two whole numbers"),
    "a loop that costs nothing": (_cost(full=[0, 0]), "cost of a loop must be above 0"),
    "a loop of another cost": (_cost(full=[10**9, 0]), "MACs of the whole loop"),
}


@pytest.mark.parametrize(("damage", "said"), UNSOUND.values(), ids=UNSOUND.keys())
def test_a_file_that_contradicts_itself_is_refused(
    damage: Callable[[Any], Any], said: str, tmp_path: Path
) -> None:
    """Values of the right kind that cannot be those of a loop are named, with the file."""
    file = tmp_path / "plan.json"
    values = json.loads(plan_file.written(vars(plan())))
    assert values["cost"]["order"] == [4, 0, 1, 2, 5, 6, 3]  # what the damages are made for
    file.write_text(json.dumps(damage(values)), encoding="utf-8")
    with pytest.raises(PlanError, match=rf"plan\.json.*{said}"):
        Plan.load(file)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe\x00", b"PK\x03\x04", b'"keep"'])
def test_a_file_that_is_no_plan_is_refused(content: bytes, tmp_path: Path) -> None:
    """Bytes that are no JSON, or JSON of something else, are a `PlanError` too."""
    file = tmp_path / "plan.json"
    file.write_bytes(content)
    with pytest.raises(PlanError, match=r"plan\.json"):
        Plan.load(file)


@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(cut: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file that ends early is never read as a plan."""
    file = tmp_path_factory.mktemp("plan") / "plan.json"
    plan().save(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(cut * (len(content) - 2))])
    with pytest.raises(PlanError, match=r"plan\.json"):
        Plan.load(file)


@settings(max_examples=100)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_harmless(
    place: float, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One wrong bit gives a `PlanError` or a plan that holds all that a plan promises."""
    file = tmp_path_factory.getbasetemp() / "flipped.json"
    plan().save(file)
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    file.write_bytes(content)
    with suppress(PlanError):
        read = Plan.load(file)
        assert read.keep[0].all()
        assert read.keep.shape == KEEP.shape
        assert read.weights.shape == (*KEEP.shape, 3)
        assert read.weights.isfinite().all()
        for point in read.frontier:
            (steps,) = point.runs
            assert steps[0] == 0
            assert steps == tuple(sorted({*steps} & {*range(5)}))
            assert point.weights.isfinite().all()
        assert 0 <= read.ratio < 1
        assert isinstance(read.facts, LoopFacts)
        assert read.states().shape == KEEP.shape
        assert str(read)


# -- what strangers send

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e-320, 7e4, 1e308, 1e999, float("nan")),
    *(10**9, 2**64, 10**30, 10**400, "", "a", "1", "own", "stage", "@unconditional", "a..b", "../.."),
    *("__class__", "\x1b[2J", "\ud800", "é", [], {}, [[]], [None], {"": None}, {"derived_from": 3}),
    *("0" * 1000, [0] * 1000, ["1111"] * 100, [[1.0, 0.0, 0.0]] * 4),
]
"""What a value is replaced by."""
DEPTHS = (1, 2, 20, 200, 900, 5000)
TOKENS = [
    *(b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"0", b"-", b"e9", b"1e400", b"NaN", b"-Infinity"),
    *(b"null", b"true", b"\\ud800", b"\x00", b"\xff", b"\xef\xbb\xbf", b'"format": 3,', b'"keep": [],'),
    *(b"[" * 5000, b"9" * 5000),
]


@cache
def _files() -> list[str]:
    """Return plan files of every format, with and without each part that may be missing."""
    halves = Plan.from_keep(loop("dit", "ddim", "block", 3.0, 5, True), torch.ones(5, 8).bool())
    bare = replace(plan(), cost=None, scores=None, frontier=())
    written = [plan_file.written(vars(each)) for each in (plan(), _steered(2), _steered(0), halves, bare)]
    old = [file.read_text(encoding="utf-8") for file in sorted(DATA.glob("plan-format-3-*.json"))]
    return [*written, json.dumps(_as_format_4(json.loads(written[0]))), *old]


def _damage(draw: st.DrawFn, root: dict[str, Any]) -> None:
    """Change one value somewhere in `root["file"]`, or all of it."""
    holder: Any = root
    key: Any = "file"
    while isinstance(holder[key], (dict, list)) and holder[key] and draw(st.integers(0, 4)):
        holder = holder[key]
        key = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
    value = holder[key]
    kind = draw(st.sampled_from(["odd", "odd", "drop", "twice", "size", "nest", "kind", "number", "place"]))
    if kind == "drop" and holder is not root:
        del holder[key]
    elif kind == "twice" and isinstance(holder, list):
        holder.insert(draw(st.integers(0, len(holder))), value)
    elif kind == "twice":
        holder[draw(st.sampled_from(["copy", "", "weights", "rungs"]))] = copy.deepcopy(value)
    elif kind == "size" and isinstance(value, (list, str)):
        holder[key] = (value * 3)[: draw(st.integers(0, 3 * len(value)))]
    elif kind == "nest":
        holder[key] = f"@nested {draw(st.sampled_from(DEPTHS))}@"
    elif kind == "kind":
        holder[key] = draw(st.sampled_from([str(value), {"a": value}, [value], [*_parts(value)]]))
    elif kind == "number":
        holder[key] = draw(st.one_of(st.integers(-3, 9), st.floats(), st.integers(), st.floats(-2, 2)))
    elif kind == "place":
        other = draw(st.sampled_from([*_parts(root["file"]), *_parts(holder)] or [None]))
        holder[key] = copy.deepcopy(other)
    else:
        holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.values()]
    return value if isinstance(value, list) else []


def _text_of(values: Any) -> str:
    """Return JSON, with lists inside lists where `@nested 900@` stands, deeper than a writer goes."""
    return re.sub(r'"@nested (\d+)@"', lambda m: "[" * int(m[1]) + "]" * int(m[1]), json.dumps(values))


def _cut_up(draw: st.DrawFn, content: bytes) -> bytes:
    """Change some bytes somewhere: one bit, or a piece that goes, comes twice or is another."""
    start = draw(st.integers(0, len(content)))
    stop = min(len(content), start + draw(st.sampled_from([0, 1, 2, 10, 100, 1000])))
    piece, end = content[start:stop], content[stop:]
    kind = draw(st.sampled_from(["bit", "drop", "twice", "token"]))
    if kind == "bit" and piece:
        return content[:start] + bytes([piece[0] ^ 1 << draw(st.integers(0, 7))]) + content[start + 1 :]
    changed = {"drop": b"", "twice": piece * 2}.get(kind, draw(st.sampled_from(TOKENS)))
    return content[:start] + changed + end


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """Draw a plan file of some format that was tampered with."""
    root = {"file": json.loads(draw(st.sampled_from(_files())))}
    damages = draw(st.sampled_from([1, 1, 1, 1, 2, 2, 3, 0]))
    for _ in range(damages):
        _damage(draw, root)
    content = _text_of(root["file"]).encode()
    return content if damages else _cut_up(draw, content)


def _opened(file: Path) -> Plan | PlanError:
    try:
        return Plan.load(file)
    except PlanError as error:
        return error


def _refused_or_sound(content: bytes, folder: Path) -> None:
    """Read a file: what opens saves, loads again equal and prints, what does not is refused by its name."""
    (folder / "plan.json").write_bytes(content)
    read = _opened(folder / "plan.json")
    if isinstance(read, PlanError):
        assert str(read).startswith(f"{folder / 'plan.json'}: ")
        assert len(str(read)) < len(str(folder)) + 500
        return
    read.save(folder / "again.json")
    assert Plan.load(folder / "again.json") == read
    assert all(line.isprintable() for line in str(read).splitlines())
    assert read.weights.abs().max() <= plan_schema.MAX_WEIGHT
    if len(read.facts.blocks) == 4 * len(read.facts.guidance.calls) and len(read.timesteps) == 5:
        _placed_or_refused(read)


def _placed_or_refused(read: Plan) -> None:
    """Ask for what a plan holds at another ratio, and at fewer steps and more."""
    guidance = read.facts.guidance

    def cost_at(steps: int) -> LoopCost:
        return cost("dit", "ddim", "block", guidance.scale and 3.0, steps, guidance.split)

    with suppress(PlanError):
        at_ratio(read, 0.5, cost_at(5))
    for steps in (3, 9):
        timesteps = loop("dit", steps=steps).facts.timesteps
        other = replace(read.facts, num_inference_steps=steps, timesteps=timesteps)
        with suppress(PlanError):
            at_steps(read, other, 0.5, cost_at(steps))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_facts(granularity="own", blocks=["a", "__class__", "c", "d"]), r"no parts of this DiT"),
        (_facts(granularity="own", blocks=["transformer_blocks", "a.b", "c", "d"]), r"\['a\.b', 'c', 'd'\]"),
        (_facts(granularity="branch"), "the loop has blocks="),
        (_facts(granularity="stage"), "the loop has blocks="),
        (_facts(num_inference_steps=4), "the loop has timesteps="),
        (_facts(timesteps=[5, 4, 3, 2, 1]), "the loop has timesteps="),
        (_facts(model="UNet2DModel"), "this plan is for UNet2DModel"),
        (_facts(scheduler="\N{SNOWMAN}"), "this plan is for DiTTransformer2DModel with \N{SNOWMAN}"),
        (_facts(guidance={"scale": 1.0, "split": False}), None),
    ],
)
def test_a_plan_that_opens_applies_or_says_why(
    damage: Callable[[dict[str, Any]], Any], said: str | None, tmp_path: Path
) -> None:
    """What a stranger's plan claims is compared with the model at hand."""
    values = damage(json.loads(plan_file.written(vars(plan()))))
    (tmp_path / "plan.json").write_text(json.dumps(values), encoding="utf-8")
    read = Plan.load(tmp_path / "plan.json")
    if said is None:
        x, c = inputs("dit", 1, 1.0)
        applied = dipgo_fx.apply(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), read)
        assert run(applied, x, c).isfinite().all()
        return
    with pytest.raises(PlanError, match=said):
        dipgo_fx.apply(zoo.model("dit"), zoo.SCHEDULERS["ddim"](), read)


@st.composite
def heavy(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the values of a sound file with weights of any size, on every gate and in every mixture."""
    values = json.loads(plan_file.written(vars(_steered(0))))
    weights = st.floats(-plan_schema.MAX_WEIGHT, plan_schema.MAX_WEIGHT)
    for row in (*values["weights"], *values["frontier"][0]["weights"]):
        row[:] = [draw(st.lists(weights, min_size=3, max_size=3)) for _ in row]
    for step in range(2, 5):
        values["steering"]["mix"][step] = [draw(st.lists(weights, min_size=4, max_size=4))]
    return values


@settings(max_examples=20)
@given(values=heavy())
def test_weights_within_bounds_make_a_loop(
    values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However large they are in bounds, the SubNet is built and runs."""
    file = tmp_path_factory.getbasetemp() / "heavy.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    x, c = inputs("dit", 1)
    assert run(build(loop("dit"), Plan.load(file)), x, c).shape == x.shape


@settings(max_examples=300)
@given(content=mutants())
def test_a_tampered_file_is_refused_or_sound(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No file does harm: it is refused with a `PlanError`, or it is a plan like any other."""
    _refused_or_sound(content, tmp_path_factory.getbasetemp())


@pytest.mark.long
@settings(max_examples=12_000, suppress_health_check=[*HealthCheck])
@given(content=mutants())
def test_no_tampered_file_does_harm(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of ten thousand files and more."""
    _refused_or_sound(content, tmp_path_factory.getbasetemp())


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing beside it."""
    file = tmp_path / "plan.json"
    file.write_text("before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        plan_file.write(file, "after")
    assert file.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["plan.json"]
