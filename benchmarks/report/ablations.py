"""Blocks on ablations: the paper's choices, ways to search, samplers."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tables import grid, grouped

from .results import NAMES, Row, chosen, numbers, read
from .words import listed, out_of, percent, remarked, span, wrapped

CONDITIONS = (("fashion-unet", "0.5"), ("fashion-unet", "0.8"), ("digits-dit", "0.8"))  # model, ratio
CHOICES = {  # of the paper, by study
    "consistency loss": "ssim",
    "sparsity weight alpha": "1",
    "gate weights gamma": "by MACs",
    "pruner network": "attention",
}
ABLATED = (*((study, "paper") for study in CHOICES), ("consistency loss", "default"))


def ablations() -> str:
    """Table of the paper's ablations: PSNR by model and share."""
    lines = []
    for study, recipe in ABLATED:
        own = chosen(read("ablations"), study=study, recipe=recipe)
        for variant, rows in grouped(own, lambda row: row["variant"]).items():
            cells = [
                ablated(chosen(own, model=model, ratio_asked=ratio), variant) for model, ratio in CONDITIONS
            ]
            lines.append([f"{study}, {recipe}", variant, *cells, rows[0]["paper_clip"]])
    return grid(["study, recipe", "variant", *conditions(), "paper's CLIP"], lines)


def conditions() -> list[str]:
    """Return the models and shares of the ablations."""
    return [f"{NAMES[model]}, {percent(1 - float(ratio))}" for model, ratio in CONDITIONS]


def ablated(rows: Sequence[Row], variant: str) -> str:
    """Return the PSNR of a variant, if it was measured."""
    return "".join(f"{value:.1f}" for value in numbers(chosen(rows, variant=variant), "psnr_db"))


def choices() -> str:
    """How often the paper's own choice has the highest value."""
    rows = chosen(read("ablations"), recipe="paper")
    right = []
    for study, choice in CHOICES.items():
        for (model, ratio), title in zip(CONDITIONS, conditions(), strict=True):
            own = chosen(rows, study=study, model=model, ratio_asked=ratio)
            if own:
                top = max(own, key=lambda row: float(row["psnr_db"]))
                right.append((f"{study} on the {title}", top["variant"] == choice))
    kept = numbers(chosen(rows, ratio_asked="0.8", steps="20"), "macs_kept")
    where = [title for title, is_best in right if is_best]
    text = f"The paper's choices ({listed(map(' '.join, CHOICES.items()))}) have the highest value in"
    return wrapped(
        f"{remarked(f'{text} {out_of(len(where), len(right))} comparisons', '; '.join(where))}. At ratio 0.8 "
        f"and 20 steps its recipe ends at {span(kept, 2)} of the MACs, and no variant has an "
        "interval, so these values rank nothing."
    )


def ways() -> str:
    """Table of ways to search and of samplers at a fifth of the MACs: PSNR and full runs."""
    fifth = chosen(read("ablations"), ratio_asked="0.8")
    rows = [*chosen(fifth, study="search"), *chosen(fifth, study="sampler")]
    groups = grouped(rows, lambda row: (row["study"], row["variant"], row["recipe"], row["steps"]))
    models = dict.fromkeys(model for model, _ in CONDITIONS)
    lines = [[*about, *(way(chosen(own, model=model)) for model in models)] for about, own in groups.items()]
    return grid(["study", "variant", "recipe", "steps", *(NAMES[model] for model in models)], lines)


def way(rows: Sequence[Row]) -> str:
    """Return PSNR, and what the search cost."""
    return "".join(f"{float(row['psnr_db']):.1f} ({row['search_full_runs']} runs)" for row in rows)
