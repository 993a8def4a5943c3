"""Fingerprints: whatever can change a result changes them, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest

from diga.errors import ConfigError
from diga.identity import RECIPE_FACTS, Use, data_read, facts, fingerprint_of
from diga.methods.source_only import SourceOnly
from diga.methods.targets import PseudoLabels
from diga.plan import stage_runs
from diga.recipe import Recipe, override, plain
from diga.registry import names_in
from diga.settings import Frames, Frozen
from diga.stage import Ref, Stage, ref_fields, refs
from experiments.diga import streets, streets_gan


def with_other_labels(recipe: Recipe) -> Recipe:
    """The same with a network and labels that nobody reads, which references could name instead."""
    stages: dict[str, Stage] = {}
    for name, stage in recipe.stages.items():
        stages[name] = stage
        if name == "warm_up":
            stages["another"] = SourceOnly()
        if name == "labels":
            stages["others"] = stage.model_copy(update={"part": "teacher"})
        if name == "centroids":
            stages["elsewhere"] = stage.model_copy(update={"steps": 7})
    return recipe.model_copy(update={"stages": stages})


STREETS = streets()
GAN = streets_gan()
FUNCTIONS = {
    "kind": "diga.ops.masks",
    "rule": "diga.ops.rules",
    "protocol": "diga.engine.protocols",
    "model": "diga.models",
}
BESIDE: dict[str, dict[str, Any]] = {  # what must be so, too, for a field to be something else
    "translator.perceptual": {"translator.perceptual_weights": "vgg19.pth"},
    "score.quality": {"score.labels": "labels"},
    "centroids.passes": {"centroids.images": "target_pred"},
    "elsewhere.passes": {"elsewhere.images": "target_pred"},
}


def data(name: str, use: Use) -> str:
    """A stand-in for the digest of a domain's files."""
    return f"{use} of {name}"


def fingerprints(recipe: Recipe, digest: Any = data) -> dict[str, str]:
    """Of every stage the recipe needs."""
    return {run.name: run.fingerprint for run in stage_runs(recipe, digest)}


def flipped(before: dict[str, str], now: dict[str, str]) -> set[str]:
    """Names of the stages whose fingerprint differs."""
    assert before.keys() == now.keys()
    return {name for name in before if before[name] != now[name]}


def below(recipe: Recipe, *names: str) -> set[str]:
    """These stages and all that read them, directly or not."""
    found = set(names)
    for name, stage in recipe.stages.items():
        if found & set(refs(stage)):
            found.add(name)
    return found


# --- mutations of every field ------------------------------------------------------------


def others(hint: Any, value: Any, field: str, earlier: list[str]) -> Iterator[Any]:
    """Other values that a field could have, by its type; `earlier` are the stages a reference could name."""
    if get_origin(hint) in (Union, UnionType):
        yield None
        hint = next(a for a in get_args(hint) if a is not type(None))
    if get_origin(hint) is Annotated and hint is not Ref:
        hint = get_args(hint)[0]
    if field in FUNCTIONS:
        yield from sorted(names_in(FUNCTIONS[field]))
    elif get_origin(hint) is Literal:
        yield from get_args(hint)
    elif hint is bool:
        yield not value
    elif hint is int:
        yield from (2,) if value is None else (value + 1, value - 1)
    elif hint is Frames:
        yield Frames(scale=(0.5, 1.0))
    elif field == "sizes":
        yield ({"images": STREETS.batch, "height": 64, "width": 128},)
    elif field == "keep":
        yield from (("confidence",), ("probabilities",), ("confidence", "probabilities"))
    elif field in ("pretrained", "perceptual_weights"):
        yield "another.pth"
    elif hint is float:
        yield value * 0.5 if value else 0.5
    elif get_origin(hint) is tuple:
        yield from many(value)
    else:
        yield from earlier


def many(value: tuple[Any, ...]) -> Iterator[Any]:
    """Another order, one less, one changed."""
    yield value[::-1]
    yield value[1:]
    yield (*value, "target")
    if value and isinstance(value[0], int | float):
        yield (value[0] / 2, *value[1:]) if isinstance(value[0], float) else (value[0] + 1, *value[1:])


def fields(value: Frozen, before: str) -> Iterator[tuple[str, str, Any, Any]]:
    """(dotted path, last name, type, value) of every field, those of values inside included."""
    for name, info in type(value).model_fields.items():
        here, inner = f"{before}.{name}".strip("."), getattr(value, name)
        if isinstance(inner, Frozen):
            yield from fields(inner, here)
        else:
            yield here, name, info.annotation, inner


