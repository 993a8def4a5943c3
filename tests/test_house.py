"""The house: rules about code that a machine can check, each naming what breaks it."""

from __future__ import annotations

import ast
import codecs
import pkgutil
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import diga

ROOT = Path(__file__).parents[1]
PACKAGES = ("diga", "experiments", "reports", "search_spaces")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION, MEDIAN_FUNCTION = 300, 60, 12
Function = ast.FunctionDef | ast.AsyncFunctionDef

# words about how a text came to be, turned by thirteen letters so that they do not stand here
WORDS = ("pynhqr", "pungtcg", "tcg-?[345]", "yyz", "pbcvybg", "naguebcvp", "bcranv", "ynathntr.zbqry", "nffvfgnag")
WRITTEN = re.compile(r"\b(" + "|".join(codecs.decode(word, "rot13") for word in WORDS) + r")s?\b", re.IGNORECASE)
MACHINE = re.compile(r"(?<![\w.$}])/(?:work|root|home|Users)/(?!x/)\w|[A-Z]:\\Users")
REGISTRY = re.compile(r"index-url|pypi\.org|pythonhosted|artifactory|(?:nexus|proxy|registry)\.\w", re.IGNORECASE)
UNSAFE = re.compile(
    r"weights_only\s*=\s*False|pickle\.loads?|import pickle|yaml\.load\b|unsafe_load|full_load"
    r"|(?<![.\w])(?:eval|exec)\(|os\.system|shell\s*=\s*True|mlflow\.\w+\.load_model"
)


def name_of(path: Path) -> str:
    """A file's name as a message gives it."""
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text("utf8"))


def functions(path: Path) -> Iterator[Function]:
    """Every function and method of a file."""
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def length(node: Function) -> int:
    """Lines of a function, its decorators left out."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


# --- floors ----------------------------------------------------------------------------------


def test_imports_go_down() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[done.stdout.find("Contracts") :]
    assert "0 broken" in done.stdout


def test_every_module_has_its_floor() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    placed = {name.strip() for layer in layers for name in layer.split("|")}
    modules = {f"diga.{info.name}" for info in pkgutil.iter_modules(diga.__path__)} - {"diga.__main__"}
    assert modules <= placed
    assert {*PACKAGES} - {"diga"} <= placed


def test_each_contract_can_break(tmp_path: Path) -> None:
    """A module that breaks a rule is seen by the machine that checks it."""
    for package in PACKAGES:
        (tmp_path / package).symlink_to(ROOT / package)
    (tmp_path / "reports").unlink()
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/__init__.py").touch()
    (tmp_path / "reports/bad.py").write_text(
        "import torch, ray, rich\nfrom diga.launch import crew\nimport experiments\n"
    )
    config = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(config)
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1, done.stdout + done.stderr
    assert "5 broken" in done.stdout, done.stdout


# --- size ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_is_short(path: Path) -> None:
    assert len(path.read_text("utf8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_are_short(path: Path) -> None:
    assert {node.name: length(node) for node in functions(path) if length(node) > LONGEST_FUNCTION} == {}


def test_most_functions_are_very_short() -> None:
    lengths = [length(node) for path in SOURCES for node in functions(path)]
    assert statistics.median(lengths) < MEDIAN_FUNCTION


# --- annotations and docstrings --------------------------------------------------------------


def missing_annotations(node: Function) -> list[str]:
    """Arguments without a type, and `return`."""
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    bare = [a.arg for a in named if a is not None and a.annotation is None and a.arg not in ("self", "cls")]
    return bare + (["return"] if node.returns is None else [])


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_everything_is_annotated(path: Path) -> None:
    assert {node.name: bare for node in functions(path) if (bare := missing_annotations(node))} == {}


def public(node: ast.AST, before: str = "") -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """Classes, functions and methods that a user may name, outside of functions."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.ClassDef | Function) and not inner.name.startswith("_"):
            yield f"{before}{inner.name}", inner
            if isinstance(inner, ast.ClassDef):
                yield from public(inner, f"{inner.name}.")


def speaks_for_itself(name: str, node: ast.ClassDef | Function) -> bool:
    """Whether it is a method of one statement, or the `forward` that torch has named."""
    return "." in name and not isinstance(node, ast.ClassDef) and (len(node.body) == 1 or name.endswith(".forward"))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_what_is_public_says_what_it_is(path: Path) -> None:
    silent = [name for name, node in public(tree(path)) if not ast.get_docstring(node)]
    assert [name for name in silent if not speaks_for_itself(name, dict(public(tree(path)))[name])] == []


@pytest.mark.parametrize("path", [p for p in SOURCES + TESTS if p.stat().st_size], ids=name_of)
def test_a_module_opens_with_a_sentence(path: Path) -> None:
    first = (ast.get_docstring(tree(path)) or "").split("\n\n")[0]
    assert first
    assert first.rstrip()[-1] in ".:"
    assert not first[0].islower()


# --- safety ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_that_executes_data(path: Path) -> None:
    assert UNSAFE.findall(path.read_text("utf8")) == []


def test_tensors_are_read_as_tensors_alone() -> None:
    """Every torch.load says weights_only=True: a default may change, a reader need not look it up."""
    calls = [
        (path, call)
        for path in SOURCES
        for call in ast.walk(tree(path))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "torch.load"
    ]
    assert calls
    for path, call in calls:
        told = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert told.get("weights_only") == "True", name_of(path)


# --- texts -----------------------------------------------------------------------------------


def texts() -> list[Path]:
    """Every text file that is, or is about to be, under version control."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout: nothing says which files are the project's")
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()]


@pytest.mark.parametrize(("what", "pattern"), [("machine", MACHINE), ("registry", REGISTRY), ("written", WRITTEN)])
def test_texts_speak_of_the_project_alone(what: str, pattern: re.Pattern[str]) -> None:
    found: dict[str, list[str]] = {}
    for path in texts():
        if path == Path(__file__) and what != "written":
            continue
        if lines := [line.strip()[:100] for line in path.read_text("utf8").splitlines() if pattern.search(line)]:
            found[name_of(path)] = lines
    assert found == {}


@pytest.mark.parametrize("word", ["nffvfgnag", "Pynhqr", "na YYZ", "TCG-4"])
def test_the_words_are_known_again(word: str) -> None:
    assert WRITTEN.search(codecs.decode(word, "rot13"))
    assert not WRITTEN.search("the assisted, assistance and a clause of GPT, the partition table")


@pytest.mark.parametrize(
    "line", ["/".join(["", "root", "x"]), "cd " + "/".join(["", "work", "main"]), "/home" + "/me/x"]
)
def test_a_machines_paths_are_known_again(line: str) -> None:
    assert MACHINE.search(line)
    assert not MACHINE.search("data/work/x $HOME/root/ framework/main https://a.b/c/workers /tmp/x")
