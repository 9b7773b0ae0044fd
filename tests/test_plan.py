"""The plan: its file, what it refuses, and the weights that it means."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dipgo_fx
import toy
import zoo
from dipgo_fx import plan_file
from dipgo_fx.applying import build
from dipgo_fx.frontier import Point
from dipgo_fx.loop import Loop, LoopFacts
from dipgo_fx.passes import GateTable
from dipgo_fx.plan import Plan
from dipgo_fx.plan_file import PlanError
from dipgo_fx.tracing import trace
from loops import inputs, loop, run, scattered

KEEP = torch.tensor(
    [
        [True, True, True, True],
        [True, False, False, True],
        [False, False, True, True],
        [False, False, False, True],
        [False, True, False, False],
    ]
)


@cache
def plan(backup: Any = "linear") -> Plan:
    """Return a plan for the small DiT of the zoo, with all that a search adds to one."""
    scores = torch.rand(KEEP.shape, dtype=torch.float64, generator=zoo.generator())
    frontier = tuple(Point((steps,), scattered((5, 1), 3, len(steps))) for steps in ((0,), (0, 2, 3)))
    origin = {"recipe": "by hand", "seed": 3, "curve": [1.5, 0.25]}
    return replace(Plan.from_keep(loop("dit"), KEEP, backup), scores=scores, frontier=frontier, origin=origin)


# -- files


def same(mine: Plan, theirs: Plan) -> bool:
    """Tell whether two plans are equal to the last bit."""
    return mine == theirs


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    """What is read back says and does the same as what was written."""
    plan().save(tmp_path / "plan.json")
    read = Plan.load(tmp_path / "plan.json")
    assert same(read, plan())
    assert (read.keep.dtype, read.weights.dtype) == (torch.bool, torch.float64)
    assert read.blocks == loop("dit").blocks
    assert read.timesteps == loop("dit").facts.timesteps
    for mine, theirs in zip(plan().frontier, read.frontier, strict=True):
        assert mine.runs == theirs.runs
        assert theirs.weights.dtype == torch.float64
        assert torch.equal(mine.weights, theirs.weights)
    x, c = inputs("dit", 2)
    assert torch.equal(run(build(loop("dit"), read), x, c), run(build(loop("dit"), plan()), x, c))


def test_a_plan_without_scores_survives_its_file(tmp_path: Path) -> None:
    """A plan written by hand has no scores, nor has its file."""
    written = Plan.from_keep(loop("dit"), KEEP)
    written.save(tmp_path / "plan.json")
    assert same(Plan.load(tmp_path / "plan.json"), written)


def test_a_plan_survives_a_folder(tmp_path: Path) -> None:
    """`save_pretrained` makes the folder, and `from_pretrained` finds the plan in it."""
    plan().save_pretrained(tmp_path / "new" / "folder")
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == [plan_file.NAME]
    assert same(Plan.from_pretrained(tmp_path / "new" / "folder"), plan())
    assert same(Plan.from_pretrained(str(tmp_path / "new" / "folder")), plan())


def test_a_plan_file_is_readable_json(tmp_path: Path) -> None:
    """The keep table is one row of digits a step."""
    plan().save(tmp_path / "plan.json")
    values = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    assert values["keep"] == ["1111", "1001", "0011", "0001", "0100"]
    assert values["facts"]["scheduler"] == "DDIMScheduler"


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


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{
        f"no {key}": _without(key)
        for key in ("format", "facts", "keep", "weights", "ratio", "scores", "frontier", "origin")
    },
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


# -- plans that fit no loop


@pytest.mark.parametrize(
    ("key", "item"),
    [
        (("unet",), "model"),
        (("dit", "euler"), "scheduler"),
        (("dit", "ddim", "block", None, 6), "num_inference_steps"),
        (("dit", "ddim", "branch"), "blocks"),
        (("dit", "ddim", "block", 3.0), "guidance"),
    ],
)
def test_a_plan_for_another_loop_is_refused(key: tuple[Any, ...], item: str) -> None:
    """The error names what differs, on both sides, and what to do."""
    other = loop(*key)
    with pytest.raises(PlanError) as error:
        build(other, plan())
    for facts in (loop("dit").facts, other.facts):
        assert f"{item}={repr(getattr(facts, item))[:40]}" in str(error.value)
    assert "search a plan for this loop" in str(error.value)


def test_a_plan_for_other_timesteps_is_refused() -> None:
    """The same scheduler class with other noise levels is another scheduler."""
    facts = replace(loop("dit").facts, timesteps=(900, 700, 500, 300, 100))
    with pytest.raises(PlanError, match=r"timesteps=\(.*the loop has timesteps=\(900"):
        plan().check_fits(facts)


# -- plans that are none


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"table": GateTable.of(KEEP[:4])},
            r"keep must have shape \(5, 4\) \(calls of the model, blocks\), got \(4, 4\)",
        ),
        ({"scores": torch.ones(4)}, r"scores must have shape \(5, 4\)"),
        ({"table": GateTable(KEEP, torch.full((*KEEP.shape, 3), torch.inf))}, "weights must be finite"),
        ({"scores": torch.full(KEEP.shape, torch.nan)}, "scores must be finite"),
    ],
)
def test_tables_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    """A plan is checked when it is made."""
    with pytest.raises(PlanError, match=message):
        replace(plan(), **changes)


@pytest.mark.parametrize("keep", [KEEP.long(), KEEP[0]], ids=["int", "row"])
def test_a_hand_written_table_is_checked(keep: Any) -> None:
    """`from_keep` wants a bool table."""
    with pytest.raises(ValueError, match="keep must be a bool tensor"):
        Plan.from_keep(loop("dit"), keep)


@pytest.mark.parametrize("keep", [KEEP[:, :3], KEEP[:4]], ids=["narrow", "short"])
def test_a_hand_written_table_has_the_loops_shape(keep: Any) -> None:
    """A table of another loop is refused with both shapes."""
    with pytest.raises(PlanError, match=r"keep must have shape \(5, 4\)"):
        Plan.from_keep(loop("dit"), keep)


def test_a_list_is_no_table() -> None:
    """Another kind of object is named."""
    with pytest.raises(TypeError, match=r"keep must be a bool tensor .* got list"):
        Plan.from_keep(loop("dit"), cast(Any, KEEP.tolist()))


def test_step_0_must_be_kept() -> None:
    """There is nothing to reuse at the first step."""
    keep = KEEP.clone()
    keep[0, 2] = False
    with pytest.raises(ValueError, match="step 0 has no earlier value"):
        Plan.from_keep(loop("dit"), keep)


@pytest.mark.parametrize("shape", [(5, 4), (5, 3), (5, 4, 2), (5, 3, 3), (1, 5, 4, 3), ()], ids=str)
def test_weights_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    """Hand-written weights have the shape of the keep table, three values deep."""
    with pytest.raises(
        ValueError, match=rf"weights must have shape \(5, 4, 3\), got {re.escape(str(shape))}"
    ):
        Plan.from_keep(loop("dit"), KEEP, weights=torch.ones(shape))


def test_an_unknown_backup_is_refused() -> None:
    """The error lists the backups there are."""
    with pytest.raises(ValueError, match="'reuse' or 'linear', got 'cubic'"):
        Plan.from_keep(loop("dit"), KEEP, cast(Any, "cubic"))


# -- what a plan means


def test_linear_weights_by_hand() -> None:
    """At step t, with s > r computed last, a = (t - s) / (s - r) ahead: 1 + a and -a.

    Where only one step was computed that one repeats.
    """
    keep = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]).bool()
    ahead = torch.tensor(
        [
            [0, 0, 0],
            [0, 0, 0],  # only step 0 was computed
            [1, 0, 0],  # steps 0, 1: one step on
            [2, 0, 0.5],  # block 2: steps 0, 2
            [0, 1 / 3, 1],  # block 1: steps 0, 3
            [1 / 3, 2 / 3, 1.5],  # block 0: steps 1, 4
        ],
        dtype=torch.float64,
    )
    linear, reuse = GateTable.of(keep, "linear").weights, GateTable.of(keep, "reuse").weights
    assert torch.equal(linear, torch.stack([1 + ahead, -ahead, 0 * ahead], -1))
    assert torch.equal(reuse, torch.tensor([1.0, 0, 0], dtype=torch.float64).expand(6, 3, 3))
    assert linear.dtype == reuse.dtype == torch.float64


def test_a_linear_backup_goes_on_in_a_straight_line() -> None:
    """A block whose value grows evenly over the steps is extrapolated to where it would be."""

    class Clock(toy.Stack):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return self.layers[0](timestep[:, None].to(sample.dtype)) + 0 * sample

    graph = trace(
        Clock(torch.nn.Linear(1, 3)),
        toy.Step(lambda prediction, sample: prediction),
        6,
        sample=toy.sample(),
        conditioning={},
        granularity="stage",
    )
    keep = torch.tensor([[1], [0], [1], [0], [0], [0]]).bool()
    pruned = build(graph, Plan.from_keep(graph, keep, "linear"))
    torch.testing.assert_close(run(pruned, toy.sample(), {}), run(graph, toy.sample(), {}))
    reused = run(build(graph, Plan.from_keep(graph, keep)), toy.sample(), {})
    assert not torch.allclose(reused, run(graph, toy.sample(), {}), atol=1e-3)


@pytest.mark.parametrize("kept", [(0, 1, 2), (0, 2, 3), (0, 1, 4), (0, 1, 2, 4)], ids=str)
def test_three_values_go_on_in_a_parabola(kept: tuple[int, ...]) -> None:
    """Lagrange's weights of the last three values, newest first, hit whatever is quadratic in time."""

    class Thrown(toy.Stack):
        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            time = timestep[:, None].to(sample.dtype)
            return self.layers[0](torch.cat([time**2, time], 1)) + 0 * sample

    x = toy.sample().double()
    last = toy.Step(lambda prediction, sample: prediction)
    for steps in range(kept[-1] + 2, 8):
        model = Thrown(torch.nn.Linear(2, 3)).double()
        graph = trace(model, last, steps, sample=x, conditioning={}, granularity="stage")
        newest = kept[:-4:-1]
        weights = torch.zeros(steps, 1, 3, dtype=torch.float64)
        for k, at in enumerate(newest):
            others = [other for other in newest if other != at]
            weights[-1, 0, k] = math.prod((steps - 1 - other) / (at - other) for other in others)
        keep = torch.tensor([[t in kept] for t in range(steps)])
        plan = Plan.from_keep(graph, keep, weights=weights)
        assert plan.history == 3
        torch.testing.assert_close(run(build(graph, plan), x, {}), run(graph, x, {}))


