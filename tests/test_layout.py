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
from types import ModuleType

import pytest

import dipgo_fx
from import_graph import cycle_of, imports_of, reached

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
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
MAY_PRINT = ("dipgo_fx/demo/*.py",)
# The command line starts without torch, and the demo's extras may be missing.
MAY_IMPORT_LATE = ("dipgo_fx/demo/*.py",)
# Which folder the tests in each folder are about.
MIRRORED = {
    "": "dipgo_fx",
    "cli": "dipgo_fx/cli",
    "passes": "passes",
    "pipelines": "dipgo_fx/pipelines",
    "search": "dipgo_fx/search",
    "demo": "dipgo_fx/demo",
    "benchmarks": "benchmarks",
}
# About more than one file.
CROSS_CUTTING = {
    "tests/test_compile.py",
    "tests/test_cuda.py",
    "tests/test_doctests.py",
    "tests/test_golden.py",
    "tests/test_guide.py",
    "tests/test_laws.py",
    "tests/test_laws_at_scale.py",
    "tests/test_layout.py",
    "tests/test_readme.py",
    "tests/benchmarks/test_frozen.py",
    "tests/benchmarks/test_scripts.py",
}

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


def own_files_but(patterns: tuple[str, ...]) -> Iterator[Path]:
    """Yield the Python files of the library whose path from the root matches none of the patterns."""
    for file in own_files():
        if not any(file.relative_to(ROOT).match(pattern) for pattern in patterns):
            yield file


def modules() -> dict[str, Path]:
    """Return every module of the library by the name that it is imported by."""
    found: dict[str, Path] = {}
    for file in own_files():
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[f"dipgo_fx.{name}" if parts[0] == "passes" else name] = file
    return found


def import_graph() -> dict[str, set[str]]:
    """Return for every module of the library those that it imports."""
    known = modules()
    return {
        name: imports_of(file.read_text(encoding="utf-8"), name, file.name == "__init__.py", known.keys())
        for name, file in known.items()
    }


def subject_of(test: PurePath) -> PurePath | None:
    """Return the module or package, without suffix, that a test file under tests/ is named after."""
    folder, _, below = test.parent.as_posix().removeprefix(".").partition("/")
    if folder not in MIRRORED:
        return None
    return PurePath(MIRRORED[folder], below, test.stem.removeprefix("test_"))


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


def imports_late(node: ast.AST) -> bool:
    """Tell whether a node is a function with an import inside."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    imports = (ast.Import, ast.ImportFrom)
    return isinstance(node, functions) and any(isinstance(inner, imports) for inner in ast.walk(node))


def imports_unittest(node: ast.AST) -> bool:
    """Tell whether a statement imports what is for tests."""
    return any(name.split(".")[0] == "unittest" for name in imported_modules(node))


def imports_a_test(node: ast.AST) -> bool:
    """Tell whether a statement of a test imports another one; tests/support has what they share."""
    if isinstance(node, ast.ImportFrom) and node.level:
        return True
    parts = {part for name in imported_modules(node) for part in name.split(".")}
    return bool(parts & {"tests", "conftest"}) or any(part.startswith("test_") for part in parts)


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


def test_the_lowest_versions_are_the_lower_bounds() -> None:
    """What `.github/lowest.txt` installs is the oldest that pyproject.toml admits, of every dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["demo"], *extras["completion"], *extras["test"]]
    bounds = {
        match[1]: match[2]
        for text in asked
        if (match := re.match(r"([\w-]+)(?:>=|==)([\w.]+)", text)) is not None
    }
    assert len(bounds) == len([text for text in asked if not text.startswith("dipgo-fx[")])
    lines = (ROOT / ".github" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    lowest = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name: lowest.get(name) for name in bounds} == bounds


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


