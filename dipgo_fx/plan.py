"""The plan: which block is computed at which step. The durable artefact of a search."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from .macs import LoopCost
from .passes import ORDER, Backup
from .passes.liveness import last_kept
from .schedules import Runs
from .tracing import Loop, LoopFacts

FILE_NAME = "plan.json"
FORMAT = 3
ORDERS: dict[Backup, int] = {"reuse": 1, "linear": 2}
"""How many computed values each kind of backup reads."""


class PlanError(ValueError):
    """A plan is damaged, or belongs to another loop; the message names what differs."""


@dataclass(frozen=True)
class Rung:
    """A plan of the ladder that a search leaves: which steps run, and what the others read.

    `runs` are the steps at which each half of a step runs whole (one half, unless guidance is split).
    `weights` is `(T, R, 3)`: of the R blocks that the model's predictions read (mostly one a half, the
    output head), which are all that a skipped half reads.
    """

    runs: Runs
    weights: torch.Tensor


@dataclass(frozen=True)
class Plan:
    """A `(T, N)` keep table and where it came from.

    Attributes:
        facts: the loop it was made for.
        keep: `(T, N)` bool; false means that readers of the block take its backup. Row 0 is true.
        weights: `(T, N, 3)` float64, what a closed gate reads: this much of the block's last computed
            value, of the one before and of the one before that. `(1, 0, 0)` repeats the last value (the
            paper's reuse); entries where `keep` is true mean nothing and are that.
        ratio: share of the loop's MACs that the plan removes, in [0, 1).
        scores: `(T, N)` float64 importance of every gate, from which `at` makes plans of other ratios;
            `None` for a plan written by hand.
        rungs: whole-step plans for other ratios and step counts, fitted by the same search, cheap to dear.
        origin: where the plan came from: recipe, seed, losses, versions; plain JSON values.
    """

    facts: LoopFacts
    keep: torch.Tensor
    weights: torch.Tensor
    ratio: float
    scores: torch.Tensor | None = None
    rungs: tuple[Rung, ...] = ()
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `PlanError` if a table does not fit the loop."""
        shape = (len(self.facts.timesteps), len(self.facts.blocks))
        for name in ("keep", "weights", "scores"):
            table = getattr(self, name)
            expected = (*shape, ORDER) if name == "weights" else shape
            if table is not None and tuple(table.shape) != expected:
                raise PlanError(
                    f"{name} must have shape {expected} (calls of the model, blocks"
                    f"{', values' * (name == 'weights')}), got {tuple(table.shape)}"
                )
        if self.keep.dtype != torch.bool:
            raise PlanError(f"keep must be a bool tensor, got {self.keep.dtype}")
        if not bool(self.keep[0].all()):
            raise PlanError("keep[0] must be true for every block: step 0 has no earlier value to read")
        for name in ("weights", "scores"):
            table = getattr(self, name)
            if table is not None and not bool(torch.isfinite(table).all()):
                raise PlanError(f"{name} must be finite")

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
            weights: `(T, N, 3)`, in place of those that `backup` gives.
        """
        keep = torch.as_tensor(keep).cpu()
        if keep.dtype != torch.bool or keep.dim() != 2:
            raise PlanError(f"keep must be a bool tensor (T, N), got {keep.dtype} {tuple(keep.shape)}")
        if weights is None:
            weights = backup_weights(keep, backup)
        draft = cls(loop.facts, keep, _tidy(weights, keep), 0.0)
        share = LoopCost.of(loop).share(keep.tolist(), draft.weights.tolist())
        return replace(draft, ratio=1 - share)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Paths of the N blocks."""
        return self.facts.blocks

    @property
    def timesteps(self) -> tuple[float, ...]:
        """Noise levels of the T calls of the model."""
        return self.facts.timesteps

    @property
    def order(self) -> int:
        """How many computed values of its block a closed gate reads at most; 1 is the paper's reuse."""
        return order_of(self.weights)

    def __str__(self) -> str:
        """Return a table for a terminal: `#` runs (if read), `.` repeats, `/` forecasts."""
        facts = self.facts
        kinds = torch.where(self.keep, 0, torch.where(repeats(self.weights), 1, 2))
        head = f"{facts.model}, {facts.scheduler}, {self.ratio:.1%} of MACs removed"
        width = max(map(len, facts.blocks))
        rows = [
            f"{block:<{width}}  {''.join('#./'[kind] for kind in kinds[:, n].tolist())}"
            for n, block in enumerate(facts.blocks)
        ]
        return "\n".join([head, *rows])

    def check_fits(self, facts: LoopFacts) -> None:
        """Raise `PlanError` naming both sides if the plan was made for another loop."""
        for item in fields(LoopFacts):
            mine, theirs = getattr(self.facts, item.name), getattr(facts, item.name)
            if mine != theirs:
                raise PlanError(
                    f"this plan is for {item.name}={_short(mine)}, the loop has {item.name}="
                    f"{_short(theirs)}: search a plan for this loop, or use the plan's own model, "
                    "scheduler and number of steps"
                )

    # -- files

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON."""
        Path(path).write_text(json.dumps(self._as_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan. Raises `PlanError` for a damaged file."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls._from_dict(values)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
            if isinstance(error, PlanError):
                raise PlanError(f"{path}: {error}") from error
            kind = type(error).__name__
            raise PlanError(f"{path} is not a whole plan file ({kind}: {error}); save it again") from error

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the plan as `plan.json` into a folder, made if it is missing."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.save(Path(folder) / FILE_NAME)

    @classmethod
    def from_pretrained(cls, source: str | Path, **download: Any) -> Plan:
        """Read `plan.json` from a local folder, else from a repository of the Hugging Face hub.

        `download` goes to `huggingface_hub.hf_hub_download` (`revision`, `token`, `cache_dir`, ...).
        """
        if Path(source).is_dir():
            return cls.load(Path(source) / FILE_NAME)
        from huggingface_hub import hf_hub_download

        return cls.load(hf_hub_download(str(source), FILE_NAME, **download))

    def push_to_hub(self, repo_id: str, *, token: str | None = None, private: bool = False) -> str:
        """Upload `plan.json` to a repository of the hub, made if it is missing; return its address."""
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        data = json.dumps(self._as_dict(), indent=1).encode()
        return str(api.upload_file(path_or_fileobj=data, path_in_repo=FILE_NAME, repo_id=repo_id))

    def _as_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "facts": asdict(self.facts),
            "ratio": self.ratio,
            "keep": ["".join("01"[kept] for kept in row) for row in self.keep.tolist()],
            "weights": self.weights.tolist(),
            "scores": None if self.scores is None else self.scores.tolist(),
            "rungs": [{"runs": r.runs, "weights": r.weights.tolist()} for r in self.rungs],
            "origin": self.origin,
        }

    @classmethod
    def _from_dict(cls, values: dict[str, Any]) -> Plan:
        if values["format"] != FORMAT:
            raise PlanError(f"plan format {values['format']} is not {FORMAT}, the one this version reads")
        facts: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values["facts"].items()
        }
        if set("".join(values["keep"])) - {"0", "1"}:
            raise PlanError("keep may only hold 0 and 1")
        scores, ratio = values["scores"], float(values["ratio"])
        if not (math.isfinite(ratio) and 0 <= ratio < 1):
            raise PlanError(f"ratio must lie in [0, 1), got {ratio}")
        made = LoopFacts(**facts)
        return cls(
            facts=made,
            keep=torch.tensor([[char == "1" for char in row] for row in values["keep"]]),
            weights=torch.tensor(values["weights"], dtype=torch.float64),
            ratio=ratio,
            scores=None if scores is None else torch.tensor(scores, dtype=torch.float64),
            rungs=tuple(_rung(rung, len(made.timesteps), made.halves) for rung in values["rungs"]),
            origin=dict(values["origin"]),
        )


def _rung(values: dict[str, Any], num_steps: int, halves: int) -> Rung:
    runs = tuple(tuple(int(step) for step in steps) for steps in values["runs"])
    weights = torch.tensor(values["weights"], dtype=torch.float64)
    if len(runs) != halves:
        raise PlanError(f"a rung's runs must be {halves} lists of steps, got {len(runs)}")
    for steps in runs:
        if not steps or steps[0] != 0 or list(steps) != sorted({*steps}) or steps[-1] >= num_steps:
            raise PlanError(f"a rung's steps must rise from 0 within {num_steps} steps, got {steps}")
    if weights.dim() != 3 or (len(weights), weights.shape[2]) != (num_steps, ORDER):
        raise PlanError(f"a rung's weights must be ({num_steps}, R, {ORDER}), got {tuple(weights.shape)}")
    if not bool(torch.isfinite(weights).all()):
        raise PlanError("a rung's weights must be finite")
    return Rung(runs, weights)


def backup_weights(keep: torch.Tensor, backup: Backup) -> torch.Tensor:
    """Return the `(T, N, 3)` float64 weights of closed gates that `backup` stands for.

    `linear` at step t, with the block's last two computed steps s > r: `1 + (t - s) / (s - r)` of the last
    value and what is missing to 1 of the one before; only the last where one step was computed so far.
    """
    if backup not in ("reuse", "linear"):
        raise ValueError(f"backup must be 'reuse' or 'linear', got {backup!r}")
    weights = torch.zeros((*keep.shape, ORDER), dtype=torch.float64)
    weights[..., 0] = 1
    if backup == "linear":
        for t, row in enumerate(last_kept(keep.tolist())):
            for n, (last, previous, _) in enumerate(row):
                if last != previous and not keep[t, n]:
                    ahead = (t - last) / (last - previous)
                    weights[t, n, :2] = torch.tensor([1 + ahead, -ahead], dtype=torch.float64)
    return weights


def order_of(weights: torch.Tensor) -> int:
    """Return how many computed values a gate needs at hand for weights `(T, N, 3)`: 1 if all repeat."""
    if bool(repeats(weights).all()):
        return 1
    return 3 if bool((weights[..., 2] != 0).any()) else 2


def repeats(weights: torch.Tensor) -> torch.Tensor:
    """Return the `(T, N)` bool table of the entries that repeat the last computed value."""
    return (weights == torch.tensor([1.0, 0.0, 0.0], dtype=weights.dtype)).all(-1)


def _tidy(weights: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Put (1, 0, 0) where weights mean nothing, so that equal plans are equal tables."""
    weights = torch.as_tensor(weights).detach().cpu().double()
    if weights.shape != (*keep.shape, ORDER):
        raise PlanError(f"weights must have shape {(*keep.shape, ORDER)}, got {tuple(weights.shape)}")
    return torch.where(keep[..., None], backup_weights(keep, "reuse"), weights)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