def test_weights_mean_nothing_where_a_block_is_kept() -> None:
    """Two ways of writing one plan give equal tables."""
    weights = torch.full((*KEEP.shape, 3), 1.7)
    written = Plan.from_keep(loop("dit"), KEEP, weights=weights)
    assert (written.weights[KEEP] == torch.tensor([1.0, 0.0, 0.0])).all()
    assert torch.equal(written.weights[~KEEP], weights[~KEEP].double())


def test_the_history_is_read_off_the_weights() -> None:
    """A plan that repeats everything reads one value, and one whose third weights are 0 reads two."""
    assert plan("reuse").history == 1
    assert plan("linear").history == 2
    assert Plan.from_keep(loop("dit"), torch.ones_like(KEEP), "linear").history == 1
    weights = GateTable.of(KEEP).weights.clone()
    for entry, history in [
        ((1, 0, 0), 1),
        ((0.5, 0, 0), 2),
        ((0, 0, 0), 2),
        ((1, 0.5, 0), 2),
        ((1, 0, -2), 3),
    ]:
        weights[4, 3] = torch.tensor(entry)
        assert GateTable(KEEP, weights).history == history


def test_the_ratio_is_that_of_the_subnet() -> None:
    """A plan that keeps all removes nothing, one that keeps step 0 alone all but one step."""
    graph = loop("dit")
    assert Plan.from_keep(graph, torch.ones_like(KEEP)).ratio == 0
    first = torch.zeros_like(KEEP)
    first[0] = True
    # What blocks do not hold (embeddings that still run) is part of the rest.
    assert 0.7 < Plan.from_keep(graph, first).ratio <= 0.8