def test_what_the_package_shows_is_what_it_exports() -> None:
    """One list, in order, which says where each name lives, and types see the same names."""
    shown = [name for name in dir(dipgo_fx) if not isinstance(getattr(dipgo_fx, name), ModuleType)]
    assert shown == dipgo_fx.__all__ == sorted(dipgo_fx._HOMES)
    tree = ast.parse(Path(dipgo_fx.__file__).read_text(encoding="utf-8"))
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    imported = [alias.name for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(imported) == sorted(dipgo_fx.__all__)


def test_what_looks_public_is_exported() -> None:
    """A name without an underscore is in `__all__`: of what the compiler hands on, and of the importers."""
    compiler, importers = (importlib.import_module(f"dipgo_fx.{name}") for name in ("passes", "importers"))
    handed_on = {name for name, value in vars(compiler).items() if not isinstance(value, ModuleType)}
    assert {name for name in handed_on if not name.startswith("_")} == set(compiler.__all__)
    made = {
        name
        for name, value in vars(importers).items()
        if inspect.isroutine(value) and value.__module__ == importers.__name__ and not name.startswith("_")
    }
    assert made == set(importers.__all__)


def test_members_of_public_classes_are_documented() -> None:
    """Methods and properties that a public class defines say what they do."""
    public = [getattr(dipgo_fx, name) for name in dipgo_fx.__all__]
    silent = [
        f"{kind.__name__}.{member}"
        for kind in filter(inspect.isclass, public)
        for member, value in vars(kind).items()
        if not member.startswith("_") and (callable(value) or isinstance(value, (property, classmethod)))
        if not inspect.getdoc(getattr(kind, member))
    ]
    assert silent == []


def test_the_guide_lists_the_public_names() -> None:
    """All of them and nothing else, so that a new name is told of and a dropped one is not."""
    guide = (ROOT / "dipgo_fx" / "GUIDE.md").read_text(encoding="utf-8")
    table = guide.partition("## Public names")[2].partition("\n## ")[0]
    told = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.+?) \|", table, re.MULTILINE)))
    modules = [name for name in dir(dipgo_fx) if isinstance(getattr(dipgo_fx, name), ModuleType)]
    assert sorted(told) == sorted([*dipgo_fx.__all__, *modules])


@pytest.mark.parametrize("package", ["dipgo_fx", "dipgo_fx.search", "dipgo_fx.pipelines", "dipgo_fx.passes"])
def test_the_map_of_a_folder_is_complete(package: str) -> None:
    """What its docstring calls a map of its files names all of them."""
    module = importlib.import_module(package)
    files = Path(inspect.getfile(module)).parent.glob("*.py")
    named = set(re.findall(r"`(\w+)`", inspect.getdoc(module) or ""))
    assert {file.stem for file in files if not file.stem.startswith("__")} <= named


def test_imports_point_one_way() -> None:
    """The compiler in passes/ imports nothing of dipgo_fx but itself, and goes by one name."""
    files = [file for file in own_files() if file.relative_to(ROOT).parts[0] == "passes"]
    assert violations(imports_upwards, iter(files)) == []
    assert violations(imports_passes_by_folder, own_files()) == []


def test_no_modules_import_each_other() -> None:
    """What a module imports does not import it back, over whatever others."""
    assert cycle_of(import_graph()) == []


@pytest.mark.parametrize("module", ["dipgo_fx.applying", "dipgo_fx.pipelines.enabling"])
def test_applying_a_plan_needs_no_search(module: str) -> None:
    """Nothing of dipgo_fx/search/ is imported by what applies or enables a plan, itself or through others."""
    found = reached(import_graph(), module)
    assert {"dipgo_fx.plan", "dipgo_fx.passes.recorder"} <= found
    assert {name for name in found if name.startswith("dipgo_fx.search")} == set()
    assert "dipgo_fx.search.refine" in reached(import_graph(), "dipgo_fx.pruning")


@pytest.mark.parametrize("module", ["dipgo_fx.pruning", "dipgo_fx.applying", "dipgo_fx.importers"])
def test_a_loop_by_itself_needs_no_pipelines(module: str) -> None:
    """Nothing of dipgo_fx/pipelines/ is imported by what works on a model and a scheduler."""
    assert {
        name for name in reached(import_graph(), module) if name.startswith("dipgo_fx.pipelines")
    } == set()


def test_imports_stand_at_the_top() -> None:
    """No function of the library imports anything, but for the command line and the demo."""
    assert violations(imports_late, own_files_but(MAY_IMPORT_LATE)) == []


def test_the_library_does_without_mocks() -> None:
    """What is made for tests is not what the library stands on."""
    assert violations(imports_unittest, own_files()) == []


def test_tests_mirror_the_folders() -> None:
    """A test file is named after the module or package it is about, unless it is one of a few about many."""
    tests = {file.relative_to(ROOT).as_posix(): file.relative_to(TESTS) for file in TESTS.rglob("test_*.py")}
    assert set(tests) >= CROSS_CUTTING
    subjects = {name: subject_of(file) for name, file in tests.items() if name not in CROSS_CUTTING}
    assert [name for name, subject in subjects.items() if subject is None or not _exists(subject)] == []


def _exists(subject: PurePath) -> bool:
    path = ROOT / subject
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_tests_do_not_import_each_other() -> None:
    """A test file stands by itself and on tests/support."""
    assert violations(imports_a_test, TESTS.rglob("*.py")) == []


