"""The default search: the best uniform plan, improved under an exact budget by moves and gradients."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch
from tqdm.auto import tqdm

from .arena import Arena, Draft, takes_weights
from .passes.insert_gates import Backup
from .plan import backup_weights
from .schedules import KeepTable, filled, keep_table, shells, spread_order, step_sets, whole_steps
from .threshold import fits

# Shares of the budget after which a phase ends; measured on the digits models, see benchmarks/.
STARTS_END, MOVES_END, TRIALS_END = 0.15, 0.4, 0.7
# Caps on the number of candidates: where runs are cheap, building their graphs is what takes time.
MAX_STARTS, MAX_MOVES = 40, 60
FINALISTS = 4
LEARNED = ", learned weights"
JUDGEMENTS = 5


def refine(arena: Arena, ratio: float, progress: bool) -> Draft:
    """Return the best plan found that keeps at most `1 - ratio` of the loop's MACs.

    1. Judge uniform plans: evenly placed whole steps, with and without outer blocks at the other
       steps, with repeated and with extrapolated backups.
    2. Move kept steps and trade single blocks; keep what lowers the loss.
    3. Learn the weights of the backups by gradient through the SubNet, on three quarters of the
       samples: a little for the best few tables (which of them is best changes with its weights), then
       for the winner. All samples judge.

    Every candidate fits the budget, and the best on all calibration samples is returned: no uniform
    plan that was judged beats it.
    """
    budget, limit = 1 - ratio, arena.config.full_runs
    with tqdm(total=round(limit), desc="search", unit="run", disable=not progress) as bar:
        starts = _best_starts(arena, budget, bar)
        arena.notes.update(start=starts[0].name, start_loss=starts[0].loss)
        moved = _improve(arena, starts[0], budget, bar)
        trials = _distinct([moved, *starts])[:FINALISTS]
        share = (TRIALS_END * limit - arena.spent) / len(trials)
        learned = [_learn_weights(arena, trial, budget, arena.spent + share, bar) for trial in trials]
        best = min(learned, key=lambda draft: draft.loss)
        return _learn_weights(arena, best, budget, limit, bar)


def _distinct(drafts: list[Draft]) -> list[Draft]:
    """Drop drafts whose keep table an earlier one has."""
    kept: list[Draft] = []
    for draft in drafts:
        if not any(torch.equal(draft.keep, other.keep) for other in kept):
            kept.append(draft)
    return kept


def scores_of(draft: Draft) -> torch.Tensor:
    """Return `(T, N)` scores whose threshold is the draft at its budget and evenly placed at others."""
    steps, blocks = draft.keep.shape
    whole = tuple(t for t in range(steps) if bool(draft.keep[t].all()))
    ranks = {step: 1 - index / steps for index, step in enumerate(spread_order(steps, whole))}
    rows = torch.tensor([ranks[t] for t in range(steps)], dtype=torch.float64)[:, None]
    # Within a step the blocks next to the output first: the others are dead without them.
    columns = torch.arange(1, blocks + 1, dtype=torch.float64)[None] / (steps * (blocks + 1))
    return draft.keep.double() + (rows + columns) / 2


def _best_starts(arena: Arena, budget: float, bar: tqdm[None]) -> list[Draft]:
    """Judge all uniform plans on a quarter of the samples, then the best of them on all; best first."""
    few = arena.batch.part(torch.arange(max(1, len(arena.batch.sample) // 4)))
    drafts: list[Draft] = []
    for draft in islice(_uniform(arena, budget), MAX_STARTS):
        drafts.append(arena.judged(draft, few))
        _show(bar, arena)
        if arena.spent > STARTS_END * arena.config.full_runs:
            break
    drafts.sort(key=lambda draft: draft.loss)
    return sorted((arena.judged(draft) for draft in drafts[:FINALISTS]), key=lambda draft: draft.loss)


def _uniform(arena: Arena, budget: float) -> Iterator[Draft]:
    cost = arena.cost
    backups: tuple[Backup, ...] = ("linear", "reuse")
    for shell in shells(cost.reads.num_blocks):
        for backup in backups:
            count = whole_steps(cost, shell, budget, backup)
            for steps in step_sets(cost.num_steps, count) if count else ():
                name = f"{count} whole steps, {len(shell)} outer blocks elsewhere, {backup}"
                yield _draft(arena, keep_table(cost, steps, shell), budget, backup, steps, shell, name)


def _draft(
    arena: Arena,
    keep: KeepTable,
    budget: float,
    backup: Backup,
    steps: tuple[int, ...],
    shell: tuple[int, ...],
    name: str,
) -> Draft:
    table = torch.tensor(filled(keep, budget, arena.cost, backup))
    return Draft(table, backup_weights(table, backup), name=name, steps=steps, shell=shell)


def _improve(arena: Arena, best: Draft, budget: float, bar: tqdm[None]) -> Draft:
    """Try random neighbours; keep those that lower the loss."""
    rng = random.Random(arena.generator.initial_seed())
    end = MOVES_END * arena.config.full_runs
    for _ in range(MAX_MOVES):
        if arena.spent + arena.share(best) >= end:
            break
        neighbour = _neighbour(arena, best, budget, rng)
        if neighbour is best:
            break
        judged = arena.judged(neighbour)
        best = judged if judged.loss < best.loss else best
        _show(bar, arena)
    return best


def _neighbour(arena: Arena, draft: Draft, budget: float, rng: random.Random) -> Draft:
    """Move a whole step, or give up one block of one; what that frees goes to blocks by the output."""
    backup: Backup = "reuse" if draft.repeats else "linear"
    for _ in range(20):
        steps = _moved(draft.steps, arena.cost.num_steps, rng)
        keep = keep_table(arena.cost, steps, draft.shell)
        if rng.random() < 0.3 and len(steps) > 1:
            keep[rng.choice(steps[1:])][rng.randrange(len(keep[0]))] = False
        if fits(arena.cost, keep, budget, backup):
            return _draft(arena, keep, budget, backup, steps, draft.shell, draft.name)
    return draft


def _moved(steps: tuple[int, ...], total: int, rng: random.Random) -> tuple[int, ...]:
    free = [t for t in range(1, total) if t not in steps]
    if len(steps) < 2 or not free:
        return steps
    gone = rng.choice(steps[1:])
    near = [t for t in free if abs(t - gone) <= 2] or free
    return tuple(sorted({*steps} - {gone} | {rng.choice(near)}))


def _learn_weights(arena: Arena, draft: Draft, budget: float, until: float, bar: tqdm[None]) -> Draft:
    """Descend on the backup weights until `until` runs are spent; return the best that was judged."""
    # Weights other than 1 keep one more value of a block alive: a table of repeats may not afford it.
    if not fits(arena.cost, draft.keep.tolist(), budget, "linear"):
        return draft
    net = arena.learnable(draft)
    price = arena.share(draft) * (arena.runs_per_gradient * arena.config.batch_size / len(arena.batch.sample))
    left = until - arena.spent - JUDGEMENTS * arena.share(draft)
    iterations = int(left / price)
    if not takes_weights(net) or iterations < JUDGEMENTS:
        return draft
    weights = torch.nn.Parameter(draft.weights.to(arena.batch.sample.device, torch.float32))
    optimizer = torch.optim.Adam([weights], lr=arena.config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    best, pool = draft, max(1, 3 * len(arena.batch.sample) // 4)
    for index in range(1, iterations + 1):
        optimizer.zero_grad()
        arena.backward(net, arena.share(draft), arena.minibatch(pool), weights=weights)
        optimizer.step()
        schedule.step()
        if index % (iterations // JUDGEMENTS) == 0:
            judged = arena.judged(_with_weights(draft, weights))
            best = judged if judged.loss < best.loss else best
        _show(bar, arena)
    return best


def _with_weights(draft: Draft, weights: torch.Tensor) -> Draft:
    learned = weights.detach().double().cpu()
    name = f"{draft.name.removesuffix(LEARNED)}{LEARNED}"
    return replace(draft, weights=torch.where(draft.keep, 1.0, learned), name=name)


def _show(bar: tqdm[None], arena: Arena) -> None:
    bar.n = round(min(arena.spent, bar.total), 1)
    bar.set_postfix(loss=f"{arena.best:.2e}", refresh=False)
    bar.refresh()
