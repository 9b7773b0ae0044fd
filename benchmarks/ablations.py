"""What each part of a search is worth: losses, sparsity, the pruner network, samplers, ways to search.

`python -m benchmarks.ablations` appends rows to results/ablations.csv, one a variant and ratio, and draws
ablations.md from them; what the file has is not measured again. `--pictures` draws how alike block outputs
are across steps (DiP-GO's figure 7) and which blocks plans keep (figure 6).

The paper's own ablations are CLIP scores of Stable Diffusion 1.5 at ratio 0.8, higher is better (unpruned
30.30); they stand beside ours in `paper_clip` to compare the order of the variants, not the values. Its
Table 6 gave random and genetic search 25 GPU-hours and its own 2.3; here all get the same unless
`--search-scale` says otherwise. A ratio is the share of MACs that is removed.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks import pictures, plans
from benchmarks.book import Book
from benchmarks.cases import CALIBRATION, CASES, Case
from benchmarks.plans import Effort, Found
from benchmarks.tables import RESULTS, Table, machine
from dipgo_fx import Plan, PruneConfig
from dipgo_fx.api import at_ratio
from dipgo_fx.loop import denoise, prepared
from dipgo_fx.macs import LoopCost
from dipgo_fx.plan import repeats

logger = logging.getLogger("benchmarks.ablations")
PAPER, REFINE = "paper", "default"
FEW_STEPS = 8  # of LCM, which is made for few
SAMPLERS = ("DDIM", "PNDM", "DPM-Solver++", "LCM")
PICTURED_BLOCKS = 4


@dataclass(frozen=True)
class Variant:
    """One way to search.

    Attributes:
        study: what is varied.
        name: what it is set to.
        recipe: `paper` or `default`, or the name of a baseline of `benchmarks.plans`.
        changes: options of `PruneConfig` that differ from the recipe's.
        scheduler: the sampler.
        paper_clip: the paper's CLIP score of this variant.
    """

    study: str
    name: str
    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)
    scheduler: str = "DDIM"
    paper_clip: float | None = None


@dataclass(frozen=True)
class Row:
    """One measurement; PSNR and SSIM are to the unpruned result of held-out noise."""

    model: str
    scheduler: str
    steps: int
    study: str
    variant: str
    recipe: str
    ratio_asked: float
    macs_kept: float | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    class_accuracy: float | None = None
    search_full_runs: float | None = None
    search_seconds: float | None = None
    paper_clip: float | None = None
    seed: int = 0
    error: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes a row the same measurement."""
        about = (self.model, self.scheduler, self.steps, self.study, self.variant, self.recipe)
        return (*about, self.ratio_asked, self.seed)


def variants() -> Iterator[Variant]:
    """Yield everything that is compared."""
    for loss, clip in (("l1", 29.94), ("l2", 29.71), ("ssim", 30.29), ("l1+ssim", 29.77)):
        yield Variant("consistency loss", loss, PAPER, {"loss": loss}, paper_clip=clip)
        yield Variant("consistency loss", loss, REFINE, {"loss": loss})
    for alpha, clip in ((0.1, 29.77), (0.5, 29.93), (1.0, 30.29), (2.0, 30.17)):
        yield Variant("sparsity weight alpha", f"{alpha:g}", PAPER, {"alpha": alpha}, paper_clip=clip)
    for weighted, clip in ((True, 30.29), (False, 29.50)):
        name = "by MACs" if weighted else "none"
        yield Variant("gate weights gamma", name, PAPER, {"mac_weights": weighted}, paper_clip=clip)
    for encoder in ("attention", "linear", "table"):
        yield Variant("pruner network", encoder, PAPER, {"encoder": encoder})
    for sampler in SAMPLERS:
        for recipe in (REFINE, PAPER):
            yield Variant("sampler", sampler, recipe, scheduler=sampler)
    for recipe, clip in (("random search", 28.73), ("genetic search", 29.37), (PAPER, 30.29)):
        yield Variant("search", recipe, recipe, paper_clip=clip)
    yield Variant("search", REFINE, REFINE)


