"""The default search: the best uniform plan, improved under an exact budget by moves and gradients."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch
from tqdm.auto import tqdm

from .arena import Arena, Draft, takes_weights
from .calibration import Batch
from .ladder import climb, ladder_cost
from .passes import ORDER
from .plan import Rung, backup_weights
from .schedules import KeepTable, filled, keep_table, shells, spread_order, step_sets, whole_steps
from .threshold import fits

# Shares of the budget after which a phase ends; measured on the digits models, see benchmarks/.
STARTS_END, MOVES_END, TRIALS_END = 0.2, 0.6, 0.75
# Caps on the number of candidates: where runs are cheap, building their graphs is what takes time.
MAX_STARTS, MAX_MOVES = 40, 120
FINALISTS = 4
JUDGEMENTS = 5


def refine(arena: Arena, ratio: float, progress: bool) -> tuple[Draft, tuple[Rung, ...]]:
    """Return the best plan found that keeps at most `1 - ratio` of the loop's MACs, and a ladder.

    1. Judge uniform plans: evenly placed whole steps, with and without outer blocks at the other
       steps. Skipped steps get their weights by least squares, in the run that judges them.
    2. Move kept steps and trade single blocks; keep what lowers the loss.
    3. Fit the best tables anew on three quarters of the samples, judge them on all, and let gradients
       through the whole SubNet improve the weights of the winner.
    4. Fit whole-step plans like the winner for other ratios: the ladder, see `climb`.

    Every candidate fits the budget. What is returned is the best on all calibration samples of the last
    few, the best uniform plan among them.
    """
    search = _Search(arena, 1 - ratio, progress)
    search.starts()
    search.moves()
    best = search.learned(search.finalists())
    return best, climb(arena, best, search.few)


class _Search:
    """Drafts judged so far and where the search goes on from them."""

    def __init__(self, arena: Arena, budget: float, progress: bool) -> None:
        self.arena, self.budget = arena, budget
        self.limit = arena.config.full_runs
        self.few = arena.batch.part(torch.arange(max(1, len(arena.batch.sample) // 3)))
        self.most = arena.batch.part(torch.arange(max(1, 3 * len(arena.batch.sample) // 4)))
        self.bar = tqdm(total=round(self.limit), desc="search", unit="run", disable=not progress)
        self.drafts: list[Draft] = []

    def starts(self) -> None:
        """Judge uniform plans on a third of the samples."""
        for draft in islice(_uniform(self.arena, self.budget), MAX_STARTS):
            self._try(draft)
            if self.arena.spent > STARTS_END * self.limit:
                break
        self.start = self.drafts[0]
        self.arena.notes.update(start=self.start.name, start_loss=self.start.loss)

    def moves(self) -> None:
        """Try random neighbours of the best draft; its successor is whichever is better."""
        rng = random.Random(self.arena.generator.initial_seed())
        for _ in range(MAX_MOVES):
            best = self.drafts[0]
            neighbour = _neighbour(self.arena, best, self.budget, rng)
            if neighbour is None or self.arena.spent >= MOVES_END * self.limit:
                break
            if not any(torch.equal(neighbour.keep, known.keep) for known in self.drafts):
                self._try(neighbour)

    def finalists(self) -> Draft:
        """Fit the best drafts on most samples, judge them on all and return the best."""
        chosen: list[Draft] = []
        moved = [draft for draft in self.drafts[:FINALISTS] if draft is not self.start]
        for draft in [self.start, *moved]:
            chosen.append(self.arena.judged(self._fitted(draft, self.most)))
            self._show()
            if self.arena.spent > TRIALS_END * self.limit:
                break
        return min(chosen, key=lambda draft: draft.loss)

    def learned(self, draft: Draft) -> Draft:
        """Descend on the weights until the budget of the search is spent; return the best that was judged."""
        arena = self.arena
        # A forecast keeps more values alive than a repeat: not every table of repeats can afford it.
        if draft.order == 1 and not fits(arena.cost, draft.keep.tolist(), self.budget, 2):
            return draft
        draft = replace(draft, order=max(draft.order, 2))
        net, share = arena.learnable(draft), arena.share(draft)
        price = share * (arena.runs_per_gradient * arena.config.batch_size / len(arena.batch.sample))
        ladder = ladder_cost(arena.cost.num_steps) * len(self.few.sample) / len(arena.batch.sample)
        iterations = int((self.limit - arena.spent - ladder - JUDGEMENTS * share) / price)
        if not takes_weights(net) or iterations < JUDGEMENTS:
            return draft
        weights = torch.nn.Parameter(draft.weights.to(arena.batch.sample.device, torch.float32))
        optimizer = torch.optim.Adam([weights], lr=arena.config.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
        best = draft
        for index in range(1, iterations + 1):
            optimizer.zero_grad()
            arena.backward(net, share, arena.minibatch(len(self.most.sample)), weights=weights)
            optimizer.step()
            schedule.step()
            if index % (iterations // JUDGEMENTS) == 0:
                table = torch.where(draft.keep[..., None], draft.weights, weights.detach().double().cpu())
                judged = arena.judged(replace(draft, weights=table, name=f"{draft.name}, learned"))
                best = min(best, judged, key=lambda d: d.loss)
            self._show()
        return best

    def _try(self, draft: Draft) -> None:
        self.drafts.append(self._fitted(draft, self.few))
        self.drafts.sort(key=lambda d: d.loss)
        self._show()

    def _fitted(self, draft: Draft, batch: Batch) -> Draft:
        """Return the draft judged on a batch, its skipped steps steered if it may forecast."""
        if draft.order > 1:
            return self.arena.steered(draft, batch)
        return self.arena.judged(draft, batch)

    def _show(self) -> None:
        self.bar.n = round(min(self.arena.spent, self.bar.total), 1)
        self.bar.set_postfix(loss=f"{self.arena.best:.2e}", refresh=False)
        self.bar.refresh()


def scores_of(draft: Draft) -> torch.Tensor:
    """Return `(T, N)` scores whose threshold is the draft at its budget and evenly placed at others."""
    steps, blocks = draft.keep.shape
    whole = tuple(t for t in range(steps) if bool(draft.keep[t].all()))
    ranks = {step: 1 - index / steps for index, step in enumerate(spread_order(steps, whole))}
    rows = torch.tensor([ranks[t] for t in range(steps)], dtype=torch.float64)[:, None]
    # Within a step the blocks next to the output first: the others are dead without them.
    columns = torch.arange(1, blocks + 1, dtype=torch.float64)[None] / (steps * (blocks + 1))
    return draft.keep.double() + (rows + columns) / 2


def _uniform(arena: Arena, budget: float) -> Iterator[Draft]:
    """Yield whole-step plans, then plans that also run outer blocks at the other steps."""
    cost = arena.cost
    for shell in shells(cost.reads.num_blocks):
        for order in (2, 1) if shell else (ORDER,):
            count = whole_steps(cost, shell, budget, order)
            for steps in step_sets(cost.num_steps, count) if count else ():
                yield _draft(arena, keep_table(cost, steps, shell), budget, order, steps, shell)


def _draft(
    arena: Arena, keep: KeepTable, budget: float, order: int, steps: tuple[int, ...], shell: tuple[int, ...]
) -> Draft:
    table = torch.tensor(filled(keep, budget, arena.cost, order, by_step=not shell))
    kind = "repeated" if order == 1 else "forecast"
    name = f"{len(steps)} whole steps, {len(shell)} outer blocks elsewhere, {kind}"
    weights = backup_weights(table, "reuse" if order == 1 else "linear")
    return Draft(table, weights, name=name, order=order, steps=steps, shell=shell)


def _neighbour(arena: Arena, draft: Draft, budget: float, rng: random.Random) -> Draft | None:
    """Move a whole step, or give up one block of one; what that frees goes to blocks by the output."""
    for _ in range(20):
        steps = _moved(draft.steps, arena.cost.num_steps, rng)
        keep = keep_table(arena.cost, steps, draft.shell)
        if rng.random() < 0.2 and len(steps) > 1:
            keep[rng.choice(steps[1:])][rng.randrange(len(keep[0]))] = False
        if fits(arena.cost, keep, budget, draft.order):
            return _draft(arena, keep, budget, draft.order, steps, draft.shell)
    return None


def _moved(steps: tuple[int, ...], total: int, rng: random.Random) -> tuple[int, ...]:
    free = [t for t in range(1, total) if t not in steps]
    if len(steps) < 2 or not free:
        return steps
    gone = rng.choice(steps[1:])
    near = [t for t in free if abs(t - gone) <= 2] or free
    return tuple(sorted({*steps} - {gone} | {rng.choice(near)}))
