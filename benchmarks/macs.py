"""Count the MACs of the paper's settings on the real architectures, beside the paper's numbers.

No weights are needed: models are built on the meta device, and every distinct block runs once on
the CPU with empty weights, one model at a time. SDXL takes some GB of memory and some minutes:

    python benchmarks/macs.py --models sd15 dit

Pruned rows are plans of whole steps spread evenly over the loop, the last one partial, with linear
backups: as many as the ratio leaves, by `dipgo_fx.threshold.threshold`, in the paper's blocks.
"""

from __future__ import annotations

import argparse
import gc
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from architectures import SETTINGS, Setting
from tables import RESULTS, Row, Table, write
from tqdm import tqdm

from dipgo_fx import Loop, Plan, trace
from dipgo_fx.api import build
from dipgo_fx.macs import LoopCost
from dipgo_fx.passes import Granularity
from dipgo_fx.plan import backup_weights
from dipgo_fx.threshold import threshold

TERA = 1e12
NOTE = (
    "MACs in units of 10¹² for one image. `ours` has attention's two matrix products, `ours "
    "without` has not; `difference` is relative to the paper, in the convention that it used "
    "for that model. `miss`: budget minus what the plan costs, as a share of the loop (law 5: at "
    "least 0, below 0.0125)."
)


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


def spread_order(steps: int) -> list[int]:
    """Return all steps in an order whose every prefix is spread: the widest gap is halved next."""
    order, ends = [0], [0, steps]
    while len(order) < steps:
        width, negative_start = max((b - a, -a) for a, b in pairwise(ends))
        order.append(width // 2 - negative_start)
        ends = sorted([*ends, order[-1]])
    return order


def spread_scores(steps: int, blocks: int) -> torch.Tensor:
    """Return `(T, N)` scores: whole steps in `spread_order`, within a step the later blocks first.

    Later first, because a block that runs while its readers do not is dead code.
    """
    rank = torch.empty(steps, dtype=torch.float64)
    rank[spread_order(steps)] = torch.arange(steps, 0, -1, dtype=torch.float64)
    return rank[:, None] + torch.arange(blocks, dtype=torch.float64) / blocks


def spread_plan(loop: Loop, cost: LoopCost, ratio: float) -> Plan:
    """Return the plan of a pruned row; it costs at most `1 - ratio` of the loop."""
    keep = threshold(spread_scores(loop.num_steps, len(loop.blocks)), ratio, cost, 2)
    weights = backup_weights(keep, "linear")
    return Plan(loop.facts, keep, weights, 1 - cost.share(keep.tolist(), weights.tolist()))


def check_subnet(loop: Loop, plan: Plan, cost: LoopCost) -> None:
    """Raise `AssertionError` unless a SubNet's calls cost what its plan says (law 4)."""
    units = {str(n.target): c.total for n, c in zip(cost.reads.units, cost.units, strict=True)}
    calls = Counter(str(n.target) for n in build(loop, plan, cost).graph.nodes if n.op == "call_module")
    summed = cost.fixed.total + sum(units.get(t, 0) * count for t, count in calls.items())
    told = cost.of_plan(plan.keep.tolist(), plan.weights.tolist()).total
    if summed != told:
        raise AssertionError(f"the plan says {told} MACs, the SubNet's calls cost {summed}")


def measure(name: str, setting: Setting, published: Published, bar: tqdm[None]) -> list[Row]:
    """Count one model's loop and its plans."""
    bar.set_postfix_str(f"{name}: trace")
    loop = trace(
        setting.build(),
        setting.scheduler(),
        setting.steps,
        guidance_scale=setting.guidance_scale,
        granularity=published.granularity,
    )
    bar.set_postfix_str(f"{name}: count")
    start = time.perf_counter()
    cost = LoopCost.of(loop)
    seconds = time.perf_counter() - start
    rows = []
    for table, ratio, tera in published.rows:
        bar.set_postfix_str(f"{name}: ratio {ratio}")
        rows.append(row(setting, published, (table, ratio, tera), loop, cost))
    rows[0]["seconds to count"] = round(seconds, 1)
    return rows


def row(
    setting: Setting,
    published: Published,
    told: tuple[str, float, float],
    loop: Loop,
    cost: LoopCost,
) -> Row:
    """Return one line of the table; `told` is one of `published.rows`."""
    table, ratio, tera = told
    counted, miss = cost.full, None
    if ratio:
        plan = spread_plan(loop, cost, ratio)
        check_subnet(loop, plan, cost)
        counted = cost.of_plan(plan.keep.tolist(), plan.weights.tolist())
        miss = plan.ratio - ratio
        if miss < 0:
            raise AssertionError(f"{setting.name}: {plan.ratio:.4f} is under {ratio} (law 5)")
    ours = (counted.total if published.attention else counted.without_attention) / TERA
    return {
        "model": setting.name,
        "steps": setting.steps,
        "ratio": ratio,
        "paper": tera,
        "paper's table": table,
        "paper counts": ("with" if published.attention else "without") + f" attention, {published.remark}",
        "ours": round(counted.total / TERA, 3),
        "ours without": round(counted.without_attention / TERA, 3),
        "difference": f"{100 * (ours / tera - 1):+.2f} %",
        "miss": None if miss is None else round(miss, 5),
        "blocks": len(loop.blocks),
        "seconds to count": None,
    }


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=tuple(SETTINGS), default=tuple(SETTINGS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    """Count the asked models, one in memory at a time, and write the table."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    rows: list[Row] = []
    for name in (bar := tqdm(options.models, unit="model")):
        rows += measure(name, SETTINGS[name], PUBLISHED[name], bar)
        gc.collect()
    table = Table("paper", "The paper's settings", rows, NOTE)
    print(write("macs", "MACs of the paper's settings", [table], options.out))


if __name__ == "__main__":
    main()
