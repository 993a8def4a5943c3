"""Every command line of deploy/ and docs/cluster.md is one that diga, Ray or MLflow can read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from diga.cli import app
from diga.cli.console import made
from diga.cli.searching import space_of
from diga.recipe import Recipe
from diga.space import explored
from diga.study import Study

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "docs/cluster.md", *sorted(p for p in (ROOT / "deploy").rglob("*") if p.is_file())]
PROGRAMS = ("diga", "ray", "mlflow")
SEVERAL = re.compile(r"&&|;|\s[|·]\s")


def lines(path: Path) -> Iterator[str]:
    """What somebody is to type, or what is typed for them."""
    text = path.read_text("utf8").replace("\\\n", " ")
    if path.suffix == ".md":
        yield from (line.strip() for line in text.splitlines() if line.startswith("    "))
        yield from re.findall(r"`([^`\n]+)`", text)
    else:
        yield from (line.strip(" #") for line in text.splitlines())
    if path.suffix == ".yaml":
        yield from (word for thing in yaml.safe_load_all(text) for word in texts(thing))


def texts(thing: Any) -> Iterator[str]:
    """Every text in a value; a list of words, as a container has them, as one."""
    if isinstance(thing, str):
        yield thing
    elif isinstance(thing, list) and thing and thing[0] in PROGRAMS:
        yield shlex.join(thing)
    elif isinstance(thing, list | dict):
        for inner in thing.values() if isinstance(thing, dict) else thing:
            yield from texts(inner)


def words_of(part: str) -> list[str]:
    """The words of a command, from the name of a program of ours on; none if it has no such name or no argument."""
    match = re.search(rf"(?:^|(?<!-n )(?<=[\s`]))(?:{'|'.join(PROGRAMS)}) [a-z][a-z-]*(?![:=.])\b.*", part)
    bare = re.split(r"\s#\s|\s+>>|`", match[0])[0] if match else ""
    try:
        words = [re.sub(r"\$\w+", "1", word) for word in shlex.split(bare) if word != "…"]
    except ValueError:  # an apostrophe: prose
        return []
    return [] if all(re.fullmatch("[a-z-]+", word) for word in words) else words


@cache
def commands() -> list[tuple[Path, list[str]]]:
    """All of them, each once a file."""
    found = {}
    for path in FILES:
        parts = [part for line in lines(path) for part in SEVERAL.split(line)]
        for part in (*parts, *(part.partition(" -- ")[2] for part in parts)):  # there stands the command of a job
            if words := words_of(part):
                found[path, *words] = (path, words)
    return list(found.values())


def command_of(program: str) -> Any:
    """What reads the command lines of a program."""
    if program == "mlflow":
        from mlflow.cli import cli

        return cli
    if program == "ray":
        from ray.scripts.scripts import cli

        return cli
    return typer.main.get_command(app)


def misread(words: list[str]) -> str:
    """What the program would complain of, before it does anything; empty if it would not."""
    command, rest, above = command_of(words[0]), words[1:], None
    try:
        while True:
            above = command.make_context(command.name, list(rest), parent=above)
            if not hasattr(command, "resolve_command"):
                return ""
            _, command, rest = command.resolve_command(above, [*above._protected_args, *above.args])
    except Exception as failure:
        return f"{type(failure).__name__}: {failure}"


def test_all_of_them_can_be_read() -> None:
    assert {(str(p.relative_to(ROOT)), " ".join(w)): m for p, w in commands() if (m := misread(w))} == {}


def test_none_was_overlooked() -> None:
    """Of every file that has some, and of every program."""
    found = {(path.name, words[0], words[1]) for path, words in commands()}
    assert {
        ("rayjob.yaml", "diga", "sweep"),
        ("rayjob.yaml", "diga", "ablate"),
        ("mlflow.yaml", "mlflow", "server"),
        ("mlflow-postgres.sh", "mlflow", "server"),
        ("ray-cluster.yaml", "ray", "start"),
        ("ray-cluster.yaml", "ray", "up"),
        ("job.yaml", "ray", "job"),
        ("cluster.md", "ray", "job"),
        ("cluster.md", "diga", "sweep"),
        ("cluster.md", "diga", "ablate"),
    } <= found


@pytest.mark.parametrize(
    "line",
    [
        "diga sweep diga.self_training --trails 3",
        "diga sweeps diga.self_training",
        "diga ablate",
        "diga sweep diga.self_training --sampler best",
        "ray start --heads",
        "ray job submits x",
        "mlflow server --backend-store sqlite://",
    ],
)
def test_a_mistake_is_seen(line: str) -> None:
    assert misread(line.split())


def test_spaces_fit_their_bases_and_studies_exist() -> None:
    """What is named in them is there, and a sweep's parameters are fields of its recipe."""
    seen = set()
    for _, words in commands():
        if words[:2] == ["diga", "sweep"] and "." in words[2]:
            base = words[words.index("--base") + 1] if "--base" in words else "diga:streets"
            explored(space_of(words[2]), made(base, Recipe), words[2])
            seen.add("sweep")
        elif words[:2] == ["diga", "ablate"] and ":" in words[2]:
            assert made(words[2], Study).rows
            seen.add("ablate")
    assert seen == {"sweep", "ablate"}
