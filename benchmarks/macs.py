"""Count the MACs of the paper's settings on the real architectures, beside the paper's numbers.

No weights are needed: models are built on the meta device, and every distinct block runs once on
the CPU with empty weights, one model at a time. SDXL takes some GB of memory and some minutes:

    python -m benchmarks.macs --models sd15 dit

Pruned rows are plans of whole steps spread evenly over the loop, the last one partial, with linear
backups: as many as the ratio leaves, by `dipgo_fx.budget.threshold`, in the paper's blocks.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from tqdm import tqdm

from benchmarks.architectures import SETTINGS, Setting
from benchmarks.command_line import CommandLine
from benchmarks.tables import Row, Table, write
from dipgo_fx import Loop, Plan, trace
from dipgo_fx.applying import build
from dipgo_fx.budget import kept_of, threshold
from dipgo_fx.cost import LoopCost
from dipgo_fx.macs import Cost, NodeCounter
from dipgo_fx.passes import Granularity
from dipgo_fx.search.spacing import farthest_first

TERA = 1e12
NOTE = (
    "MACs in units of 10¹² for one image. `ours` has attention's two matrix products, `ours "
    "without` has not; `difference` is relative to the paper, in the convention that it used "
    "for that model. `miss`: budget minus what the plan costs, as a share of the loop (law 5: at "
    "least 0, below 0.0125)."
)
SMOKE = {"models": ["dit"], "steps": 8}


@dataclass(frozen=True)
class Published:
    """What the paper prints for one model.

    Attributes:
        attention: whether its count has attention's two matrix products.
        rows: (number of the paper's table, ratio, MACs in units of 10^12); ratio 0 is unpruned.
        remark: why its count differs from a run of ours.
        granularity: the paper's 4 + 1 + 4 stages; its code prunes SDXL in single layers.
    """

    attention: bool
    rows: tuple[tuple[str, float, float], ...]
    remark: str
    granularity: Granularity = "stage"


PUBLISHED = {
    "sd15": Published(
        False,
        (("T1", 0.0, 16.94), ("T1", 0.8, 3.38), ("T1", 0.85, 2.54), ("T6", 0.9, 1.69)),
        "50 calls (PLMS makes 51), no guidance",
    ),
    "sd21": Published(False, (("T2", 0.0, 38.04), ("T2", 0.7, 11.42), ("T2", 0.8, 7.61)), "no guidance"),
    # The paper names no ratio here; this is the one between its two counts.
    "sdxl": Published(
        False,
        (("T4", 0.0, 11.95), ("T4", round(1 - 11.58 / 11.95, 4), 11.58)),
        "no guidance",
        "block",
    ),
    "dit": Published(True, (("T3", 0.0, 29.66), ("T3", 0.6, 11.86), ("T3", 0.75, 7.40)), "no guidance"),
    "pixart": Published(False, (("T8", 0.0, 85.65), ("T8", 0.4, 51.39)), "guidance: two rows a step"),
}


@dataclass(frozen=True)
class Counted:
    """One model of the table, its loop traced and counted.

    Attributes:
        setting: the model.
        published: what the paper prints for it.
        loop: traced.
        cost: its costs.
        seconds: that counting them took.
        counter: counts SubNets.
    """

    setting: Setting
    published: Published
    loop: Loop
    cost: LoopCost
    seconds: float
    counter: NodeCounter

    @classmethod
    def of(cls, setting: Setting, published: Published) -> Counted:
        """Trace a model and count its loop."""
        loop = trace(
            setting.build(),
            setting.scheduler(),
            setting.steps,
            guidance_scale=setting.guidance_scale,
            granularity=published.granularity,
        )
        start = time.perf_counter()
        cost = LoopCost.of(loop)
        return cls(setting, published, loop, cost, time.perf_counter() - start, NodeCounter(loop))

    def row(self, table: str, ratio: float, tera: float) -> Row:
        """Return the line of one of `published.rows`."""
        setting, attention = self.setting, self.published.attention
        macs, miss = self._pruned(ratio) if ratio else (self.cost.full, None)
        ours = (macs.total if attention else macs.without_attention) / TERA
        return {
            "model": setting.name,
            "steps": setting.steps,
            "ratio": ratio,
            "paper": tera,
            "paper's table": table,
            "paper counts": f"{'with' if attention else 'without'} attention, {self.published.remark}",
            "ours": round(macs.total / TERA, 3),
            "ours without": round(macs.without_attention / TERA, 3),
            "difference": f"{100 * (ours / tera - 1):+.2f} %",
            "miss": None if miss is None else round(miss, 5),
            "blocks": len(self.loop.blocks),
            "seconds to count": None if ratio else round(self.seconds, 1),
        }

    def _pruned(self, ratio: float) -> tuple[Cost, float]:
        """Return what a plan of a ratio costs, and by how much it is cheaper than asked.

        Raises `AssertionError` unless it is (law 5) and its SubNet's calls cost what it says (law 4).
        """
        plan = spread_plan(self.loop, self.cost, ratio)
        told, miss = self.cost.of_table(plan.table), plan.ratio - ratio
        if miss < 0:
            raise AssertionError(f"{self.setting.name}: {plan.ratio:.4f} is under {ratio} (law 5)")
        summed = sum((self.counter.cost(node) for node in build(self.loop, plan).graph.nodes), Cost())
        if summed != told:
            raise AssertionError(f"the plan says {told}, the SubNet's calls cost {summed} (law 4)")
        return told, miss


def spread_scores(steps: int, blocks: int) -> torch.Tensor:
    """Return `(T, N)` scores: whole steps farthest first, within a step the later blocks first.

    Later first, because a block that runs while its readers do not is dead code.
    """
    rank = torch.empty(steps, dtype=torch.float64)
    rank[farthest_first(steps, ())] = torch.arange(steps, 0, -1, dtype=torch.float64)
    return rank[:, None] + torch.arange(blocks, dtype=torch.float64) / blocks


def spread_plan(loop: Loop, cost: LoopCost, ratio: float) -> Plan:
    """Return the plan of a pruned row; it costs at most `1 - ratio` of the loop."""
    scores = spread_scores(loop.num_steps, len(loop.blocks))
    return Plan.from_keep(loop, threshold(scores, kept_of(ratio, cost), cost, 2), "linear")


def measure(name: str, steps: int | None, bar: tqdm[str]) -> Iterator[Row]:
    """Count one model's loop and its plans.

    Args:
        name: of the setting.
        steps: other than the paper's, if given.
        bar: says what is going on.
    """
    setting, published = SETTINGS[name], PUBLISHED[name]
    bar.set_postfix_str(f"{name}: trace and count")
    counted = Counted.of(replace(setting, steps=steps or setting.steps), published)
    for told in published.rows:
        bar.set_postfix_str(f"{name}: ratio {told[1]}")
        yield counted.row(*told)


def main(argv: Sequence[str] | None = None) -> None:
    """Count the asked models, one in memory at a time, and write the table."""
    made = CommandLine(__doc__, SMOKE)
    made.add_models(tuple(SETTINGS))
    made.add_argument("--steps", type=int, help="of every loop, in place of the paper's")
    options = made.read(argv)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    rows: list[Row] = []
    for name in (bar := tqdm(options.models, unit="model")):
        rows += measure(name, options.steps, bar)
        gc.collect()
    table = Table("The paper's settings", rows, NOTE, "paper")
    print(write("macs", "MACs of the paper's settings", [table], options.out))


if __name__ == "__main__":
    main()
