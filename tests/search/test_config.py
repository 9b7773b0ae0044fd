"""Options of a search: one class a recipe, each option with a range and an effect."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from functools import cache
from typing import Any

import pytest

from dipgo_fx import PaperConfig, Plan, PruneConfig
from searches import QUICK, quick

DEFAULT = {field.name for field in fields(PruneConfig)}
PAPER = {field.name for field in fields(PaperConfig)}


def test_recipes_share_what_both_read() -> None:
    """Samples and the loss; all else is an option of one recipe only."""
    assert {"samples", "loss", "decode"} == DEFAULT & PAPER


@pytest.mark.parametrize("option", sorted(PAPER - DEFAULT))
def test_the_default_recipe_has_no_option_of_the_papers(option: str) -> None:
    """An option without effect is an error."""
    with pytest.raises(TypeError, match=option):
        PruneConfig(**{option: asdict(PaperConfig())[option]})


@pytest.mark.parametrize("option", sorted(DEFAULT - PAPER))
def test_the_papers_recipe_has_no_option_of_the_default(option: str) -> None:
    """So it is the other way round."""
    with pytest.raises(TypeError, match=option):
        PaperConfig(**{option: asdict(PruneConfig())[option]})


def test_options_go_by_name() -> None:
    """A row of numbers says nothing to its reader."""
    for config in (PruneConfig, PaperConfig):
        with pytest.raises(TypeError):
            config(4)  # type: ignore[misc]


def test_the_papers_settings() -> None:
    """Section 4.1 for Stable Diffusion: SGD for 1000 steps of one sample, SSIM, tau at a fifth."""
    config = PaperConfig()
    assert (config.iterations, config.batch_size) == (1000, 1)
    assert (config.learning_rate, config.weight_decay) == (0.1, 1e-4)
    assert (config.loss, config.alpha, config.tau, config.mac_weights) == ("ssim", 1.0, 0.2, True)
    assert (config.encoder, config.width, config.backup) == ("attention", 512, "reuse")


@pytest.mark.parametrize(
    ("config", "option"),
    [
        (PruneConfig, {"samples": 1}),
        (PruneConfig, {"chunk": 0}),
        (PruneConfig, {"full_runs": 0.0}),
        (PruneConfig, {"full_runs": float("nan")}),
        (PruneConfig, {"loss": "lpips"}),
        (PaperConfig, {"samples": 1}),
        (PaperConfig, {"batch_size": 0}),
        (PaperConfig, {"iterations": 0}),
        (PaperConfig, {"learning_rate": 0.0}),
        (PaperConfig, {"tau": 1.0}),
        (PaperConfig, {"tau": -0.1}),
        (PaperConfig, {"width": 30}),
        (PaperConfig, {"loss": "lpips"}),
        (PaperConfig, {"backup": "cubic"}),
        (PaperConfig, {"encoder": "magic"}),
    ],
)
def test_bad_options_are_refused(config: type, option: dict[str, object]) -> None:
    """Every option has a legal range."""
    with pytest.raises(ValueError, match=next(iter(option))):
        config(**option)


# -- effects

BASES: dict[type, Any] = {
    PruneConfig: QUICK,
    # Steep enough for gates to close within three steps.
    PaperConfig: PaperConfig(samples=4, iterations=3, width=32, learning_rate=20.0, tau=0.0),
}
CHANGES: dict[type, dict[str, Any]] = {
    PruneConfig: {
        "samples": 5,
        "chunk": 1,
        "full_runs": 20.0,
        "loss": "l1",
        "decode": lambda samples: 2 * samples,
    },
    PaperConfig: {
        "samples": 5,
        "batch_size": 2,
        "iterations": 2,
        "learning_rate": 5.0,
        "weight_decay": 0.5,
        "loss": "l2",
        "decode": lambda samples: samples[..., :4],
        "backup": "linear",
        "alpha": 0.0,
        "tau": 0.95,
        "mac_weights": False,
        "encoder": "table",
        "width": 16,
        "checkpoint": False,
        "exact_fill": True,
    },
}
# Of eight samples and more, which a quick search has not, a Gauss-Newton step goes by chunks: see
# test_gauss_newton.py for what they do.
CHUNKED = {"samples": 8, "full_runs": 40.0}


@cache
def _searched(config: PruneConfig | PaperConfig) -> Plan:
    return quick(ratio=0.5, num_inference_steps=3, granularity="block", config=config).plan


@pytest.mark.parametrize(
    ("recipe", "option"), [(recipe, option) for recipe, changes in CHANGES.items() for option in changes]
)
def test_every_option_has_an_effect(recipe: type, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another value gives another search: other scores, another loss or another price."""
    base, changed = BASES[recipe], {option: CHANGES[recipe][option]}
    if option == "chunk":
        base = replace(base, **CHUNKED)
        assert _chunks(base, monkeypatch) != _chunks(replace(base, **changed), monkeypatch)
        return
    one, other = _searched(base), _searched(replace(base, **changed))
    assert (_scores(one), _facts(one)) != (_scores(other), _facts(other))


def test_every_option_is_tried() -> None:
    """A new option without a line above fails here."""
    assert {recipe: set(changes) for recipe, changes in CHANGES.items()} == {
        PruneConfig: DEFAULT,
        PaperConfig: PAPER,
    }


def _scores(plan: Plan) -> list[list[float]]:
    assert plan.scores is not None
    return plan.scores.tolist()


def _facts(plan: Plan) -> list[Any]:
    return [plan.origin[key] for key in ("loss", "full_runs", "curve")]


def _chunks(config: PruneConfig, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return how many samples the runs of a search's Gauss-Newton steps go by."""
    from dipgo_fx.search import gauss_newton

    sizes: set[int] = set()
    real = gauss_newton.normal_equations

    def noted(split: Any, found: Any, unknowns: Any, batch: Any, chunk: int) -> Any:
        sizes.update(len(part) for part in batch.chunks(chunk))
        return real(split, found, unknowns, batch, chunk)

    with monkeypatch.context() as patched:
        patched.setattr(gauss_newton, "normal_equations", noted)
        quick(ratio=0.5, num_inference_steps=3, config=config)
    assert sizes
    return sizes