BASELINES = {method.name: method.find for method in (plans.RANDOM, plans.GENETIC)}


class Lab:
    """Runs searches on one model; equal searches of different studies run once.

    Args:
        effort: what a search may spend.
        samples: held-out samples.
        calibration: samples of a search.
    """

    def __init__(
        self,
        model: str,
        steps: int,
        seed: int,
        effort: Effort,
        samples: int = 64,
        calibration: int = CALIBRATION,
    ) -> None:
        self.model, self.steps, self.seed = model, steps, seed
        self.effort, self.samples, self.calibration = effort, samples, calibration
        self._cases: dict[str, Case] = {}
        self._known: dict[str, tuple[Any, float]] = {}

    def case(self, scheduler: str = "DDIM") -> Case:
        """Return the model under a sampler."""
        if scheduler not in self._cases:
            self._cases[scheduler] = Case(
                self.model, self.steps_of(scheduler), scheduler, self.seed, self.calibration
            )
        return self._cases[scheduler]

    def steps_of(self, scheduler: str) -> int:
        """Return the number of steps a sampler is measured at."""
        return min(self.steps, FEW_STEPS) if scheduler == "LCM" else self.steps

    def row(self, variant: Variant, ratio: float) -> Row:
        """Search, run the plan on held-out noise and measure it; a ratio out of reach is an error's row."""
        about = Row(
            self.model,
            variant.scheduler,
            self.steps_of(variant.scheduler),
            variant.study,
            variant.name,
            variant.recipe,
            ratio,
            paper_clip=variant.paper_clip,
            seed=self.seed,
        )
        try:
            found, seconds = self.found(variant, ratio)
        except (ValueError, FloatingPointError) as error:
            return Row(**{**asdict(about), "error": f"{type(error).__name__}: {error}"})
        return Row(
            **{
                **asdict(about),
                **self._measured(variant.scheduler, found.plan),
                "search_full_runs": round(found.full_runs, 1),
                "search_seconds": round(seconds, 1),
            }
        )

    def found(self, variant: Variant, ratio: float) -> tuple[Found, float]:
        """Return the plan of a variant, and seconds of its search."""
        case = self.case(variant.scheduler)
        if variant.recipe == PAPER:
            changes = asdict(PruneConfig.paper(**variant.changes))
            plan, seconds = self._once(
                f"{variant.scheduler} {changes}",
                lambda: plans.train_paper(case, self.effort, **variant.changes),
            )
            cost = LoopCost.of(case.loop_of(plan))
            return Found(at_ratio(plan, ratio, cost), plans.full_runs_of(plan)), seconds
        if variant.recipe == REFINE:
            config = PruneConfig(
                samples=self.calibration, full_runs=self.effort.of_default, **variant.changes
            )
            plan, seconds = self._once(
                f"{variant.scheduler} {ratio} {asdict(config)}", lambda: plans.searched(case, ratio, config)
            )
            return Found(plan, plans.full_runs_of(plan)), seconds
        find = BASELINES[variant.recipe]
        found: tuple[Found, float] = self._once(
            f"{variant.scheduler} {ratio} {variant.recipe}", lambda: find(case, ratio, self.effort)
        )
        return found

    def _once(self, name: str, make: Callable[[], Any]) -> tuple[Any, float]:
        if name not in self._known:
            start = time.perf_counter()
            made = make()
            self._known[name] = (made, time.perf_counter() - start)
        return self._known[name]

    @torch.no_grad()
    def _measured(self, scheduler: str, plan: Plan) -> dict[str, float | None]:
        case = self.case(scheduler)
        inputs, loop = case.inputs(self.samples, held_out=True), plans.compiled(case, plan)

        def run(net: Any) -> torch.Tensor:  # samplers that draw noise draw the same for both
            noise = torch.Generator().manual_seed(self.seed)
            result: torch.Tensor = net(inputs.sample, **inputs.conditioning, generator=noise)
            return result

        result, target = run(loop), run(case.loop())
        quality = case.quality(result, target, inputs)
        return {
            "macs_kept": round(loop.report.after.total / loop.report.before.total, 4),
            "psnr_db": round(quality.psnr_db or 0.0, 2),
            "ssim": round(quality.ssim or 0.0, 4),
            "class_accuracy": quality.class_accuracy,
        }


