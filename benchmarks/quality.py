"""Quality at matched cost: pruned loops beside other packages, fewer steps and other searches.

`python -m benchmarks.quality` appends rows to results/quality.csv, one a measurement, and draws quality.md
from them; what the file has is not measured again, so a run can be stopped and several may share a folder,
each with models of its own. `--merge FILE ...` adds the rows of other files, `--plots` draws the pictures.

Settings and plans are chosen on calibration noise and measured on other noise (and other emoji). A ratio is
the share of MACs that is *removed*; every setting of a package is tried, and the one of highest PSNR among
those that keep at most 1 - ratio, plus 0.0125 in the packages' favour, is measured. `macs_kept` says what it
kept then. `search_full_runs` counts all settings that were tried, in unpruned runs of 48 samples.

`seconds_per_run` is the time of one chunk of held-out samples on one thread. Methods are timed one after the
other and other packages with a meter around them: speed is measured in speed.py, not here.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from benchmarks import peers, pictures
from benchmarks.book import Book
from benchmarks.cases import CALIBRATION, CASES, STORED, Case
from benchmarks.plans import DEFAULT, PLAN_METHODS, Effort, OutOfReachError, PlanMethod, compiled
from benchmarks.tables import RESULTS, Table, machine
from dipgo_fx.macs import Cost

RATIOS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
SCHEDULERS = ("DDIM", "PNDM", "DPM-Solver++", "UniPC", "Euler", "Heun")  # those that draw no noise
UNPRUNED, OURS = "unpruned", "dipgo_fx"
OUT_OF_REACH = OutOfReachError.__name__
PICTURED = 8  # samples of every measurement that are kept for the pictures
SMOKE = {
    "models": ["digits-dit", "digits-unet"],
    "methods": ["fewer steps", "DeepCache", "uniform, linear", "random search", "dipgo_fx default"],
    "ratios": [0.5, 0.8],
    "samples": 8,
    "calibration": 4,
    "full_runs": 3.0,
    "paper_iterations": 4,
    "steps": [6],
}

logger = logging.getLogger("benchmarks.quality")
Key = tuple[str, str, int, str, float, int]
Sampler = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Row:
    """One measurement; what does not apply is `None`, and all but `error` where a method cannot run."""

    model: str
    scheduler: str
    steps: int
    method: str
    ratio_asked: float
    macs_kept: float | None = None
    macs_kept_without_attention: float | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    feature_distance: float | None = None
    fid_like: float | None = None
    fid_like_low: float | None = None
    fid_like_high: float | None = None
    kid_like: float | None = None
    class_accuracy: float | None = None
    seconds_per_run: float | None = None
    search_full_runs: float | None = None
    seed: int = 0
    error: str = ""

    @property
    def key(self) -> Key:
        """What makes a row the same measurement."""
        return (self.model, self.scheduler, self.steps, self.method, self.ratio_asked, self.seed)


@dataclass(frozen=True)
class CurvePoint:
    """One setting of a package on the calibration noise."""

    model: str
    scheduler: str
    steps: int
    method: str
    setting: str
    macs_kept: float
    macs_kept_without_attention: float
    psnr_db: float
    seed: int


@dataclass(frozen=True)
class Offer:
    """A method's choice for a ratio, to be run on held-out inputs.

    Attributes:
        run: the sampler.
        cost: MACs of its last run for one sample.
        full_runs: what finding it cost, in unpruned runs of 48 samples.
        error: why there is none; the others then mean nothing.
    """

    ratio: float
    run: Sampler | None = None
    cost: Callable[[], Cost] = Cost
    full_runs: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        samples: held-out samples.
        chunk: of them that run together.
        tune: calibration samples on which a package's settings are tried.
        effort: what searches may spend.
    """

    samples: int = 256
    chunk: int = 64
    tune: int = 16
    effort: Effort = field(default_factory=Effort)


