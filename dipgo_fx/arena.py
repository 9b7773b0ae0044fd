"""Where a search judges candidate plans: builds SubNets, measures losses, keeps the account."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn

from .calibration import Batch
from .config import PruneConfig
from .losses import consistency_loss, ssim
from .macs import LoopCost
from .newton import Resumable, directions, newton_step
from .passes import BindGates, DropDeadBlocks, InsertGates, Pipeline
from .passes.insert_gates import WEIGHTS
from .passes.split_steps import split_steps
from .plan import backup_weights, order_of
from .schedules import Runs, keep_table
from .steps import run_checkpointed, steer
from .threshold import any_weights
from .tracing import Loop

FEWEST = 8
"""Samples of a Gauss-Newton step, at least: fewer say little about others."""
CALMED, SLACK = (0.0, 0.25, 0.5, 0.75, 1.0), 1.25
"""Shares of plain repeats that `calmed` tries, and by what factor they may raise the loss."""


@dataclass(frozen=True)
class Draft:
    """A candidate plan: keep table `(T, N)`, weights `(T, N, 3)`, its judgement; how it was made.

    `loss` is the search's, `unlikeness` is 1 - SSIM (1 for samples that are no images). `order` is how
    many computed values its gates may read when weights are fitted or learned, `runs` and `shell` what
    the keep table was made from, see `keep_table`.
    """

    keep: torch.Tensor
    weights: torch.Tensor
    loss: float = math.inf
    unlikeness: float = 1.0
    name: str = ""
    order: int = 2
    runs: Runs = field(default=(), compare=False)
    shell: tuple[int, ...] = field(default=(), compare=False)

    @property
    def rank(self) -> float:
        """What candidates are chosen by, the lower the better.

        A few samples that come out as something else make up most of an L2 loss, and say little about
        other samples; SSIM hardly notices them.
        """
        return self.loss * self.unlikeness


class Arena:
    """Judges plans of one loop on one calibration batch.

    Attributes:
        spent: compute so far, in unpruned runs of the calibration batch (a gradient step costs three
            runs of its own batch, four with recomputation).
        curve: `(spent, loss)` of every judgement on the whole batch.
        notes: facts about the search, plain JSON values.
        charged: called whenever compute was spent, to show how far a search has come.
    """

    def __init__(
        self, loop: Loop, cost: LoopCost, batch: Batch, config: PruneConfig, generator: torch.Generator
    ) -> None:
        self.loop, self.cost, self.batch, self.config = loop, cost, batch, config
        self.generator = generator
        self.spent = 1.0  # the unpruned run that made the targets
        self.curve: list[tuple[float, float]] = []
        self.notes: dict[str, Any] = {}
        self.charged: Callable[[], None] = lambda: None
        self._distance = consistency_loss(config.loss)
        self._split: tuple[fx.GraphModule, fx.GraphModule] | None = None
        self._supernets: dict[int, fx.GraphModule] = {}

    def supernet(self, order: int) -> fx.GraphModule:
        """Return the loop with all gates in place."""
        if order not in self._supernets:
            self._supernets[order] = InsertGates(order)(self.loop).graph_module
        return self._supernets[order]

    def subnet(self, draft: Draft) -> fx.GraphModule:
        """Return the SubNet of a draft."""
        order = order_of(draft.weights)
        return self._bound(draft, order, None if order == 1 else _rows(draft.weights.tolist()))

    def learnable(self, draft: Draft) -> fx.GraphModule:
        """Return the SubNet of a draft whose weights are the input `weights`."""
        return self._bound(draft, draft.order, None)

    def _bound(self, draft: Draft, order: int, weights: Any) -> fx.GraphModule:
        passes = (BindGates(_rows(draft.keep.tolist()), weights), DropDeadBlocks())
        return Pipeline(passes)(self.supernet(order))[0]

    @torch.no_grad()
    def judged(self, draft: Draft, batch: Batch | None = None) -> Draft:
        """Return the draft with its loss on a batch, all calibration samples if omitted."""
        chosen = batch or self.batch
        return self._with_loss(draft, chosen.run(self.subnet(draft)), chosen)

    @torch.no_grad()
    def steered(self, draft: Draft, batch: Batch | None = None) -> Draft:
        """Return the draft with weights fitted by `steer` on a batch, and its loss there, in one run."""
        chosen = batch or self.batch
        split = split_steps(self.learnable(draft))
        weights, result = steer(split, draft.weights, self.free(draft), draft.keep, chosen)
        return self._with_loss(replace(draft, weights=weights), result, chosen)

    @torch.no_grad()
    def improved(self, draft: Draft, most: float = math.inf) -> Draft:
        """Return the draft after a Gauss-Newton step on its weights, or as it is if its loss does not fall.

        Args:
            draft: judged on all calibration samples.
            most: what the step may cost, in full runs: it goes by fewer samples if need be,
                and is left out where those would be too few.
        """
        keep, read_by_all = draft.keep.tolist(), any_weights(self.cost, draft.order)
        read = [closed for _, closed in self.cost.reads.walk(keep, read_by_all)]
        unknowns = list(directions(keep, read, draft.order))
        costs = self.cost.shares_by_step(keep, read_by_all)
        price = sum(costs) + sum(sum(costs[unknown.steps[0] :]) for unknown in unknowns)
        count = int(min(len(self.batch.sample), most * len(self.batch.sample) / price))
        if not unknowns or count < FEWEST:
            return draft
        few = self.batch.part(torch.arange(count))
        split = split_steps(self.learnable(draft))
        weights = newton_step(split, draft.weights, unknowns, few, self.config.chunk)
        self._charge(price, few)
        return min(draft, self.judged(replace(draft, weights=weights)), key=lambda d: d.loss)

    @torch.no_grad()
    def calmed(self, draft: Draft, most: float = math.inf) -> Draft:
        """Return the draft with calmer weights after the last running step, if the samples then look better.

        Nothing that runs later removes the noise a forecast adds there, and least squares takes noise in
        flat parts for detail at edges. Of a few mixtures with plain repeats the one of the highest SSIM is
        taken, unless its loss is above `most` or a quarter above the draft's. As nothing runs there, they
        all cost one run.

        Args:
            draft: judged on all calibration samples.
            most: highest loss.
        """
        tail = list(range(self._last_running(draft) + 1, self.cost.num_steps))
        if not tail or self.batch.target.dim() != 4:  # SSIM is for images
            return draft
        target = self._seen(self.batch.target)
        run = Resumable(split_steps(self.learnable(draft)), self.batch)
        run.run_on(self.batch, {WEIGHTS: draft.weights.to(target.device, torch.float32)})
        run.remember()
        self._charge(self.share(draft), self.batch)
        mixed = []
        for share in CALMED:
            weights = draft.weights.clone()
            weights[tail] = torch.lerp(weights[tail], backup_weights(draft.keep, "reuse")[tail], share)
            result = self._seen(run.again(tail[0], weights.to(target.device, torch.float32)))
            calmer = self._compared(replace(draft, weights=weights), result, target)
            if calmer.loss <= min(most, SLACK * draft.loss) or share == 0:
                mixed.append(calmer)
        return min(mixed, key=lambda calmer: calmer.unlikeness)

    def _last_running(self, draft: Draft) -> int:
        live = self.cost.reads.live(draft.keep.tolist(), draft.weights.tolist())
        return max(step for step, running in enumerate(live) if running)

    def free(self, draft: Draft) -> dict[int, list[int]]:
        """Return the steps at which a prediction is a backup, and the closed gates that give it."""
        walked = self.cost.reads.walk(draft.keep.tolist(), draft.weights.tolist())
        heads = self.cost.reads.read_by_output
        found = {t: [n for n in heads if closed >> n & 1] for t, (_, closed) in enumerate(walked)}
        return {t: closed for t, closed in found.items() if closed}

    def has_free_steps(self, draft: Draft) -> bool:
        """Tell whether a draft is its `runs` and nothing else runs at the other steps."""
        if draft.keep.tolist() != keep_table(self.cost, draft.runs):
            return False
        heads = sum(1 << n for n in self.cost.reads.read_by_output)
        walked = self.cost.reads.walk(draft.keep.tolist(), draft.weights.tolist())
        return not any(closed & ~heads for _, closed in walked)

    def _with_loss(self, draft: Draft, result: torch.Tensor, batch: Batch) -> Draft:
        judged = self._compared(draft, self._seen(result), self._seen(batch.target))
        self._charge(self.share(draft), batch)
        if batch is self.batch:
            self.curve.append((self.spent, judged.loss))
        return judged

    def _compared(self, draft: Draft, result: torch.Tensor, target: torch.Tensor) -> Draft:
        """Return the draft with the judgement on what it made of some samples."""
        loss = self._distance(result, target).item()
        if not math.isfinite(loss):
            return replace(draft, loss=math.inf, unlikeness=1.0)
        images = target.dim() == 4
        return replace(draft, loss=loss, unlikeness=1 - ssim(result, target).item() if images else 1.0)

    def share(self, draft: Draft) -> float:
        """Return the share of the loop's MACs that a draft keeps."""
        return self.cost.share(draft.keep.tolist(), draft.weights.tolist())

    def backward(self, net: fx.GraphModule, share: float, batch: Batch, **tables: torch.Tensor) -> float:
        """Add the gradient of the loss on `batch` to `tables`' leaves; return the loss.

        Args:
            net: a SuperNet or SubNet that takes `tables` as inputs.
            share: what it costs, as a share of the loop.
        """
        if self.config.checkpoint:
            result = run_checkpointed(self._in_steps(net), batch, tables)
        else:
            result = batch.run(net, **tables)
        loss = self.loss(result, batch.target)
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(
                f"the search loss became {loss.item()} after {self.spent:.1f} full runs: lower "
                "config.learning_rate, or run the model in float32 or bfloat16"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        self._charge(self.runs_per_gradient * share, batch)
        return loss.item()

    def _in_steps(self, net: fx.GraphModule) -> fx.GraphModule:
        if self._split is None or self._split[0] is not net:
            self._split = (net, split_steps(net))
        return self._split[1]

    @property
    def runs_per_gradient(self) -> int:
        """Cost of a gradient step in runs: forward, twice backward, and recomputation."""
        return 4 if self.config.checkpoint else 3

    def loss(self, result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the consistency loss of final samples, decoded if the config says so."""
        return self._distance(self._seen(result), self._seen(target))

    def _seen(self, samples: torch.Tensor) -> torch.Tensor:
        """Return samples as the loss sees them."""
        return (self.config.decode(samples) if self.config.decode is not None else samples).float()

    def minibatch(self, pool: int) -> Batch:
        """Return `config.batch_size` random samples of the first `pool`."""
        order = torch.randperm(pool, generator=self.generator, device=self.generator.device)
        return self.batch.part(order[: self.config.batch_size].cpu())

    def _charge(self, runs: float, batch: Batch) -> None:
        self.spent += runs * len(batch.sample) / len(self.batch.sample)
        self.charged()


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode without parameter gradients, and back as it was."""
    modes = {module: module.training for module in model.modules()}
    wanted = [p for p in model.parameters() if p.requires_grad]
    try:
        model.eval()
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter in wanted:
            parameter.requires_grad_(True)


def _rows(table: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(row) for row in table)
