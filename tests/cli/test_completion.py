"""`dipgo-fx --print-completion`: what a shell makes of the script."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dipgo_fx.cli import main
from dipgo_fx.cli.completion import SHELLS, completion
from dipgo_fx.cli.parser import parser


def printed(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the option prints; it ends the command as `--help` does."""
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", shell])
    assert not end.value.code
    script, errors = capsys.readouterr()
    assert errors == ""
    return script


def completed(script: str, words: list[str], folder: Path) -> list[str]:
    """Return what bash offers for the last of some words."""
    line = " ".join(f"'{word}'" for word in words)
    ask = f"""
COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}
eval "$(complete -p dipgo-fx | sed -E 's/.*-F ([^ ]+).*/completer=\\1/')"
"$completer" dipgo-fx '{words[-1]}' '{words[-2]}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    program = ["bash", "--norc", "-c", script + ask]
    result = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["r"], ["run", "report"]),
        (["prune", "--jo"], ["--journal"]),
        (["prune", "x", "--dtype", "b"], ["bfloat16"]),
        (["show", "pl"], ["plan.json"]),
        (["run", "x", "plan.json", "--out", "pl"], ["plan.json"]),
        (["--print-completion", "z"], ["zsh"]),
    ],
)
def test_bash_completes(
    words: list[str], offered: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands, options, choices, and files where a path is asked for."""
    (tmp_path / "plan.json").touch()
    assert {*completed(printed("bash", capsys), ["dipgo-fx", *words], tmp_path)} == {*offered}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_script_of_all_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The shells are those of shtab."""
    script = printed(shell, capsys)
    assert all(command in script for command in ("prune", "run", "compare", "report", "macs", "show", "demo"))


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line that names those there are."""
    assert main(["--print-completion", "fish"]) == 2
    assert "'bash', 'zsh', 'tcsh'" in capsys.readouterr().err


def test_without_shtab_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With status 2 and one line; other commands do without."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 2
    assert capsys.readouterr() == (
        "",
        "dipgo-fx: shell completion needs shtab: pip install 'dipgo-fx[completion]'\n",
    )


def test_help_tells_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Where all options stand, and what to install for it."""
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--print-completion {bash,zsh,tcsh}" in said
    assert "dipgo-fx[completion]" in said


def test_the_parser_stays_what_it_is() -> None:
    """A script is about the parser as it is: the same twice."""
    assert completion(parser(), "bash") == completion(parser(), "bash")
