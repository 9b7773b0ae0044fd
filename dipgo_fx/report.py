"""What a compilation did: the report that a pruned loop carries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from .macs import Cost, amount
from .passes import PassRecord
from .passes.equality import ComparedByValue
from .plan import Plan
from .report_maps import check_maps, maps_pictures
from .report_page import document, fragment, paragraph, printable, section, states_picture, table
from .report_plots import Pair, curve_picture, frontier_picture
from .report_strips import check_images, strips_table
from .states import State

SMALLEST, LARGEST = 1e-300, 1e300
"""Numbers beyond are not drawn."""


@dataclass(frozen=True, eq=False)
class Report(ComparedByValue):
    """What `prune` or `apply` did.

    `str(report)` is for a terminal, `report.html()` a page, and notebooks show the same by themselves.

    Attributes:
        before: MACs of the unpruned loop for one sample.
        after: MACs of the pruned loop.
        states: `(T, N)` int64, a `State` each: what becomes of each block at each step.
        passes: one record a pass.
        origin: where the plan came from, see `Plan.origin`.
        plan: the plan that was compiled, with its cost; a page without it has no pictures of blocks and of
            the frontier.
    """

    before: Cost
    after: Cost
    states: torch.Tensor
    passes: tuple[PassRecord, ...]
    origin: dict[str, Any]
    plan: Plan | None = None

    @property
    def ratio(self) -> float:
        """Share of MACs removed, attention counted."""
        return 1 - self.after.total / self.before.total

    @property
    def ratio_without_attention(self) -> float:
        """Share of MACs removed when attention's matrix products are not counted."""
        return 1 - self.after.without_attention / self.before.without_attention

    @property
    def _calls(self) -> tuple[int, int]:
        """How many calls of blocks there are, and how many are left."""
        return self.states.numel(), int((self.states == State.RUNS).sum())

    def __str__(self) -> str:
        """Return a few lines for a terminal."""
        calls, left = self._calls
        lines = [
            f"MACs with attention     {self.before.total:.4g} -> {self.after.total:.4g}  "
            f"({self.ratio:.2%} removed)",
            f"MACs without attention  {self.before.without_attention:.4g} -> "
            f"{self.after.without_attention:.4g}  ({self.ratio_without_attention:.2%} removed)",
            f"block calls             {calls} -> {left}",
        ]
        shown = _single_values(self.origin).items()
        return "\n".join(lines + [f"plan {printable(key):<19}{value}" for key, value in shown])

    def html(
        self,
        *,
        similarity: Mapping[str, torch.Tensor] | None = None,
        images: Mapping[float, Sequence[Image.Image]] | None = None,
        captions: Sequence[str] = (),
    ) -> str:
        """Return a page that says and draws all of this: one file, no script, nothing from the network.

        Text from a plan's file is escaped: a stranger's plan cannot put anything of its own into the page.
        What would take runs of the model is drawn if it is given.

        Args:
            similarity: heat maps to draw, `(T, T)` in [-1, 1] for each block, as `measure_similarity` returns
                them; of more than 12 blocks 12 are drawn.
            images: images to draw, rows of equally many of one size by the share of MACs that was removed
                for them, in [0, 1): `{0: pipe(...).images, plan.ratio: ...}` with the same noise in each.
                They are made as small as 160 pixels, at most 12 rows of 8; with a row for 0, others get
                their PSNR to it.
            captions: what stands above the columns of images, prompts say.

        Raises:
            TypeError: an argument of another kind, by name.
            ValueError: tensors of other shapes or values, ratios out of range, rows of different images.
        """
        check_maps(similarity, len(self.states))
        check_images(images, captions)
        return document(self._title, fragment(self._title, self._sections(similarity, images, captions)))

    def _repr_html_(self) -> str:
        """Return the same for a notebook, as an element with a style of its own."""
        return fragment(self._title, self._sections())

    @property
    def _title(self) -> str:
        name = "" if self.plan is None else f"{self.plan.facts.model}, {self.plan.facts.scheduler}: "
        return f"{name}{self.ratio:.1%} of MACs removed"

    def _sections(
        self,
        similarity: Mapping[str, torch.Tensor] | None = None,
        images: Mapping[float, Sequence[Image.Image]] | None = None,
        captions: Sequence[str] = (),
    ) -> Iterator[str]:
        yield section("What was kept", self._kept())
        if images:
            yield section("Images", *strips_table(images, captions))
        if self.plan is not None:
            yield section("Which block runs at which step", *_states(self.plan, self.states))
        if similarity:
            yield section("How alike steps are", *maps_pictures(similarity, self._runs()))
        searched = self.origin.get("derived_from", self.origin)
        yield from _curve(searched, is_own=searched is self.origin)
        if self.plan is not None and self.plan.frontier:
            yield section("The frontier", *_frontier(self.plan, self.states))
        yield section("The plan", table((), [*_facts(self.plan), *_origin(self.origin)]))
        yield section("The passes of the compiler", _passes(self.passes))

    def _runs(self) -> dict[str, list[int]]:
        """Return at which steps each block runs, as far as names are known."""
        blocks = () if self.plan is None else self.plan.blocks
        runs = (self.states == State.RUNS).T
        return {block: row.nonzero().flatten().tolist() for block, row in zip(blocks, runs, strict=False)}

    def _kept(self) -> str:
        calls, left = self._calls
        rows = [
            (f"MACs {how} attention, for one sample", amount(before), amount(after), f"{ratio:.2%}")
            for how, before, after, ratio in (
                ("with", self.before.total, self.after.total, self.ratio),
                (
                    "without",
                    self.before.without_attention,
                    self.after.without_attention,
                    self.ratio_without_attention,
                ),
            )
        ]
        rows.append(("calls of blocks", str(calls), str(left), f"{1 - left / calls:.2%}"))
        return table(("", "unpruned", "pruned", "removed"), rows)


