"""The repository's shape: what lies where, who imports whom, what no library code does."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path, PurePath

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {
    "LICENSE",
    "README.md",
    "benchmarks",
    "dipgo_fx",
    "passes",
    "pyproject.toml",
    "tests",
}
ARTEFACTS = ("build", "dist", "*.egg-info", "__pycache__")  # left by pip, hidden by .gitignore
UNSAFE_MODULES = {"cloudpickle", "dill", "marshal", "pickle", "shelve"}
MAY_PRINT = ("dipgo_fx/cli.py", "dipgo_fx/demo/*.py")

Rule = Callable[[ast.AST], bool]


def own_folders() -> Iterator[Path]:
    """Yield every folder with Python files of the library, without following links."""
    for top in ("dipgo_fx", "passes"):
        for folder, _, files in os.walk(ROOT / top):
            if any(file.endswith(".py") for file in files):
                yield Path(folder)


def own_files() -> Iterator[Path]:
    """Yield every Python file of the library once."""
    for folder in own_folders():
        yield from sorted(folder.glob("*.py"))


def visible_entries() -> set[str]:
    """Return the visible top-level names that git tracks or would add, without git the folder's."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        names = {path.split("/")[0] for path in listing.stdout.splitlines()}
    except (OSError, subprocess.CalledProcessError):
        names = {
            entry.name
            for entry in ROOT.iterdir()
            if not any(PurePath(entry.name).match(pattern) for pattern in ARTEFACTS)
        }
    return {name for name in names if not name.startswith(".")}


def violations(rule: Rule, files: Iterator[Path]) -> list[str]:
    """Return file:line of every syntax node the rule objects to."""
    return [
        f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if rule(node)
    ]


def imported_modules(node: ast.AST) -> list[str]:
    """Return the absolute names a statement imports from; relative imports give none."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module or ""]
    return []


def called_name(node: ast.AST) -> str:
    """Return the dotted name a call calls, or an empty string."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def imports_upwards(node: ast.AST) -> bool:
    """Tell whether a statement in passes/ reaches for the rest of dipgo_fx."""
    if isinstance(node, ast.ImportFrom) and node.level > 1:
        return True
    return any(re.match(r"dipgo_fx(?!\.passes\b)", name) for name in imported_modules(node))


def imports_passes_by_folder(node: ast.AST) -> bool:
    """Tell whether a statement imports the compiler under its folder's name."""
    return any(name.split(".")[0] == "passes" for name in imported_modules(node))


def prints(node: ast.AST) -> bool:
    """Tell whether a node calls print."""
    return called_name(node) == "print"


def runs_foreign_code(node: ast.AST) -> bool:
    """Tell whether a node may run code that comes with data: unpickling, eval, exec."""
    if any(name.split(".")[0] in UNSAFE_MODULES for name in imported_modules(node)):
        return True
    if not isinstance(node, ast.Call):
        return False
    keywords = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
    if called_name(node) == "torch.load" and keywords.get("weights_only") is not True:
        return True
    return called_name(node) in {"eval", "exec"} or keywords.get("allow_pickle") is True


def test_top_level_holds_the_agreed_entries_only() -> None:
    """Nothing else is visible at the top of the repository."""
    assert visible_entries() == TOP_LEVEL


def test_package_list_equals_the_folders() -> None:
    """The packages named in pyproject.toml are the folders that hold Python files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = [folder.relative_to(ROOT).parts for folder in own_folders()]
    names = {".".join(parts).replace("passes", "dipgo_fx.passes", 1) for parts in folders}
    assert names == set(project["tool"]["setuptools"]["packages"])


def test_passes_is_linked_into_the_package() -> None:
    """The link that lets type checkers see dipgo_fx.passes points at passes/."""
    link = ROOT / "dipgo_fx" / "passes"
    target = os.readlink(link) if link.is_symlink() else link.read_text()  # a clone without links
    assert target == "../passes"


def test_passes_refuses_its_folder_name() -> None:
    """Importing passes from the repository's root fails and says which name to use."""
    command = [sys.executable, "-c", "import passes"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "its one name is 'dipgo_fx.passes'" in result.stderr


def test_the_package_ships_its_data() -> None:
    """The type marker and the demo's weights are found where dipgo_fx is installed."""
    package = resources.files("dipgo_fx")
    assert package.joinpath("py.typed").is_file()
    assert any(package.joinpath("demo", "weights").iterdir())


@pytest.mark.parametrize("module", ["dipgo_fx", "dipgo_fx.passes"])
def test_every_public_name_is_documented(module: str) -> None:
    """Each class, function and module in __all__ exists and has a docstring of its own."""
    namespace = importlib.import_module(module)
    public = {name: getattr(namespace, name) for name in namespace.__all__}
    described = {
        name: value.__doc__ or ""
        for name, value in public.items()
        if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)
    }
    # A dataclass without a docstring gets its signature for one.
    assert [n for n, text in described.items() if not text or text.startswith(f"{n}(")] == []


def test_imports_point_one_way() -> None:
    """The compiler in passes/ imports nothing of dipgo_fx but itself, and goes by one name."""
    files = [file for file in own_files() if file.relative_to(ROOT).parts[0] == "passes"]
    assert violations(imports_upwards, iter(files)) == []
    assert violations(imports_passes_by_folder, own_files()) == []


def test_the_library_does_not_print() -> None:
    """Only the command line and the demo write to standard output."""
    silent = [
        file
        for file in own_files()
        if not any(file.relative_to(ROOT).match(pattern) for pattern in MAY_PRINT)
    ]
    assert violations(prints, iter(silent)) == []


def test_the_library_runs_no_foreign_code() -> None:
    """No library file unpickles, evaluates text or loads tensors without weights_only."""
    assert violations(runs_foreign_code, own_files()) == []


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (imports_upwards, "from .. import plan"),
        (imports_upwards, "import dipgo_fx"),
        (imports_upwards, "from dipgo_fx.plan import Plan"),
        (imports_passes_by_folder, "from passes.base import GraphPass"),
        (prints, "print(1)"),
        (runs_foreign_code, "import pickle"),
        (runs_foreign_code, "eval('1')"),
        (runs_foreign_code, "torch.load(file)"),
        (runs_foreign_code, "torch.load(file, weights_only=False)"),
        (runs_foreign_code, "numpy.load(file, allow_pickle=True)"),
    ],
)
def test_a_rule_objects(rule: Rule, code: str) -> None:
    """Each rule of this file finds what it is there to find."""
    assert any(rule(node) for node in ast.walk(ast.parse(code)))


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (imports_upwards, "from .base import GraphPass"),
        (imports_upwards, "import torch.fx"),
        (imports_upwards, "from dipgo_fx.passes.base import GraphPass"),
        (prints, "table.print()"),
        (runs_foreign_code, "model.eval()"),
        (runs_foreign_code, "torch.load(file, weights_only=True)"),
    ],
)
def test_a_rule_lets_pass(rule: Rule, code: str) -> None:
    """No rule of this file objects to what is fine."""
    assert not any(rule(node) for node in ast.walk(ast.parse(code)))


@pytest.mark.parametrize("name", ["demo", "test"])
def test_readme_marks_its_commands(name: str) -> None:
    """The README has one line for the main job and one for the tests, which .ci/run reads."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    marked = rf"^<!-- command: {name} -->\n```bash\npython3 [^\n]+\n```$"
    assert re.search(marked, readme, re.MULTILINE)
