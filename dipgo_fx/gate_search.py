"""The paper's search: train the pruner network on the SuperNet, then threshold its scores."""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from .arena import Arena, Draft
from .losses import sparsity_loss
from .passes.insert_gates import GATES, WEIGHTS, Backup
from .plan import ORDERS, backup_weights
from .pruner import KEEP, Pruner, straight_through
from .threshold import threshold


def train_pruner(arena: Arena, backup: Backup, progress: bool) -> torch.Tensor:
    """Return the `(T, N)` probabilities to keep each block, after `config.iterations` gradient steps.

    Every step samples calibration inputs, gates the SuperNet by the argmax of the pruner's logits with
    a straight-through gradient, and descends on the consistency loss plus, while more than `tau` of
    the MACs is kept, alpha times the sparsity loss (equation 3; the printed condition reads the other
    way round, text and numbers of the paper agree with this one). One training serves every ratio.
    """
    config = arena.config
    steps, blocks = arena.cost.num_steps, arena.cost.reads.num_blocks
    device = arena.batch.sample.device
    pruner = Pruner(steps, blocks, config.width, config.encoder, arena.generator).to(device)
    optimizer = torch.optim.SGD(
        pruner.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.iterations)
    gamma = (mac_weights(arena) if config.mac_weights else torch.full((blocks,), 1 / blocks)).to(device)
    order = ORDERS[backup]
    net = arena.supernet(order)
    bar = tqdm(range(config.iterations), desc="pruner", unit="step", disable=not progress)
    for _ in bar:
        optimizer.zero_grad()
        gates = straight_through(pruner())
        keep = gates.detach() > 0.5
        share = arena.cost.share(keep.tolist())
        if share >= config.tau:
            (config.alpha * sparsity_loss(gates, gamma)).backward(retain_graph=True)  # type: ignore[no-untyped-call]
        tables = {GATES: gates}
        if order > 1:
            tables[WEIGHTS] = backup_weights(keep.cpu(), backup).to(device, torch.float32)
        loss = arena.backward(net, 1.0, arena.minibatch(len(arena.batch.sample)), **tables)
        torch.nn.utils.clip_grad_norm_(pruner.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        arena.curve.append((arena.spent, loss))
        bar.set_postfix(loss=f"{loss:.2e}", kept=f"{share:.3f}", refresh=False)
    with torch.no_grad():
        scores: torch.Tensor = pruner().softmax(-1)[..., KEEP].double().cpu()
    arena.notes.update(kept_by_argmax=float((scores > 0.5).double().mean()))
    return scores


def mac_weights(arena: Arena) -> torch.Tensor:
    """Return gamma, `(N,)`: the share of a step's MACs that dies when a block's gate closes there."""
    cost = arena.cost
    steps, blocks = cost.num_steps, cost.reads.num_blocks
    step = min(1, steps - 1)
    gamma = []
    for block in range(blocks):
        keep = [[True] * blocks for _ in range(steps)]
        keep[step][block] = False
        gamma.append((1 - cost.share(keep)) * steps)
    return torch.tensor(gamma)


def thresholded(arena: Arena, scores: torch.Tensor, ratio: float, backup: Backup) -> Draft:
    """Return the judged draft of scores at a ratio."""
    keep = threshold(scores, ratio, arena.cost, ORDERS[backup])
    return arena.judged(Draft(keep, backup_weights(keep, backup), name=f"pruner, {backup}"))