def offers_of_plans(
    case: Case, method: PlanMethod, ratios: Sequence[float], options: Options
) -> Iterator[Offer]:
    """Yield the plans of a method, compiled."""
    for ratio in ratios:
        try:
            found = method.find(case, ratio, options.effort)
        except ValueError as error:
            yield Offer(ratio, error=f"{type(error).__name__}: {error}")
            continue
        except Exception:  # a bug of ours: no row, so that the next run tries again, and the others go on
            logger.exception("%s: %s at %s", case.name, method.name, ratio)
            continue
        loop = compiled(case, found.plan)
        after: Cost = loop.report.after
        yield Offer(ratio, loop, lambda after=after: after, found.full_runs)  # type: ignore[misc]


def offers_of_peer(
    case: Case,
    method: peers.Method,
    ratios: Sequence[float],
    options: Options,
    curves: Book[CurvePoint] | None,
) -> Iterator[Offer]:
    """Try all settings of a package on calibration noise and yield the best for every ratio."""
    tuning = case.inputs(options.tune, held_out=False)
    # A package that searches may spend what our search spends, here on other samples.
    full_runs = options.effort.full_runs * case.samples / options.tune
    task = peers.Task(
        case.model,
        case.scheduler,
        case.steps,
        tuning.sample,
        tuning.conditioning,
        case.guidance,
        budgets=tuple(round(1 - ratio, 6) for ratio in ratios),
        full_runs=full_runs,
    )
    outcomes = list(peers.sweep(task, [method]))
    ran = [outcome for outcome in outcomes if not outcome.error]
    spent = sum(outcome.kept for outcome in ran) * options.tune / CALIBRATION
    if method is peers.SUBSET:
        spent += options.effort.full_runs  # at most, for each ratio
    for outcome in ran if curves else ():
        curves.add(_point(case, outcome))  # type: ignore[union-attr]
    for ratio in ratios:
        best = peers.at_budget(outcomes, 1 - ratio)
        if best is None:
            yield Offer(ratio, error=_reason(outcomes))
        else:
            sampler = best.sampler
            yield Offer(ratio, sampler, lambda sampler=sampler: sampler.macs, spent)  # type: ignore[misc]


def _reason(outcomes: Sequence[peers.Outcome]) -> str:
    """Say why no setting serves, in the package's own words where it raised."""
    kept = [outcome.kept for outcome in outcomes if not outcome.error]
    if not kept:
        return outcomes[0].error if outcomes else f"{OUT_OF_REACH}: no settings"
    return f"{OUT_OF_REACH}: keeps {min(kept):.3f} or more"


def _point(case: Case, outcome: peers.Outcome) -> CurvePoint:
    return CurvePoint(
        case.name,
        case.scheduler_name,
        case.steps,
        outcome.method,
        str(outcome.setting),
        round(outcome.kept, 4),
        round(outcome.kept_without_attention, 4),
        round(outcome.psnr, 2),
        case.seed,
    )