def _states(plan: Plan, states: torch.Tensor) -> Iterator[str]:
    cost = plan.cost
    assert cost is not None
    macs = [unit.total for unit in cost.units[: cost.num_blocks]]
    yield states_picture(plan.blocks, states, macs, plan.kept_by_step(), plan.timesteps)
    yield paragraph(
        "A row is as high as its block's MACs, but high enough to be seen. Point at a cell for names."
    )


def _curve(origin: Any, is_own: bool) -> Iterator[str]:
    """Yield what a search spent and found, if somebody searched.

    Of a plan that was made from another one the `origin` is that one's, and the loss not its own.
    """
    curve = origin.get("curve") if isinstance(origin, Mapping) else None
    points = [point for point in map(_pair, curve if isinstance(curve, list) else []) if point is not None]
    if not points:
        return
    found = _number(origin.get("loss")) if is_own else None
    line = "" if found is None else f"The dashed line is this plan's, {found:.4g}. "
    other = "" if is_own else "This plan was made from one of another search, which is shown. "
    yield section(
        "What the search tried",
        curve_picture(points, found),
        paragraph(f"{other}{line}Dots are plans of any cost, so dearer ones may lie below."),
    )


def _pair(entry: Any) -> Pair | None:
    """Return an entry of a curve, `None` for what cannot be drawn: files may hold anything."""
    if not isinstance(entry, list) or len(entry) != 2:
        return None
    spent, loss = map(_number, entry)
    return None if spent is None or loss is None else (spent, loss)


def _number(value: Any) -> float | None:
    is_drawn = type(value) in (int, float) and (value == 0 or SMALLEST <= value <= LARGEST)
    return float(value) if is_drawn else None


def _frontier(plan: Plan, states: torch.Tensor) -> Iterator[str]:
    cost = plan.cost
    assert cost is not None
    points = [(sum(map(len, p.runs)), cost.kept(p.table(cost))) for p in plan.frontier]
    running = (states == State.RUNS).reshape(len(states), cost.num_calls, -1).any(-1)
    yield frontier_picture(points, (int(running.sum()), 1 - plan.ratio))
    yield paragraph(
        "Plans of whole steps that are at hand for other ratios, no new search; the diamond is this one."
    )


def _facts(plan: Plan | None) -> Iterator[tuple[str, object]]:
    if plan is None:
        return
    facts, guidance = plan.facts, plan.facts.guidance
    yield "model", facts.model
    yield "scheduler", facts.scheduler
    yield (
        "steps",
        f"{len(facts.timesteps)} calls of the model, {facts.num_inference_steps} asked of the scheduler",
    )
    yield "blocks", f"{len(facts.blocks)}, granularity {facts.granularity}"
    if guidance.scale is not None:
        yield "guidance", f"{guidance.scale:g}, in {'two calls' if guidance.split else 'one call'} a step"
    if plan.steering is not None:
        early = f", called first at step {plan.steering.first}" if plan.steering.first else ""
        yield "steering", f"told timesteps and mixed predictions{early}"


def _origin(origin: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield what is known of a plan, and of the one that it was made from."""
    yield from _single_values(origin).items()
    before = origin.get("derived_from")
    if isinstance(before, Mapping):
        for key, value in _single_values(before).items():
            yield f"{key} of the plan it was made from", value


def _single_values(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the values that are no lists or tables, as text on one line each."""
    single = {key: value for key, value in values.items() if not isinstance(value, (list, dict))}
    return {key: f"{v:.6g}" if isinstance(v, float) else printable(v) for key, v in single.items()}


def _passes(records: tuple[PassRecord, ...]) -> str:
    rows = [
        (r.name, "yes" if r.modified else "no", r.nodes_before, r.nodes_after, f"{r.seconds:.3f}")
        for r in records
    ]
    total = ("together", "", "", "", f"{sum(r.seconds for r in records):.3f}")
    return table(("pass", "changed", "nodes before", "nodes after", "seconds"), [*rows, total])
