"""The plan: which block is computed at which step. The durable artefact of a search."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from .macs import LoopCost
from .passes import Backup
from .passes.liveness import last_kept
from .tracing import Loop, LoopFacts

FILE_NAME = "plan.json"
FORMAT = 1


class PlanError(ValueError):
    """A plan is damaged, or belongs to another loop; the message names what differs."""


@dataclass(frozen=True)
class Plan:
    """A `(T, N)` keep table and where it came from.

    Attributes:
        facts: the loop it was made for.
        keep: `(T, N)` bool; false means that readers of the block take its backup. Row 0 is true.
        weights: `(T, N)` float64, what a closed gate reads: `previous + weight * (last - previous)` of
            the block's last two computed values. 1 repeats the last value (the paper's reuse), more
            extrapolates. Entries where `keep` is true mean nothing and are 1.
        ratio: share of the loop's MACs that the plan removes, in [0, 1).
        scores: `(T, N)` float64 importance of every gate, from which `at` makes plans of other ratios;
            `None` for a plan written by hand.
        origin: where the plan came from: recipe, seed, losses, versions; plain JSON values.
    """

    facts: LoopFacts
    keep: torch.Tensor
    weights: torch.Tensor
    ratio: float
    scores: torch.Tensor | None = None
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `PlanError` if a table does not fit the loop."""
        shape = (len(self.facts.timesteps), len(self.facts.blocks))
        for name in ("keep", "weights", "scores"):
            table = getattr(self, name)
            if table is not None and tuple(table.shape) != shape:
                raise PlanError(
                    f"{name} must have shape {shape} (calls of the model, blocks), got {tuple(table.shape)}"
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
            weights: `(T, N)`, in place of those that `backup` gives.
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
    def backup(self) -> Backup:
        """`reuse` if every closed gate repeats the last value, else `linear`."""
        return "reuse" if bool((self.weights == 1).all()) else "linear"

    def __str__(self) -> str:
        """Return a table for a terminal: `#` runs (if read), `.` repeats, `/` extrapolates."""
        facts = self.facts
        kinds = torch.where(self.keep, 0, torch.where(self.weights == 1, 1, 2))
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
        return cls(
            facts=LoopFacts(**facts),
            keep=torch.tensor([[char == "1" for char in row] for row in values["keep"]]),
            weights=torch.tensor(values["weights"], dtype=torch.float64),
            ratio=ratio,
            scores=None if scores is None else torch.tensor(scores, dtype=torch.float64),
            origin=dict(values["origin"]),
        )


def backup_weights(keep: torch.Tensor, backup: Backup) -> torch.Tensor:
    """Return the `(T, N)` float64 weights of closed gates that `backup` stands for.

    `linear` at step t, with the block's last two computed steps s > r: `1 + (t - s) / (s - r)`; 1 where
    only one step was computed so far.
    """
    if backup not in ("reuse", "linear"):
        raise ValueError(f"backup must be 'reuse' or 'linear', got {backup!r}")
    weights = torch.ones(keep.shape, dtype=torch.float64)
    if backup == "linear":
        for t, row in enumerate(last_kept(keep.tolist())):
            for n, (last, previous) in enumerate(row):
                if last != previous and not keep[t, n]:
                    weights[t, n] = 1 + (t - last) / (last - previous)
    return weights


def _tidy(weights: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Put 1 where a weight means nothing, so that equal plans are equal tables."""
    weights = torch.as_tensor(weights).detach().cpu().double()
    if weights.shape != keep.shape:
        raise PlanError(f"weights must have shape {tuple(keep.shape)}, got {tuple(weights.shape)}")
    return torch.where(keep, torch.ones_like(weights), weights)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
