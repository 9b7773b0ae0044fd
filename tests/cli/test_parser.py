"""Words and options in any order; what is no option is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dipgo_fx.cli.parser import UsageError, parser


@pytest.mark.parametrize(
    ("given", "prompt"),
    [
        ("--seed 7 a b", ["a", "b"]),
        ("a --seed 7 b", ["a", "b"]),
        ("a b --seed 7", ["a", "b"]),
        ("a --seed 7 b --out images c", ["a", "b", "c"]),
        ("--seed 7 -- -a --b", ["-a", "--b"]),
        ("--seed 7", []),
    ],
)
def test_prompts_stand_anywhere(given: str, prompt: list[str]) -> None:
    """Before, between and after options, in their order."""
    options = parser().parse_args(["run", "sd", "plan.json", *given.split()])
    assert (options.folder, options.plan) == (Path("sd"), Path("plan.json"))
    assert (options.prompt, options.seed) == (prompt, 7)


@pytest.mark.parametrize("given", ["sd a b --out x", "sd a --out x b", "sd --out x a b", "--out x sd a b"])
def test_plans_stand_anywhere(given: str) -> None:
    """As paths."""
    options = parser().parse_args(["compare", *given.split()])
    assert (options.folder, options.plans, options.out) == (Path("sd"), [Path("a"), Path("b")], Path("x"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("run sd plan.json --seed 7 a --bogus", "unrecognized arguments: a --bogus"),
        ("run sd plan.json --bogus 7 a", "unrecognized arguments: --bogus 7 a"),
        ("run sd plan.json --see 7 a", "unrecognized arguments: --see 7 a"),
        ("run sd --seed 7", "required: plan"),
        ("compare sd --out x.png", "required: plan"),
        ("show plan.json --json other.json", "unrecognized arguments: other.json"),
        ("show plan.json --deb", "unrecognized arguments: --deb"),
        ("--print bash", "invalid choice: 'bash'"),
    ],
)
def test_other_words_are_refused(given: str, says: str) -> None:
    """Unknown and shortened options, and words that a command does not take."""
    with pytest.raises(UsageError, match=says):
        parser().parse_args(given.split())