@pytest.mark.parametrize(
    ("module", "code", "imported"),
    [
        ("dipgo_fx.one", "from .plan import Plan", {"dipgo_fx.plan"}),
        ("dipgo_fx.one", "from . import plan", {"dipgo_fx.plan"}),
        ("dipgo_fx.one", "from dipgo_fx.plan import Plan", {"dipgo_fx.plan"}),
        ("dipgo_fx.one", "import dipgo_fx.plan as p", {"dipgo_fx.plan"}),
        ("dipgo_fx.one", "import dipgo_fx", {"dipgo_fx"}),
        ("dipgo_fx.one", "from . import prune", {"dipgo_fx"}),
        ("dipgo_fx.one", "from .passes import base, gate", {"dipgo_fx.passes", "dipgo_fx.passes.base"}),
        ("dipgo_fx.one", "def late():\n    from .plan import Plan", {"dipgo_fx.plan"}),
        ("dipgo_fx.one", "import torch\nfrom torch import fx", set()),
        ("dipgo_fx.one", "if TYPE_CHECKING:\n    from .plan import Plan", set()),
        ("dipgo_fx.one", "if TYPE_CHECKING:\n    pass\nelse:\n    from .plan import Plan", {"dipgo_fx.plan"}),
        ("dipgo_fx.passes.rules", "from .base import GraphPass", {"dipgo_fx.passes.base"}),
        ("dipgo_fx.passes.rules", "from . import base", {"dipgo_fx.passes.base"}),
        ("dipgo_fx.passes.rules", "from . import GraphPass", {"dipgo_fx.passes"}),
        ("dipgo_fx.passes.rules", "from ..plan import Plan", {"dipgo_fx.plan"}),
        ("dipgo_fx.passes", "from .base import GraphPass", {"dipgo_fx.passes.base"}),
    ],
)
def test_imports_are_read_from_the_code(module: str, code: str, imported: set[str]) -> None:
    """Whatever way an import is written, the module behind it is found."""
    known = {"dipgo_fx", "dipgo_fx.plan", "dipgo_fx.passes", "dipgo_fx.passes.base"}
    assert imports_of(code, module, module == "dipgo_fx.passes", known) == imported


def test_a_circle_is_found() -> None:
    """Modules that import each other are named, over whatever others."""
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set[str]()}
    assert set(cycle_of(graph)) == {"a", "b", "c"}
    assert reached(graph, "a") == {"a", "b", "c", "d"}
    assert cycle_of({**graph, "c": set()}) == []
    assert reached({**graph, "c": set()}, "b") == {"c", "d"}


@pytest.mark.parametrize(
    ("test", "subject"),
    [
        ("test_plan.py", "dipgo_fx/plan"),
        ("passes/test_base.py", "passes/base"),
        ("demo/test_models.py", "dipgo_fx/demo/models"),
        ("search/test_paper.py", "dipgo_fx/search/paper"),
        ("benchmarks/report/test_words.py", "benchmarks/report/words"),
        ("support/test_zoo.py", None),
    ],
)
def test_a_test_file_has_a_subject(test: str, subject: str | None) -> None:
    """Its place and its name say which module it is about."""
    assert subject_of(PurePath(test)) == (None if subject is None else PurePath(subject))


def test_the_library_does_not_print() -> None:
    """Only the command line and the demo write to standard output."""
    assert violations(prints, own_files_but(MAY_PRINT)) == []


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
        (imports_late, "def f():\n    import torch"),
        (imports_late, "async def f():\n    if x:\n        from torch import fx"),
        (imports_late, "class A:\n    def f(self):\n        from . import plan"),
        (imports_unittest, "import unittest"),
        (imports_unittest, "from unittest.mock import patch"),
        (imports_a_test, "from test_plan import plan"),
        (imports_a_test, "from tests.test_plan import plan"),
        (imports_a_test, "from tests.support import loops"),
        (imports_a_test, "import search.test_refine"),
        (imports_a_test, "from . import test_plan"),
        (imports_a_test, "import conftest"),
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
        (imports_passes_by_folder, "from dipgo_fx.passes import base"),
        (imports_late, "import torch\ndef f():\n    return torch.fx"),
        (imports_late, "if x:\n    import tomllib\nelse:\n    import tomli"),
        (imports_unittest, "from collections import unittest"),
        (imports_a_test, "import pytest"),
        (imports_a_test, "from loops import loop"),
        (imports_a_test, "from torch.testing import assert_close"),
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
