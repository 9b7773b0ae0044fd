"""The paper's search: train the pruner network on the SuperNet, then threshold its scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import fx
from tqdm.auto import tqdm

from ..budget import threshold
from ..cost import LoopCost
from ..passes import Backup, GateTable, split_steps
from ..passes.gate_table import HISTORY_OF
from ..passes.insert_gates import GATES, WEIGHTS
from .batch import Batch
from .candidate import Candidate, Tables
from .config import PaperConfig
from .evaluator import Evaluator
from .losses import sparsity_loss
from .progress import hidden
from .pruner import KEEP, Pruner, straight_through
from .stepwise import run_checkpointed

NOTED, EVERY = 20, 50
"""Gradient steps that the notes tell of: the first few, and later ones at this interval."""


@dataclass(frozen=True)
class Trained:
    """The `(T, N)` probabilities to keep each block, and facts about the training."""

    scores: torch.Tensor
    notes: dict[str, Any]


def train_pruner(
    evaluator: Evaluator, config: PaperConfig, generator: torch.Generator, progress: bool
) -> Trained:
    """Return the probabilities to keep each block, after `config.iterations` gradient steps.

    Every step samples calibration inputs, gates the SuperNet by the argmax of the pruner's logits with
    a straight-through gradient, and descends on the consistency loss plus, while more than `tau` of
    the MACs is kept, alpha times the sparsity loss (equation 3; the printed condition reads the other
    way round, text and numbers of the paper agree with this one). One training serves every ratio.

    The notes hold `gates`, rows of: the gradient step, the share of gates after step 0 that are open, and the
    share for which the gradient of the consistency loss is 0. While all are open that is all, for the loss is
    at its minimum. Then it is the gates of blocks that nobody reads: once a step's output is skipped, nothing
    but sparsity and weight decay moves the other gates of the step.

    A loop of one step has no gate to learn, as its first step always runs: no gradient step is made.

    Raises `FloatingPointError` if the loss becomes infinite or NaN.
    """
    cost, batch = evaluator.cost, evaluator.batch
    if cost.num_steps == 1:
        return _trained(cost.all_kept.double(), [], config)
    device = batch.sample.device
    pruner = Pruner(cost.num_steps, cost.num_blocks, config.width, config.encoder, generator).to(device)
    optimizer = torch.optim.SGD(
        pruner.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.iterations)
    gamma = _gamma(cost, config).to(device)
    supernet = evaluator.supernet(HISTORY_OF[config.backup])
    net = split_steps(supernet) if config.checkpoint else supernet
    open_gates: list[list[float]] = []
    bar = tqdm(range(config.iterations), desc="pruner", unit="step", disable=hidden(progress))
    for iteration in bar:
        optimizer.zero_grad()
        gates = straight_through(pruner())
        table = GateTable.of(gates.detach() > 0.5, config.backup)
        kept = cost.kept_at_most(table.keep, 1)
        if kept >= config.tau:
            (config.alpha * sparsity_loss(gates, gamma)).backward(retain_graph=True)  # type: ignore[no-untyped-call]
        gates.retain_grad()  # from here on: that of the consistency loss alone
        few = _drawn(batch, config.batch_size, generator)
        gradient = partial(
            descend, evaluator, net, config.checkpoint, few, _inputs(gates, table, config.backup)
        )
        noted = evaluator.noted(f"gradient step {iteration}", gradient)
        evaluator.charge(4.0 if config.checkpoint else 3.0, few)
        gates.backward(noted["gates"].to(device))  # type: ignore[no-untyped-call]
        loss = noted["loss"].item()
        if iteration < NOTED or iteration % EVERY == 0:
            open_gates.append([iteration, *_open_and_silent(gates)])
        torch.nn.utils.clip_grad_norm_(pruner.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        evaluator.curve.append((evaluator.budget.spent, loss))
        bar.set_postfix(loss=f"{loss:.2e}", kept=f"{kept:.3f}", refresh=False)
    with torch.no_grad():
        scores: torch.Tensor = pruner().softmax(-1)[..., KEEP].double().cpu()
    return _trained(scores, open_gates, config)


def _trained(scores: torch.Tensor, open_gates: list[list[float]], config: PaperConfig) -> Trained:
    """Return scores with the notes on them, see `train_pruner`."""
    notes = {
        "kept_by_argmax": float((scores > 0.5).double().mean()),
        "gates": open_gates,
        "exact_fill": config.exact_fill,
    }
    return Trained(scores, notes)


def descend(
    evaluator: Evaluator,
    net: fx.GraphModule,
    checkpoint: bool,
    batch: Batch,
    tables: dict[str, torch.Tensor],
) -> Tables:
    """Return the loss on a batch, and its gradient by the gates.

    It costs three runs of the batch, four with recomputation.

    Args:
        evaluator: knows the loss.
        net: a SuperNet, split into steps if `checkpoint`, that takes `tables` as inputs.
        checkpoint: recompute each step in the backward pass.
        batch: samples with their unpruned result.
        tables: gates, and weights where the SuperNet has any.
    """
    result = run_checkpointed(net, batch, tables) if checkpoint else batch.run(net, **tables)
    loss = evaluator.loss(result, batch)
    if not bool(torch.isfinite(loss)):
        raise FloatingPointError(
            f"the search loss became {loss.item()} after {evaluator.budget.spent:.1f} full runs: lower "
            "config.learning_rate, or run the model in float32 or bfloat16"
        )
    (gradient,) = torch.autograd.grad(loss, [tables[GATES]])
    return {"loss": loss.detach().double(), "gates": gradient}


def _inputs(gates: torch.Tensor, table: GateTable, backup: Backup) -> dict[str, torch.Tensor]:
    """Return what a SuperNet takes beside samples: gates, and weights where its backups have any."""
    if HISTORY_OF[backup] == 1:
        return {GATES: gates}
    return {GATES: gates, WEIGHTS: table.weights.to(gates.device, torch.float32)}


def _gamma(cost: LoopCost, config: PaperConfig) -> torch.Tensor:
    """Return how much the sparsity loss weighs each block, `(N,)`."""
    return mac_weights(cost) if config.mac_weights else torch.full((cost.num_blocks,), 1 / cost.num_blocks)


def mac_weights(cost: LoopCost) -> torch.Tensor:
    """Return gamma, `(N,)`: the share of a step's MACs that dies when a block's gate closes there."""
    step = min(1, cost.num_steps - 1)
    gamma = []
    for block in range(cost.num_blocks):
        keep = torch.ones(cost.num_steps, cost.num_blocks, dtype=torch.bool)
        keep[step, block] = False
        gamma.append((1 - cost.kept_at_most(keep, 1)) * cost.num_steps)
    return torch.tensor(gamma)


def thresholded(
    evaluator: Evaluator, scores: torch.Tensor, kept: float, backup: Backup, exact_fill: bool = False
) -> Candidate:
    """Return the evaluated candidate that keeps the gates of the highest scores, see `threshold`."""
    keep = threshold(scores, kept, evaluator.cost, HISTORY_OF[backup], exact_fill=exact_fill)
    return evaluator.evaluate(Candidate(GateTable.of(keep, backup), name=f"pruner, {backup}"))


def _open_and_silent(gates: torch.Tensor) -> tuple[float, float]:
    """Return the shares of the gates after step 0 that are open, and that have a gradient of exactly 0."""
    assert gates.grad is not None
    shares = (gates.detach()[1:] > 0.5, gates.grad[1:] == 0)
    opened, silent = (round(float(share.double().mean()), 4) for share in shares)
    return opened, silent


def _drawn(batch: Batch, size: int, generator: torch.Generator) -> Batch:
    """Return `size` random samples of a batch."""
    order = torch.randperm(len(batch), generator=generator, device=generator.device)
    return batch.part(order[:size].cpu())