# -- tables


def markdown(rows: Sequence[Row]) -> str:
    """Return one table a study, seeds averaged."""
    about = machine()
    versions = ", ".join(f"{key} {value}" for key, value in about.items() if key != "machine")
    parts = ["# Ablations", "", f"{about['machine']}; {versions}.", "", GUIDE, ""]
    for model, steps in dict.fromkeys((row.model, row.steps) for row in rows if row.scheduler == "DDIM"):
        for study in dict.fromkeys(row.study for row in rows):
            chosen = [row for row in rows if (row.model, row.study) == (model, study)]
            parts += [Table("", f"{study}: {model}, {steps} steps", _averages(chosen)).markdown()]
    return "\n".join(parts)


GUIDE = f"""PSNR and SSIM are to the unpruned result of held-out noise. `paper`: the paper's recipe, one
training for all ratios; `default`: ours. Cost is in unpruned runs of {CALIBRATION} samples. `paper_clip`:
CLIP scores of Stable Diffusion 1.5 at ratio 0.8 in tables 5 to 7 of DiP-GO (unpruned 30.30). LCM runs
{FEW_STEPS} steps at most."""
AVERAGED = (
    "macs_kept",
    "psnr_db",
    "ssim",
    "class_accuracy",
    "search_full_runs",
    "search_seconds",
    "paper_clip",
)