def after(recipe: Recipe, path: str, value: Any) -> dict[str, str] | None:
    """The fingerprints after a change; None if it is refused."""
    try:
        return fingerprints(override(recipe, {path: value}))
    except ConfigError:
        return None


@pytest.mark.parametrize("recipe", map(with_other_labels, (STREETS, GAN)), ids=["colours", "gan"])
def test_every_field_of_a_stage_flips_its_own_stage_and_those_below_and_no_other(recipe: Recipe) -> None:
    names = list(recipe.stages)
    for place, name in enumerate(names):
        for path, field, hint, value in fields(recipe.stages[name], name):
            base = override(recipe, BESIDE.get(path, {}))
            before = fingerprints(base)
            wanted = [v for v in others(hint, value, field, names[:place]) if v != value]
            tried = [(v, now) for v in wanted if (now := after(base, path, v))]
            assert tried, f"{path}: no other value is allowed"
            for other, now in tried:
                kept = before.keys() & now.keys()  # a reference that changed may make another stage needless
                changed = {n for n in kept if before[n] != now[n]}
                assert changed == below(recipe, name) & kept, (path, other)


@pytest.mark.parametrize("fact", [f for f in fields(STREETS, "") if f[0].split(".")[0] in RECIPE_FACTS])
def test_every_fact_of_a_recipe_flips_every_stage(fact: tuple[str, str, Any, Any]) -> None:
    path, field, hint, value = fact
    before = fingerprints(STREETS)
    wanted = [v for v in others(hint, value, field, []) if v != value]
    tried = [now for v in wanted if (now := after(STREETS, path, v))]
    assert tried
    for now in tried:
        assert flipped(before, now) == set(before)


def test_facts_of_a_recipe_are_all_but_its_names_domains_and_stages() -> None:
    """A new field of a recipe counts unless it is put among these on purpose."""
    assert set(Recipe.model_fields) - RECIPE_FACTS == {"name", "sources", "targets", "stages", "pretrained"}
    known = facts(STREETS, "translator", data, {})
    assert set(known["recipe"]) == RECIPE_FACTS
    assert set(known) == {"stage", "version", "data", "recipe"}
    assert set(known["stage"]) == {"is", *type(STREETS.stages["translator"]).model_fields}


