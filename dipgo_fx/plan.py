"""The plan: which block is computed at which step. The durable artefact of a search."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, hf_hub_download

from . import plan_file
from .arguments import check
from .cost import LoopCost
from .errors import PlanError
from .frontier import Point, check_steering
from .loop import Loop, LoopFacts
from .passes import Backup, GateTable, Steering
from .passes.equality import ComparedByValue
from .states import drawn, states_of

RATIO_DIGITS = 1e-6
"""How far a ratio may be from what the gates remove."""


@dataclass(frozen=True, eq=False)
class Plan(ComparedByValue):
    """A gate table and where it came from.

    Attributes:
        facts: the loop it was made for.
        table: which gates are open, and what a closed one reads.
        ratio: share of the loop's MACs that the plan removes, in [0, 1).
        scores: `(T, N)` float64 importance of every gate, which a plan of another ratio is thresholded
            from if there is no frontier; `None` for a plan written by hand.
        frontier: plans of whole steps for other ratios and step counts, fitted by the same search, cheap
            to dear.
        cost: what the parts of the loop cost and who reads whom; `None` in files of format 3.
        origin: where the plan came from: recipe, seed, losses, versions; plain JSON values. Of a plan
            that was made from another one `derived_from` is that one's origin.
        steering: what the model's calls are told and how their predictions are mixed, at no MACs; `None` if
            they are as they are.

    Example:
        >>> from dipgo_fx.demo.models import load
        >>> model, scheduler = load("dit")
        >>> loop = dipgo_fx.trace(model, scheduler, num_inference_steps=4)
        >>> keep = torch.ones(4, len(loop.blocks), dtype=torch.bool)
        >>> keep[2:, :4] = False  # from step 2 on the first four blocks do not run
        >>> plan = dipgo_fx.Plan.from_keep(loop, keep)
        >>> print(plan)
        DiTTransformer2DModel, DDIMScheduler, 24.9% of MACs removed
        transformer_blocks.0  ##--
        transformer_blocks.1  ##--
        transformer_blocks.2  ##--
        transformer_blocks.3  ##..
        transformer_blocks.4  ####
        transformer_blocks.5  ####
        transformer_blocks.6  ####
        transformer_blocks.7  ####
        proj_out_2            ####
        MACs kept             ##55
        (# runs, - dead, nobody reads it, . repeats, / forecasts; MACs in tenths of a step, # all)
        >>> plan.save("plan.json")
        >>> dipgo_fx.Plan.load("plan.json") == plan
        True
    """

    facts: LoopFacts
    table: GateTable
    ratio: float
    scores: torch.Tensor | None = None
    frontier: tuple[Point, ...] = ()
    cost: LoopCost | None = None
    origin: dict[str, Any] = field(default_factory=dict)
    steering: Steering | None = None

    def __post_init__(self) -> None:
        """Raise `TypeError` for a field of another kind, `PlanError` if fields do not fit each other."""
        self._check_kinds()
        shape = (len(self.facts.timesteps), len(self.facts.blocks))
        for name, table in (("keep", self.keep), ("scores", self.scores)):
            if table is not None and tuple(table.shape) != shape:
                raise PlanError(
                    f"{name} must have shape {shape} (calls of the model, blocks), got {tuple(table.shape)}"
                )
        if self.scores is not None and (self.scores.is_complex() or not bool(self.scores.isfinite().all())):
            raise PlanError("scores must be finite numbers")
        if not 0 <= self.ratio < 1:
            raise PlanError(f"ratio must lie in [0, 1), got {self.ratio}")
        for point in self.frontier:
            self._check_point(point)
        check_steering(self.steering, len(self.timesteps), len(self.facts.guidance.calls))
        self._check_first()
        if self.cost is not None:
            self._check_cost(self.cost)

    def _check_kinds(self) -> None:
        check("facts", self.facts, LoopFacts, "the facts of a loop")
        check("table", self.table, GateTable, "a GateTable")
        check("ratio", self.ratio, Real, "a number, the share of MACs that is removed")
        check("scores", self.scores, (torch.Tensor, type(None)), "a tensor (T, N) or None")
        check("frontier", self.frontier, tuple, "a tuple of points")
        for point in self.frontier:
            check("each of frontier", point, Point, "a Point")
        check("cost", self.cost, (LoopCost, type(None)), "a LoopCost or None")
        check("origin", self.origin, dict, "a dictionary of plain values")
        check("steering", self.steering, (Steering, type(None)), "a Steering or None")
        object.__setattr__(self, "ratio", float(self.ratio))
        if not plan_file.is_plain(self.origin):
            raise PlanError(f"origin must hold what JSON can hold, got {self.origin!r:.200}")

    def _check_first(self) -> None:
        """Check that the sample stands for predictions where, and only where, nothing ran so far."""
        first = 0 if self.steering is None else self.steering.first
        if self.table.first != first:
            raise PlanError(
                f"keep[{first}] must be the first row that keeps blocks, as the steering says, got "
                f"{self.table.first}: no step before it has a value to read"
            )

    def _check_point(self, point: Point) -> None:
        steps, calls = len(self.timesteps), len(self.facts.guidance.calls)
        if (len(point.runs), len(point.weights)) != (calls, steps) or point.runs[-1][-1] >= steps:
            raise PlanError(
                f"a point of the frontier must be of {calls} calls and {steps} steps, got "
                f"{len(point.runs)} calls, {len(point.weights)} steps and {point.runs[-1]}"
            )

    def _check_cost(self, cost: LoopCost) -> None:
        sizes = len(self.timesteps), len(self.blocks), len(self.facts.guidance.calls)
        if (cost.num_steps, cost.num_blocks, cost.num_calls) != sizes:
            raise PlanError(
                f"cost must be of a loop of {sizes} steps, blocks and calls per step, got "
                f"{(cost.num_steps, cost.num_blocks, cost.num_calls)}"
            )
        removed = 1 - cost.kept(self.table)
        if abs(removed - self.ratio) > RATIO_DIGITS:
            raise PlanError(f"ratio is {self.ratio}, but the gates remove {removed} of the loop's MACs")
        for point in self.frontier:
            point.check_fits(cost)

    @classmethod
    def from_keep(
        cls,
        loop: Loop,
        keep: torch.Tensor,
        backup: Backup = "reuse",
        *,
        weights: torch.Tensor | None = None,
    ) -> Plan:
        """Return a plan written by hand.

        Args:
            loop: the traced loop that it is for.
            keep: `(T, N)` bool, row 0 true; columns in the order of `loop.blocks`.
            backup: `reuse` reads a block's last computed value, `linear` extrapolates the last two.
            weights: `(T, N, 3)`, in place of those that `backup` stands for.

        Raises:
            TypeError: an argument of another kind, by name.
            ValueError: tables of other shapes, a closed gate at step 0, an unknown backup, weights that are
                not finite or come with a backup.

        Example:
            >>> from dipgo_fx.demo.models import load
            >>> loop = dipgo_fx.trace(*load("dit"), num_inference_steps=4)
            >>> keep = torch.ones(4, len(loop.blocks), dtype=torch.bool)
            >>> keep[1::2] = False
            >>> plan = dipgo_fx.Plan.from_keep(loop, keep, backup="linear")
            >>> plan.ratio, plan.history
            (0.5, 2)
        """
        check("loop", loop, Loop, "a loop that trace() returned")
        check("keep", keep, torch.Tensor, "a bool tensor (T, N)")
        if weights is None:
            table = GateTable.of(keep, backup)
        else:
            check("weights", weights, torch.Tensor, "a tensor (T, N, 3)")
            if backup != "reuse":
                raise ValueError(f"weights say what a closed gate reads: leave backup={backup!r} out")
            table = GateTable(keep, weights)
        plan = cls(loop.facts, table, 0.0)  # refuses a table of another shape
        cost = LoopCost.of(loop)
        return replace(plan, ratio=1 - cost.kept(table), cost=cost)

    @property
    def search_origin(self) -> dict[str, Any]:
        """The origin of the search that this plan is from, also if it was made from another plan since."""
        origin: dict[str, Any] = self.origin.get("derived_from", self.origin)
        return origin

    @property
    def keep(self) -> torch.Tensor:
        """`(T, N)` bool, see `GateTable`; a copy, to write another plan from."""
        return self.table.keep.clone()

    @property
    def weights(self) -> torch.Tensor:
        """`(T, N, 3)` float64, see `GateTable`; a copy."""
        return self.table.weights.clone()

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the N blocks."""
        return self.facts.blocks

    @property
    def timesteps(self) -> tuple[float, ...]:
        """Noise levels of the T calls of the model."""
        return self.facts.timesteps

    @property
    def history(self) -> int:
        """How many computed values of its block a closed gate reads at most; 1 is the paper's reuse."""
        return self.table.history

    def states(self) -> torch.Tensor:
        """Return the `(T, N)` int64 table of what becomes of each block, see `State`.

        Raises `PlanError` for a plan without `cost`.
        """
        return states_of(self.table, self._known_cost().reads.liveness(self.table))

    def kept_by_step(self) -> list[float]:
        """Return what each of the T steps costs, as a share of an unpruned step; raises as `states` does."""
        cost = self._known_cost()
        return cost.kept_by_step(cost.reads.liveness(self.table))

    def _known_cost(self) -> LoopCost:
        if self.cost is None:
            raise PlanError(
                "this plan does not know who reads whom in its loop (files of format 3 do not say): "
                "dipgo_fx.apply it to its model, the plan of the loop that comes back does"
            )
        return self.cost

    def __str__(self) -> str:
        """Return a table for a terminal: what becomes of each block at each step, MACs, and a legend."""
        head = f"{self.facts.model}, {self.facts.scheduler}, {self.ratio:.1%} of MACs removed"
        if self.cost is None:
            return f"{head}\n(apply the plan to see what runs: it does not know who reads whom)"
        lines = [head, *drawn(self.blocks, self.states(), self.kept_by_step())]
        if self.steering is not None:
            first = self.steering.first
            late = f"; before step {first} some of the sample stands for the prediction" if first else ""
            lines.append(f"(calls are steered: told timesteps, mixed predictions{late})")
        return "\n".join(lines)

    def check_fits(self, facts: LoopFacts) -> None:
        """Raise `PlanError` naming both sides if the plan was made for another loop."""
        check("facts", facts, LoopFacts, "the facts of a loop, as loop.facts")
        for item in fields(LoopFacts):
            mine, theirs = getattr(self.facts, item.name), getattr(facts, item.name)
            if mine != theirs:
                raise PlanError(
                    f"this plan is for {item.name}={_short(mine)}, the loop has {item.name}="
                    f"{_short(theirs)}: search a plan for this loop, or use the plan's own model, "
                    "scheduler and number of steps"
                )

    # -- files, see plan_file.py

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON: a file that is there is replaced as a whole, or left as it is.

        Raises `PlanError` for a plan that could not be read again, `OSError` where there is no room.
        """
        check("path", path, (str, Path), "the path of a file to write")
        plan_file.write(Path(path), plan_file.written(vars(self)))

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan. Raises `PlanError` for a damaged file."""
        check("path", path, (str, Path), "the path of a plan file")
        fields = plan_file.read(path)
        try:
            return cls(**fields)
        except PlanError as error:
            raise PlanError(f"{path}: {error}") from error

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the plan as `plan.json` into a folder, made if it is missing."""
        check("folder", folder, (str, Path), "the path of a folder")
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.save(Path(folder) / plan_file.NAME)

    @classmethod
    def from_pretrained(cls, source: str | Path, **download: Any) -> Plan:
        """Read `plan.json` from a local folder, else from a repository of the Hugging Face hub.

        `download` goes to `huggingface_hub.hf_hub_download` (`revision`, `token`, `cache_dir`, ...).
        """
        check("source", source, (str, Path), "a folder or the name of a repository")
        if Path(source).is_dir():
            return cls.load(Path(source) / plan_file.NAME)
        return cls.load(hf_hub_download(str(source), plan_file.NAME, **download))

    def push_to_hub(self, repo_id: str, *, token: str | None = None, private: bool = False) -> str:
        """Upload `plan.json` to a repository of the hub, made if it is missing; return its address."""
        check("repo_id", repo_id, str, "the name of a repository, such as 'user/name'")
        check("token", token, (str, type(None)), "a text, or None for the one that is logged in")
        check("private", private, bool, "True or False")
        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        data = plan_file.written(vars(self)).encode()
        return str(api.upload_file(path_or_fileobj=data, path_in_repo=plan_file.NAME, repo_id=repo_id))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