def _averages(rows: Sequence[Row]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.variant, row.recipe, row.ratio_asked), []).append(row)
    return [
        {
            "variant": variant,
            "recipe": recipe,
            "ratio": ratio,
            **{name: _mean([getattr(row, name) for row in group]) for name in AVERAGED},
            "seeds": len(group),
            "error": next((row.error.replace("|", "\\|") for row in group if row.error), ""),
        }
        for (variant, recipe, ratio), group in groups.items()
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None


# -- pictures


@torch.no_grad()
def similarities(case: Case, samples: int) -> dict[str, torch.Tensor]:
    """Return `(T, T)` cosine similarities of some blocks' outputs between all pairs of steps.

    Each is the mean over samples of the cosine of two whole feature maps, as in the paper's figure 7.
    """
    inputs = case.inputs(samples, held_out=True)
    seen: dict[str, list[torch.Tensor]] = {b: [] for b in _spread(case.loop().blocks, PICTURED_BLOCKS)}
    hooks = [case.model.get_submodule(block).register_forward_hook(_keeper(seen[block])) for block in seen]
    try:
        scheduler = prepared(case.scheduler, case.steps)
        denoise(case.model, scheduler, inputs.sample, inputs.conditioning, guidance_scale=case.guidance)
    finally:
        for hook in hooks:
            hook.remove()
    return {block: _cosines(torch.stack(outputs)) for block, outputs in seen.items()}


def _keeper(outputs: list[torch.Tensor]) -> Callable[..., None]:
    def keep(module: Any, args: Any, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        outputs.append(tensor.flatten(1).clone())

    return keep


def _cosines(outputs: torch.Tensor) -> torch.Tensor:
    """Return the `(T, T)` mean cosines of `(T, samples, features)`."""
    unit = F.normalize(outputs, dim=-1)
    return torch.einsum("tnd,snd->nts", unit, unit).mean(0)


def _spread(names: Sequence[str], count: int) -> list[str]:
    """Return some names, evenly spread, the last one that has company included."""
    last = len(names) - 2 if len(names) > 2 else len(names) - 1  # the output head shows little
    return list(dict.fromkeys(names[round(i * last / max(count - 1, 1))] for i in range(count)))


def kinds(case: Case, plan: Plan) -> torch.Tensor:
    """Return `(T, N)` indices into `pictures.KINDS`: what a plan does with each block at each step."""
    cost = LoopCost.of(case.loop_of(plan))
    keep, weights = plan.keep.tolist(), plan.weights.tolist()
    live, table = cost.reads.live(keep, weights), cost.live(keep, weights)
    result = torch.zeros(plan.keep.shape, dtype=torch.int64)
    forecast = ~repeats(plan.weights)
    for t, running in enumerate(live):
        read = cost.reads.output
        for unit, reads in enumerate(cost.reads.reads):
            if running >> unit & 1:
                read |= reads
        for n in range(cost.reads.num_blocks):
            if table[t, n]:
                result[t, n] = 3
            elif read >> n & 1:
                result[t, n] = 2 if forecast[t, n] else 1
    return result


def draw(lab: Lab, ratios: Sequence[float], out: Path) -> None:
    """Draw figures 6 and 7 for a model."""
    case = lab.case()
    title = f"{case.name}, {case.scheduler_name}, {case.steps} steps"
    pictures.similarity(
        similarities(case, min(lab.samples, 16)),
        f"Similarity of block outputs across steps: {title}",
        out / f"similarity-{case.name}.png",
    )
    for recipe in (REFINE, PAPER):
        found = {ratio: lab.found(Variant("", "", recipe), ratio)[0].plan for ratio in ratios}
        tables = {f"{1 - ratio:.0%} of MACs kept": kinds(case, plan) for ratio, plan in found.items()}
        blocks = next(iter(found.values())).blocks
        file = out / f"kept-{recipe}-{case.name}.png"
        pictures.kept_blocks(tables, blocks, f"Blocks that run, {recipe} recipe: {title}", file)


# -- command line


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write tables and pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    studies = list(dict.fromkeys(variant.study for variant in variants()))
    parser.add_argument("--model", choices=CASES, default="digits-dit")
    parser.add_argument("--studies", nargs="+", choices=studies, default=studies)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.5, 0.8], help="shares to remove")
    parser.add_argument("--samples", type=int, default=64, help="held-out samples")
    parser.add_argument("--calibration", type=int, default=CALIBRATION, help="samples of a search")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--full-runs", type=float, default=30.0, help="budget of every search at a ratio")
    parser.add_argument("--search-scale", type=float, default=1.0, help="random, genetic; the paper's is 11")
    parser.add_argument("--paper-iterations", type=int, default=1000)
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    book = Book(options.out / "ablations.csv", Row)
    effort = Effort(options.full_runs, options.search_scale, options.paper_iterations)
    for seed in options.seeds:
        lab = Lab(options.model, options.steps, seed, effort, options.samples, options.calibration)
        measure(lab, book, [v for v in variants() if v.study in options.studies], options.ratios)
        if options.pictures and seed == options.seeds[0]:
            draw(lab, options.ratios, options.out)
    (options.out / "ablations.md").write_text(markdown(book.rows()), encoding="utf-8")


def measure(lab: Lab, book: Book[Row], chosen: Sequence[Variant], ratios: Sequence[float]) -> None:
    """Add the rows that a book does not have."""
    known = {row.key for row in book.rows()}
    bar = tqdm([(variant, ratio) for variant in chosen for ratio in ratios], unit="row")
    for variant, ratio in bar:
        bar.set_postfix_str(f"{variant.study}: {variant.name}, {variant.recipe}, {ratio}")
        about = (lab.model, variant.scheduler, lab.steps_of(variant.scheduler), variant.study, variant.name)
        if (*about, variant.recipe, ratio, lab.seed) in known:
            continue
        try:
            book.add(lab.row(variant, ratio))
        except Exception:  # a bug: no row, so that the next run tries again, and the others go on
            logger.exception("%s: %s, %s at %s", variant.study, variant.name, variant.recipe, ratio)


if __name__ == "__main__":
    main()