def test_raising_a_version_flips_the_stage_and_those_below(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprints(STREETS)
    monkeypatch.setattr(PseudoLabels, "version", 2)
    assert flipped(before, fingerprints(STREETS)) == {"labels", "self_training", "score"}


def test_another_class_with_the_same_fields_is_another_stage() -> None:
    two = {"is": "a.B"}, {"is": "a.C"}
    assert fingerprint_of({"stage": two[0]}) != fingerprint_of({"stage": two[1]})


# --- what may change freely --------------------------------------------------------------


def test_names_of_a_recipe_do_not_matter() -> None:
    assert fingerprints(override(STREETS, {"name": "another"})) == fingerprints(STREETS)


def renamed(recipe: Recipe, names: dict[str, str]) -> Recipe:
    """The recipe with its stages called otherwise."""
    stages: dict[str, Stage] = {}
    for name, stage in recipe.stages.items():
        changes = {f: names[v] for f in ref_fields(type(stage)) if (v := getattr(stage, f)) is not None}
        stages[names[name]] = stage.model_copy(update=changes)
    return recipe.model_copy(update={"stages": stages})


def test_names_of_stages_do_not_matter() -> None:
    names = {name: f"stage_{i}" for i, name in enumerate(STREETS.stages)}
    before = fingerprints(STREETS)
    assert {names[name]: f for name, f in before.items()} == fingerprints(renamed(STREETS, names))


def test_a_stage_nobody_reads_does_not_matter() -> None:
    for place in range(len(STREETS.stages)):
        stages = list(STREETS.stages.items())
        stages.insert(place, ("beside", SourceOnly()))
        assert fingerprints(STREETS.model_copy(update={"stages": dict(stages)})) == fingerprints(STREETS)


def test_the_order_of_stages_beside_each_other_does_not_matter() -> None:
    order = ["translator", "warm_up", "centroids", "labels", "self_training", "score"]
    stages = {name: STREETS.stages[name] for name in order}
    assert fingerprints(STREETS.model_copy(update={"stages": stages})) == fingerprints(STREETS)


def test_the_order_of_keys_does_not_matter() -> None:
    def turned(value: Any) -> Any:
        return {k: turned(v) for k, v in reversed(value.items())} if isinstance(value, dict) else value

    known = facts(STREETS, "translator", data, {})
    assert list(turned(known)) != list(known)
    assert fingerprint_of(turned(known)) == fingerprint_of(known)


def test_facts_survive_json() -> None:
    """The manifest of a stage holds its facts: the fingerprint can be found again from them."""
    for run in stage_runs(STREETS, data):
        assert fingerprint_of(json.loads(json.dumps(run.facts))) == run.fingerprint


def test_facts_that_are_not_finite_have_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint_of({"x": float("nan")})


# --- data --------------------------------------------------------------------------------


READS = {
    "translator": {"unlabelled"},
    "warm_up": {"train"},
    "labels": {"unlabelled"},
    "centroids": {"train"},
    "self_training": {"train", "unlabelled"},
    "score": {"train", "unlabelled", "val"},
}


def test_each_stage_reads_what_its_method_says() -> None:
    assert {n: {use for use, *_ in data_read(STREETS, s, data)} for n, s in STREETS.stages.items()} == READS


@pytest.mark.parametrize("use", ["train", "unlabelled", "val"])
def test_data_flips_the_stages_that_read_it_and_those_below(use: Use) -> None:
    def changed(name: str, what: Use) -> str:
        return data(name, what) + " changed" * (what == use)

    readers = {name for name, uses in READS.items() if use in uses}
    assert flipped(fingerprints(STREETS), fingerprints(STREETS, changed)) == below(STREETS, *readers)


def test_only_data_that_is_read_is_asked_for() -> None:
    asked: list[tuple[str, Use]] = []

    def digest(name: str, use: Use) -> str:
        asked.append((name, use))
        return "0"

    blind = {"score.statistics": [], "score.label_free": False}
    fingerprints(override(STREETS, {"score.of": "warm_up", "warm_up.translator": None} | blind), digest)
    assert set(asked) == {("streets/gta5", "train"), ("streets/cityscapes", "val")}
    asked.clear()
    fingerprints(override(STREETS, {"warm_up.statistics.update": ["views", "target"]}), digest)
    assert ("streets/cityscapes", "unlabelled") in asked
    assert ("streets/cityscapes", "train") not in asked, "labels of a target are no stage's but a score's"
    fingerprints(override(STREETS, {"score.labels": "labels", "score.quality": True}), digest)
    assert ("streets/cityscapes", "train") in asked
    fingerprints(override(STREETS, {"pretrained": "weights/net.pth"}), digest)
    assert ("weights/net.pth", "file") in asked


def test_order_and_repetition_of_domains_count() -> None:
    """Images are drawn by their place in the list: another order is another training."""
    lists = [("a",), ("a", "a"), ("a", "b"), ("b", "a"), ("a", "a", "b"), ("a", "b", "b"), ("b",)]
    for role, readers in (("sources", {"warm_up"}), ("targets", {"translator", "labels"})):
        marks = [fingerprints(STREETS.model_copy(update={role: domains})) for domains in lists]
        for name in readers:
            assert len({mark[name] for mark in marks}) == len(lists), (role, name)


# --- the same for ever -------------------------------------------------------------------

GOLDEN = {
    "translator": "de25bb5e147dff6a",
    "warm_up": "8caff07cf25902f5",
    "labels": "cf03d7aa3bf30966",
    "centroids": "57d895919ed933dd",
    "self_training": "5b64092566e2b040",
    "score": "14ac17cd7764d9fd",
}


def test_fingerprints_are_those_of_last_time() -> None:
    """A default that changes silently would let a table mix two meanings of one recipe.

    If the change is meant, so is that every stored stage it touches is made again: copy the new ones here.
    """
    assert fingerprints(STREETS) == GOLDEN


def test_a_fingerprint_is_short_and_plain() -> None:
    for one, other in pairwise(fingerprints(STREETS).values()):
        assert one != other
        assert len(one) == 16
        assert set(one) <= set("0123456789abcdef")


def test_the_form_of_facts_is_the_recipes() -> None:
    assert facts(STREETS, "translator", data, {})["recipe"] == {k: plain(STREETS)[k] for k in RECIPE_FACTS}