def test_a_plan_prints_as_a_table() -> None:
    """One line a block: what runs, is dead, repeats, forecasts; then MACs by step, and a legend."""
    lines = str(plan()).splitlines()
    assert lines[0].startswith("DiTTransformer2DModel, DDIMScheduler, ")
    drawn = [line.split()[-1] for line in lines[1:-2]]
    live = plan().cost.reads.liveness(plan().table)
    for n, row in enumerate(drawn):
        for t, glyph in enumerate(row):
            assert (glyph == "#") == live.runs(t, n)
            assert (glyph in "./") == live.reads_backup(t, n)
    assert lines[-2].startswith("MACs kept")
    assert "- dead, nobody reads it" in lines[-1]


def test_a_dead_block_is_drawn_as_dead() -> None:
    """A skipped step forecasts its head; the blocks before it are read by nobody, open or closed."""
    keep = torch.ones_like(KEEP)
    keep[2, -1] = False
    rows = str(Plan.from_keep(loop("dit"), keep)).splitlines()[1:]
    assert [row.split()[-1] for row in rows[:4]] == ["##-##"] * 3 + ["##.##"]
    assert rows[4].split()[-1] == "##0##"


@pytest.mark.parametrize("name", ["halves", "paper"])
def test_a_file_of_format_3_is_read(name: str) -> None:
    """Old plans load and apply, and what they lack is said."""
    old = Plan.load(Path(__file__).parent / "data" / f"plan-format-3-{name}.json")
    assert "format 3" in str(old)
    with pytest.raises(PlanError, match="apply it to its model"):
        old.states()
    scheduler = zoo.SCHEDULERS["euler-a" if name == "halves" else "ddim"]()
    applied = dipgo_fx.apply(zoo.model("dit"), scheduler, old)
    assert applied.plan.table == old.table
    assert applied.plan.ratio == pytest.approx(1 - applied.plan.cost.kept(old.table))
    assert dipgo_fx.apply(zoo.model("dit"), scheduler, old, ratio=0.3).plan.ratio >= 0.3


def test_plans_compare_by_value() -> None:
    """Equal plans are equal, and any difference shows."""
    assert plan() == plan()
    assert plan() != plan("reuse")
    assert plan() != replace(plan(), ratio=0.1)
    assert plan() != replace(plan(), scores=torch.ones(KEEP.shape, dtype=torch.float64))
    assert plan() != replace(plan(), frontier=())
    assert plan() != "a plan"


def test_a_loop_tells_its_blocks() -> None:
    """Facts of a loop are those of its plan."""
    graph: Loop = loop("dit")
    assert plan().blocks == graph.blocks
    assert graph.num_steps == len(plan().timesteps) == 5
