"""The default search: the best uniform plan, improved under an exact budget by moves and fits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product

import torch
from tqdm.auto import tqdm

from .arena import Arena, Draft
from .calibration import Batch
from .ladder import ENDS, EXPONENTS, SHARES, climb, ladder_cost
from .moves import moved
from .passes import ORDER
from .plan import Rung, backup_weights
from .schedules import (
    KeepTable,
    Runs,
    Sensitivity,
    filled,
    keep_table,
    most_steps,
    shells,
    spread_order,
    spread_runs,
    step_sets,
    whole,
)
from .sensitivity import sensitivities
from .threshold import fits

# Shares of the budget after which a phase ends, and what single parts may take of it.
STARTS_END, MOVES_END = 0.22, 0.28
SENSITIVITY_SHARE, NEWTON_SHARE = 0.12, 0.05
# Caps on the number of candidates: where runs are cheap, building their graphs is what takes time.
MAX_STARTS, MAX_MOVES = 40, 120
FINALISTS = 4


def refine(arena: Arena, ratio: float, progress: bool) -> tuple[Draft, tuple[Rung, ...]]:
    """Return the best plan found that keeps at most `1 - ratio` of the loop's MACs, and a ladder.

    1. Measure how much each step matters, see `sensitivities`. Judge plans of whole steps, evenly spread
       and spread by that, with and without outer blocks at the other steps; where guidance is split, also
       with fewer unconditional steps. Skipped steps get their weights by least squares, in the run that
       judges them.
    2. Move kept steps and trade single blocks; keep what lowers the loss.
    3. Give the best tables the weights that are best for the final samples, by Gauss-Newton: which steps
       run is better chosen after that than before. Go on from the winner until the budget is spent, then
       calm its end, see `Arena.calmed`.
    4. Fit such plans for other ratios: the ladder, see `climb`.

    The first two go by a third of the samples, the others by all. Every candidate fits the budget. What
    is returned is the best on all calibration samples, the best uniform plan among them.
    """
    search = _Search(arena, 1 - ratio, progress)
    search.starts()
    search.moves()
    best = search.improved()
    return best, climb(arena, best, search.sensitivity)


class _Search:
    """Drafts judged so far and where the search goes on from them."""

    def __init__(self, arena: Arena, budget: float, progress: bool) -> None:
        self.arena, self.budget = arena, budget
        self.limit = arena.config.full_runs
        self.few = arena.batch.part(torch.arange(max(1, len(arena.batch.sample) // 3)))
        self.rng = random.Random(arena.generator.initial_seed())
        self.bar = tqdm(total=round(self.limit), desc="search", unit="run", disable=not progress)
        self.drafts: list[Draft] = []

    def starts(self) -> None:
        """Judge plans of whole steps on a third of the samples."""
        self.sensitivity = sensitivities(self.arena, SENSITIVITY_SHARE * self.limit)
        for draft in islice(_starts(self.arena, self.budget, self.sensitivity), MAX_STARTS):
            self._try(draft)
            if self.arena.spent > STARTS_END * self.limit:
                break
        self.start = min(self.drafts, key=lambda draft: draft.loss)
        self.arena.notes.update(start=self.start.name, start_loss=self.start.loss)

    def moves(self) -> None:
        """Try random neighbours of the best draft; its successor is whichever is better."""
        for _ in range(MAX_MOVES):
            neighbour = _neighbour(self.arena, self.drafts[0], self.budget, self.rng)
            if neighbour is None or self.arena.spent >= MOVES_END * self.limit:
                break
            if not _known(neighbour, self.drafts):
                self._try(neighbour)

    def improved(self) -> Draft:
        """Fit the best drafts on all samples, then neighbours of the best of those; return the winner."""
        arena, rng = self.arena, self.rng
        finalists = [draft for draft in self.drafts[:FINALISTS] if draft is not self.start]
        done = [self._best_weights(self.start)]
        # What comes after the loops, and the last of what they do: two runs of a plan each, and a fit.
        until = self.limit - ladder_cost(arena) - 4 * self.budget - NEWTON_SHARE * self.limit
        for draft in finalists:
            if arena.spent < until:
                done.append(self._best_weights(draft))
        for _ in range(MAX_MOVES):
            neighbour = _neighbour(arena, min(done, key=_rank), self.budget, rng)
            if neighbour is None or arena.spent >= until:
                break
            if not _known(neighbour, done):
                done.append(self._best_weights(neighbour))
        plain = self._plain()
        best = min((draft for draft in done if draft.loss <= plain), key=_rank, default=done[0])
        return arena.calmed(best, most=plain)

    def _plain(self) -> float:
        """Return the loss of the plan that the search started from, its backups plain."""
        weights = backup_weights(self.start.keep, "reuse" if self.start.order == 1 else "linear")
        return self.arena.judged(replace(self.start, weights=weights)).loss

    def _best_weights(self, draft: Draft) -> Draft:
        """Return the draft judged on all samples, with the best weights a Gauss-Newton step finds."""
        arena = self.arena
        fitted = self._fitted(draft, arena.batch)
        # A forecast keeps more values alive than a repeat: not every table of repeats can afford it.
        if draft.order > 1 or fits(arena.cost, draft.keep.tolist(), self.budget, 2):
            fitted = replace(fitted, order=max(draft.order, 2))
            fitted = arena.improved(fitted, most=NEWTON_SHARE * self.limit)
        self._show()
        return fitted

    def _try(self, draft: Draft) -> None:
        self.drafts.append(self._fitted(draft, self.few))
        self.drafts.sort(key=_rank)
        self._show()

    def _fitted(self, draft: Draft, batch: Batch) -> Draft:
        """Return the draft judged on a batch, its skipped steps steered if it may forecast."""
        if draft.order > 1:
            return self.arena.steered(draft, batch)
        return self.arena.judged(draft, batch)

    def _show(self) -> None:
        self.bar.n = round(min(self.arena.spent, self.bar.total), 1)
        # Nothing is judged on all samples before the last phase.
        loss = self.arena.best if self.arena.best < float("inf") else self.drafts[0].loss
        self.bar.set_postfix(loss=f"{loss:.2e}", refresh=False)
        self.bar.refresh()


def _rank(draft: Draft) -> float:
    return draft.rank


def _known(draft: Draft, others: list[Draft]) -> bool:
    return any(torch.equal(draft.keep, other.keep) for other in others)


def scores_of(draft: Draft) -> torch.Tensor:
    """Return `(T, N)` scores whose threshold is the draft at its budget and evenly placed at others."""
    steps, blocks = draft.keep.shape
    entire = tuple(t for t in range(steps) if bool(draft.keep[t].all()))
    ranks = {step: 1 - index / steps for index, step in enumerate(spread_order(steps, entire))}
    rows = torch.tensor([ranks[t] for t in range(steps)], dtype=torch.float64)[:, None]
    # Within a step the blocks next to the output first: the others are dead without them.
    columns = torch.arange(1, blocks + 1, dtype=torch.float64)[None] / (steps * (blocks + 1))
    return draft.keep.double() + (rows + columns) / 2


def _starts(arena: Arena, budget: float, sensitivity: Sensitivity) -> Iterator[Draft]:
    """Yield whole-step plans, then plans that also run outer blocks at the other steps."""
    cost = arena.cost
    for shell in shells(cost.reads.num_blocks // cost.halves):
        for order in (2, 1) if shell else (ORDER,):
            for runs in dict.fromkeys(_start_runs(arena, shell, budget, order, sensitivity)):
                yield _draft(arena, keep_table(cost, runs, shell), budget, order, runs, shell)


def _start_runs(
    arena: Arena, shell: tuple[int, ...], budget: float, order: int, sensitivity: Sensitivity
) -> Iterator[Runs]:
    """Yield whole steps, evenly spread and by sensitivity, then the same with fewer unconditional ones."""
    cost = arena.cost
    for share in SHARES[: 1 if shell or cost.halves == 1 else None]:
        counts = most_steps(cost, shell, budget, order, share)
        if not counts[-1]:
            continue
        if share == 1 and counts[0] == counts[-1]:
            yield from (whole(steps, cost) for steps in step_sets(cost.num_steps, counts[-1]))
        yield from (spread_runs(sensitivity, counts, *each) for each in product(EXPONENTS, ENDS))


def _draft(
    arena: Arena, keep: KeepTable, budget: float, order: int, runs: Runs, shell: tuple[int, ...]
) -> Draft:
    table = torch.tensor(filled(keep, budget, arena.cost, order, by_step=not shell))
    kind = "repeated" if order == 1 else "forecast"
    half = f", {len(runs[0])} of them unconditional" if len(runs) > 1 else ""
    name = f"{len(runs[-1])} whole steps{half}, {len(shell)} outer blocks elsewhere, {kind}"
    weights = backup_weights(table, "reuse" if order == 1 else "linear")
    return Draft(table, weights, name=name, order=order, runs=runs, shell=shell)


def _neighbour(arena: Arena, draft: Draft, budget: float, rng: random.Random) -> Draft | None:
    """Move a run, or give up one block of one; what that frees goes to blocks by the output."""
    for _ in range(20):
        runs = moved(draft.runs, arena.cost.num_steps, rng)
        keep = keep_table(arena.cost, runs, draft.shell)
        if rng.random() < 0.2 and len(runs[-1]) > 1:
            keep[rng.choice(runs[-1][1:])][rng.randrange(len(keep[0]))] = False
        if fits(arena.cost, keep, budget, draft.order):
            return _draft(arena, keep, budget, draft.order, runs, draft.shell)
    return None
