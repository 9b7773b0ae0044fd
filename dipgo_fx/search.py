"""The default search: plans of whole steps, fitted and moved under an exact budget, for all ratios."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product

import torch
from tqdm.auto import tqdm

from .arena import Arena, Draft
from .calibration import Batch
from .ladder import ENDS, EXPONENTS, SHARES, climb, highest, with_rung
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
    named,
    shells,
    spread_order,
    spread_runs,
    step_sets,
    whole,
)
from .sensitivity import sensitivities
from .threshold import fits

# What parts may take of the budget of a search.
STARTS_SHARE, SENSITIVITY_SHARE, NEWTON_SHARE = 0.25, 0.15, 0.05
# Caps on the number of candidates: where runs are cheap, building their graphs is what takes time.
MAX_STARTS, MAX_MOVES = 40, 120
FINALISTS = 4


def refine(arena: Arena, ratio: float, progress: bool) -> tuple[Draft, tuple[Rung, ...]]:
    """Return the best plan found that keeps at most `1 - ratio` of the loop's MACs, and a ladder.

    1. Measure how much each step matters, see `sensitivities`. Judge plans of whole steps, evenly spread
       and spread by that, with and without outer blocks at the other steps; where guidance is split, also
       with fewer unconditional steps. Skipped steps get their weights by least squares, in the run that
       judges them.
    2. Fit plans of whole steps or halves for all ratios: the ladder, see `climb`.
    3. Give the best of the first the weights that are best for the final samples, by Gauss-Newton: which
       steps run is better chosen after that than before. Go on from the winner, which may be the ladder's
       rung, with moved steps and traded blocks until the budget is spent; then calm its end, see
       `Arena.calmed`.

    The first goes by a third of the samples, the last by all. Every candidate fits the budget. What is
    returned is the best on all calibration samples, the best uniform plan among them.
    """
    with tqdm(total=round(arena.config.full_runs), desc="search", unit="run", disable=not progress) as bar:
        search = _Search(arena, 1 - ratio, bar)
        search.starts()
        rungs = climb(arena, search.sensitivity, 1 - ratio)
        best = search.improved(highest(rungs, arena.cost, 1 - ratio))
    return best, with_rung(rungs, best, arena)


class _Search:
    """Drafts judged so far and where the search goes on from them."""

    def __init__(self, arena: Arena, budget: float, bar: tqdm[None]) -> None:
        self.arena, self.budget, self.bar = arena, budget, bar
        self.limit = arena.config.full_runs
        self.rng = random.Random(arena.generator.initial_seed())
        arena.charged = self._show

    def starts(self) -> None:
        """Judge plans of whole steps on a third of the samples."""
        arena = self.arena
        self.sensitivity = sensitivities(arena, SENSITIVITY_SHARE * self.limit)
        few = arena.batch.part(torch.arange(max(1, len(arena.batch.sample) // 3)))
        self.drafts: list[Draft] = []
        for draft in islice(_starts(arena, self.budget, self.sensitivity), MAX_STARTS):
            self.drafts.append(self._fitted(draft, few))
            if arena.spent > STARTS_SHARE * self.limit:
                break
        self.drafts.sort(key=_rank)
        self.start = min(self.drafts, key=lambda draft: draft.loss)
        arena.notes.update(start=self.start.name, start_loss=self.start.loss)

    def improved(self, rung: Draft | None) -> Draft:
        """Fit the best drafts on all samples, then neighbours of the best of those; return the winner.

        Args:
            rung: the ladder's plan, fitted and calm already.
        """
        arena, rng = self.arena, self.rng
        # What comes after the loops, and the last of what they do: two runs of a plan each, and a fit.
        until = self.limit - 4 * self.budget - NEWTON_SHARE * self.limit
        calm = [] if rung is None else [arena.judged(rung)]
        done: list[Draft] = []
        for draft in (self.start, *self.drafts[:FINALISTS]):
            if not _known(draft, calm + done) and (arena.spent < until or not calm + done):
                done.append(self._best_weights(draft))
        for _ in range(MAX_MOVES):
            neighbour = _neighbour(arena, min(calm + done, key=_rank), self.budget, rng)
            if neighbour is None or arena.spent >= until:
                break
            if not _known(neighbour, calm + done):
                done.append(self._best_weights(neighbour))
        plain = self._plain()
        best = min((draft for draft in done if draft.loss <= plain.loss), key=_rank, default=plain)
        best = arena.calmed(best, most=plain.loss)
        return min([best, *(draft for draft in calm if draft.loss <= plain.loss)], key=_rank)

    def _plain(self) -> Draft:
        """Return the plan that the search started from, its backups plain, judged on all samples."""
        weights = backup_weights(self.start.keep, "reuse" if self.start.order == 1 else "linear")
        return self.arena.judged(replace(self.start, weights=weights))

    def _best_weights(self, draft: Draft) -> Draft:
        """Return the draft judged on all samples, with the best weights a Gauss-Newton step finds."""
        arena = self.arena
        fitted = self._fitted(draft, arena.batch)
        # A forecast keeps more values alive than a repeat: not every table of repeats can afford it.
        if draft.order > 1 or fits(arena.cost, draft.keep.tolist(), self.budget, 2):
            fitted = replace(fitted, order=max(draft.order, 2))
            fitted = arena.improved(fitted, most=NEWTON_SHARE * self.limit)
        return fitted

    def _fitted(self, draft: Draft, batch: Batch) -> Draft:
        """Return the draft judged on a batch, its skipped steps steered if it may forecast."""
        if draft.order > 1:
            return self.arena.steered(draft, batch)
        return self.arena.judged(draft, batch)

    def _show(self) -> None:
        self.bar.n = round(min(self.arena.spent, self.bar.total), 1)
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
    name = f"{named(runs)}, {len(shell)} outer blocks elsewhere, {kind}"
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