class Measurement:
    """Measures offers on one case's held-out inputs against its unpruned result."""

    def __init__(self, case: Case, options: Options, pictured: Path | None = None) -> None:
        self.case, self.options, self.pictured = case, options, pictured
        self.inputs = case.inputs(options.samples, held_out=True)
        self.target, self.seconds, _ = self._run(case.loop(), lambda: case.full)

    def unpruned(self) -> Row:
        """Return the row of the unpruned loop, which says how good the model itself is."""
        self._keep_samples(UNPRUNED, 0.0, self.target)
        return self._row(UNPRUNED, Offer(0.0), self.target, self.seconds, self.case.full)

    def row(self, method: str, offer: Offer) -> Row:
        """Run and measure an offer; a package's error becomes the row's."""
        if offer.run is None:
            return Row(*self._about(method, offer.ratio), seed=self.case.seed, error=offer.error)
        try:
            result, seconds, cost = self._run(offer.run, offer.cost)
        except Exception as error:  # whatever a package raises is a finding
            if isinstance(offer.run, torch.fx.GraphModule):
                raise
            words = f"{type(error).__name__}: {error}"
            return Row(*self._about(method, offer.ratio), seed=self.case.seed, error=words)
        self._keep_samples(method, offer.ratio, result)
        return self._row(method, offer, result, seconds, cost)

    @torch.no_grad()
    def _run(self, run: Sampler, cost: Callable[[], Cost]) -> tuple[torch.Tensor, float, Cost]:
        """Return the samples, seconds of a chunk, and MACs of one sample, which may differ by chunk."""
        results: list[torch.Tensor] = []
        seconds, total, attention, count = 0.0, 0.0, 0.0, len(self.inputs.sample)
        chunks = range(0, count, self.options.chunk)
        for start in chunks:
            part = self.inputs.part(start, start + self.options.chunk)
            begun = time.perf_counter()
            results.append(run(part.sample, **part.conditioning))
            seconds += time.perf_counter() - begun
            total += cost().total * len(part.sample) / count
            attention += cost().attention * len(part.sample) / count
        return torch.cat(results), seconds / len(chunks), Cost(round(total), round(attention))

    def _row(self, method: str, offer: Offer, result: torch.Tensor, seconds: float, cost: Cost) -> Row:
        full = self.case.full
        quality: dict[str, Any] = asdict(self.case.quality(result, self.target, self.inputs))
        return Row(
            *self._about(method, offer.ratio),
            macs_kept=_rounded(cost.total / full.total),
            macs_kept_without_attention=_rounded(cost.without_attention / full.without_attention),
            **{name: _rounded(value) for name, value in quality.items()},
            seconds_per_run=_rounded(seconds),
            search_full_runs=round(offer.full_runs, 1),
            seed=self.case.seed,
        )

    def _about(self, method: str, ratio: float) -> tuple[str, str, int, str, float]:
        return (self.case.name, self.case.scheduler_name, self.case.steps, method, ratio)

    def _keep_samples(self, method: str, ratio: float, result: torch.Tensor) -> None:
        """Keep the first few samples for the pictures, in 8 bits."""
        if self.pictured is None:
            return
        kept = load_file(self.pictured) if self.pictured.exists() else {}
        levels = ((result[:PICTURED].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        kept[f"{method} @ {ratio:g}"] = levels.contiguous()
        self.pictured.parent.mkdir(parents=True, exist_ok=True)
        save_file(kept, self.pictured)


def contenders(
    case: Case, names: Sequence[str] | None, options: Options, curves: Book[CurvePoint] | None
) -> Iterator[tuple[str, Callable[[Sequence[float]], Iterator[Offer]]]]:
    """Yield each method's name with what yields its offers for ratios; ours first, then packages."""
    for plan in PLAN_METHODS:
        if plan.suits(case) and (names is None or plan.name in names):
            yield plan.name, lambda ratios, plan=plan: offers_of_plans(case, plan, ratios, options)  # type: ignore[misc]
    for peer in peers.METHODS:
        if names is None or peer.name in names:
            yield peer.name, lambda ratios, peer=peer: offers_of_peer(case, peer, ratios, options, curves)  # type: ignore[misc]


def measure(
    case: Case,
    book: Book[Row],
    ratios: Sequence[float],
    options: Options,
    methods: Sequence[str] | None = None,
    curves: Book[CurvePoint] | None = None,
    pictured: Path | None = None,
) -> Iterator[Row]:
    """Measure what the book does not have of a case, add each row to it and yield it."""
    todo = [
        (name, offers, missing)
        for name, offers in contenders(case, methods, options, curves)
        if (missing := _missing(book, case, name, ratios))
    ]
    first = _missing(book, case, UNPRUNED, [0.0])
    if not todo and not first:
        return
    measurement = Measurement(case, options, pictured)
    if first:
        yield _added(book, measurement.unpruned())
    for name, offers, missing in todo:
        for offer in offers(missing):
            yield _added(book, measurement.row(name, offer))


def _missing(book: Book[Row], case: Case, method: str, ratios: Sequence[float]) -> list[float]:
    """Return the ratios of a method that were not measured."""
    known = {row.key for row in book.rows()}
    about = (case.name, case.scheduler_name, case.steps, method)
    return [ratio for ratio in ratios if (*about, ratio, case.seed) not in known]


def _added(book: Book[Row], row: Row) -> Row:
    book.add(row)
    return row


# -- tables and pictures


def markdown(rows: Sequence[Row]) -> str:
    """Return all tables: PSNR and FID-like by method and ratio for each model, then errors."""
    about = machine()
    versions = ", ".join(f"{key} {value}" for key, value in about.items() if key != "machine")
    parts = ["# Quality at matched cost", "", f"{about['machine']}; {versions}.", "", GUIDE, ""]
    for group, every in _groups(rows).items():
        chosen = _first_seed(every)
        parts += [f"## {group}", "", _model_text(chosen)]
        for name, title, best in SCORES:
            if any(getattr(row, name) is not None and row.ratio_asked for row in chosen):
                parts += [Table("", title, _pivot(chosen, name, best)).markdown().replace("## ", "### ", 1)]
        if spread := _over_seeds(every):
            title = "PSNR in dB over seeds: mean (lowest to highest)"
            parts += [Table("", title, spread).markdown().replace("## ", "### ", 1)]
    errors = sorted(
        {
            (row.model, row.method, row.error)
            for row in rows
            if row.error and not row.error.startswith(OUT_OF_REACH)
        }
    )
    if errors:
        cells = [{"model": m, "method": n, "error": e.replace("|", "\\|")} for m, n, e in errors]
        parts += [Table("", "Methods that could not run", cells).markdown()]
    return "\n".join(parts)


GUIDE = """Columns are shares of the unpruned loop's MACs that were asked for, at most; the best of a column
is bold. A package may exceed it by 0.0125, and where it skips by what it sees, by more: `macs_kept` in
quality.csv says what ran. PSNR is to the unpruned result of the same noise, FID-like to real images
(EfficientNet-Lite0 features; comparable only inside this file). Of several seeds the first. Empty: no
setting keeps so little, it was not measured, or the method does not run on the model (last table)."""
SCORES = (
    ("psnr_db", "PSNR in dB, higher is better", max),
    ("fid_like", "FID-like, lower is better", min),
    ("class_accuracy", "Share recognised as the class asked for, higher is better", max),
)


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(f"{row.model}, {row.scheduler}, {row.steps} steps", []).append(row)
    return groups


def _model_text(rows: Sequence[Row]) -> str:
    """Say what the unpruned loop scores."""
    own = [row for row in rows if row.method == UNPRUNED]
    found = {name: mean(getattr(row, name) for row in own) for name in ("fid_like", "class_accuracy")}
    told = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in found.items() if value is not None]
    return f"Unpruned: {', '.join(told)}.\n" if told else ""


def _pivot(rows: Sequence[Row], name: str, best: Callable[..., float]) -> list[dict[str, Any]]:
    """Return one row a method and one column a kept share, the best of each column bold."""
    scores: dict[str, dict[float, float]] = {}
    for (method, ratio), own in _measured(rows, name).items():
        scores.setdefault(method, {})[ratio] = sum(own) / len(own)
    ratios = sorted({ratio for own in scores.values() for ratio in own})
    columns = {ratio: [own[ratio] for own in scores.values() if ratio in own] for ratio in ratios}
    worst = min if best is max else max

    def standing(method: str) -> float:
        """Mean of the columns, the worst of a column where there is none."""
        found = [scores[method].get(ratio, worst(columns[ratio])) for ratio in ratios]
        return sum(found) / len(found)

    def cell(method: str, ratio: float) -> str:
        if ratio not in scores[method]:
            return ""
        text = f"{scores[method][ratio]:.{3 if name == 'class_accuracy' else 2}f}"
        return f"**{text}**" if scores[method][ratio] == best(columns[ratio]) else text

    return [
        {"method": method, **{f"{1 - ratio:.0%} kept": cell(method, ratio) for ratio in ratios}}
        for method in sorted(scores, key=standing, reverse=best is max)
    ]


def _first_seed(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the lowest seed: some noise is harder, and not all seeds have all methods."""
    lowest = min(row.seed for row in rows)
    return [row for row in rows if row.seed == lowest]


def _over_seeds(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return mean and range of PSNR where several seeds were measured."""
    several = {key: own for key, own in _measured(rows, "psnr_db").items() if len(own) > 1}
    ratios = sorted({ratio for _, ratio in several})

    def cell(own: list[float] | None) -> str:
        return f"{sum(own) / len(own):.1f} ({min(own):.1f} to {max(own):.1f})" if own else ""

    return [
        {
            "method": method,
            **{f"{1 - ratio:.0%} kept": cell(several.get((method, ratio))) for ratio in ratios},
        }
        for method in dict.fromkeys(method for method, _ in several)
    ]


def _measured(rows: Sequence[Row], name: str) -> dict[tuple[str, float], list[float]]:
    """Return the finite values of a score by method and ratio, one a seed."""
    found: dict[tuple[str, float], list[float]] = {}
    for row in rows:
        value = getattr(row, name)
        if row.method != UNPRUNED and value is not None and math.isfinite(value):
            found.setdefault((row.method, row.ratio_asked), []).append(value)
    return found


def mean(values: Iterator[float | None] | Any) -> float | None:
    """Return the mean of the values there are, or `None`."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    return sum(found) / len(found) if found else None


def draw(book: Book[Row], out: Path) -> None:
    """Draw the Pareto plots and the sample grids of all measured models."""
    for group, every in _groups(book.rows()).items():
        rows = _first_seed(every)
        stem = _stem(rows[0])
        own = [row for row in rows if row.macs_kept is not None and row.method != UNPRUNED]
        for name, label, best in SCORES[:2]:
            lines = _lines(own, name)
            if lines:
                base = mean(getattr(r, name) for r in rows if r.method == UNPRUNED) if best is min else None
                file = out / f"quality-{stem}-{name.replace('_db', '').replace('_', '-')}.png"
                pictures.pareto(lines, label, group, file, _ours(rows), base)
        samples = _samples_file(out, rows[0])
        if samples.exists():
            pictures.sample_grid(
                _strips(load_file(samples), rows), group, out / f"quality-{stem}-samples.png"
            )


def _lines(rows: Sequence[Row], name: str) -> dict[str, list[tuple[float, float]]]:
    """Return for each method the points (kept, score), seeds averaged, along its ratios."""
    points: dict[str, dict[float, list[tuple[float, float]]]] = {}
    for row in rows:
        if (value := getattr(row, name)) is not None and math.isfinite(value) and row.macs_kept is not None:
            points.setdefault(row.method, {}).setdefault(row.ratio_asked, []).append((row.macs_kept, value))
    return {
        method: sorted(
            {(sum(x for x, _ in at) / len(at), sum(y for _, y in at) / len(at)) for at in own.values()}
        )
        for method, own in points.items()
    }


def _strips(samples: dict[str, torch.Tensor], rows: Sequence[Row]) -> list[tuple[str, torch.Tensor]]:
    """Return the unpruned samples, ours at 0.5 and 0.8, and those of the best others at 0.8."""
    at = 0.8
    scored = [row for row in rows if row.ratio_asked == at and row.psnr_db is not None]
    others = sorted(scored, key=lambda row: -(row.psnr_db or 0))
    ours = _ours(rows)
    names = list(dict.fromkeys(row.method for row in others if not row.method.startswith(OURS)))
    wanted = [(UNPRUNED, 0.0), (ours, 0.5), (ours, at), *((name, at) for name in names[:5])]
    told = {(row.method, row.ratio_asked): row.psnr_db for row in rows}
    strips = []
    for method, ratio in wanted:
        if (key := f"{method} @ {ratio:g}") in samples:
            score = told.get((method, ratio))
            detail = "" if score is None or method == UNPRUNED else f"\n{1 - ratio:.0%} kept, {score:.1f} dB"
            strips.append((f"{method}{detail}", samples[key]))
    return strips


def _ours(rows: Sequence[Row]) -> str:
    """Return which of our own methods was measured at most ratios."""
    counts = Counter(row.method for row in rows if row.method.startswith(OURS))
    return counts.most_common(1)[0][0] if counts else DEFAULT.name


def _stem(row: Row) -> str:
    return f"{row.model}-{row.scheduler.lower().replace('+', '')}-{row.steps}"


def _samples_file(out: Path, about: Row) -> Path:
    return out / "samples" / f"{_stem(about)}.safetensors"


def _rounded(value: float | None) -> float | None:
    """Keep five digits."""
    return None if value is None else float(f"{value:.5g}")


# -- command line


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*(m.name for m in PLAN_METHODS), *(m.name for m in peers.METHODS)]
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(STORED))
    parser.add_argument("--methods", nargs="+", choices=known, metavar="METHOD", help=", ".join(known))
    parser.add_argument("--ratios", nargs="+", type=float, default=list(RATIOS), help="shares to remove")
    parser.add_argument("--samples", type=int, default=256, help="held-out samples")
    parser.add_argument("--chunk", type=int, default=64, help="held-out samples that run together")
    parser.add_argument("--calibration", type=int, default=CALIBRATION, help="samples of a search")
    parser.add_argument("--tune", type=int, default=16, help="samples a package's settings are tried on")
    parser.add_argument("--steps", nargs="+", type=int, default=[20])
    parser.add_argument("--schedulers", nargs="+", choices=SCHEDULERS, default=["DDIM"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--full-runs", type=float, default=30.0, help="budget of every search at a ratio")
    parser.add_argument("--search-scale", type=float, default=1.0, help="random, genetic; the paper's is 11")
    parser.add_argument("--paper-iterations", type=int, default=1000)
    parser.add_argument("--curves", action="store_true", help="write all settings of packages")
    parser.add_argument("--plots", action="store_true", help="draw the pictures afterwards")
    parser.add_argument("--smoke", action="store_true", help="digits only, tiny, in seconds")
    parser.add_argument("--merge", nargs="*", type=Path, help="only add the rows of other files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    if options.smoke:
        vars(options).update(SMOKE, tune=min(options.tune, 4))
    return options


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield what was asked for, seeds last: a stopped run has whole cases."""
    for seed in options.seeds:
        for name in options.models:
            for scheduler in options.schedulers:
                for steps in options.steps:
                    yield Case(name, steps, scheduler, seed, options.calibration)


def run(options: argparse.Namespace) -> Book[Row]:
    """Measure what is missing."""
    book = Book(options.out / "quality.csv", Row)
    curves = Book(options.out / "quality-curves.csv", CurvePoint) if options.curves else None
    effort = Effort(options.full_runs, options.search_scale, options.paper_iterations)
    how = Options(options.samples, options.chunk, options.tune, effort)
    bar = tqdm(desc="rows", unit="row")
    first_seed = min([*options.seeds, *(row.seed for row in book.rows())])  # the one the tables show
    for case in cases(options):
        about = Row(case.name, case.scheduler_name, case.steps, "", 0.0)
        pictured = _samples_file(options.out, about) if case.seed == first_seed else None
        for row in measure(case, book, options.ratios, how, options.methods, curves, pictured):
            bar.update()
            told = row.error[:40] if row.error else f"{row.psnr_db} dB"
            bar.set_postfix_str(f"{row.model} {row.method} {row.ratio_asked}: {told}")
    return book


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write tables and pictures."""
    options = arguments(argv)
    torch.set_num_threads(options.threads)
    if options.merge is None:
        book = run(options)
    else:
        book = Book(options.out / "quality.csv", Row)
        for file in options.merge:
            print(f"{file}: {book.merge(file)} new rows")
    (options.out / "quality.md").write_text(markdown(book.rows()), encoding="utf-8")
    if options.plots:
        draw(book, options.out)


if __name__ == "__main__":
    main()
