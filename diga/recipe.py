"""What to run: a recipe is its domains, its network, its seed and its named stages in order.

Nothing here runs anything and nothing here imports torch.  A recipe is a frozen value that goes to
JSON and comes back equal; one function, `override`, changes a value by its dotted path.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import types
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import AfterValidator, Field, SerializeAsAny, field_validator, model_validator

from diga.errors import ConfigError, expected_one_of, shown
from diga.settings import Count, Frozen, as_json, checked

if TYPE_CHECKING:
    from torch import Tensor

    from diga.engine.run import Run
    from diga.types import Batch

STAGE = "stage"
METHODS = "diga.methods"
Ref = Annotated[str, STAGE]  # the name of an earlier stage whose artifact this stage reads
Factor = Annotated[float, Field(gt=0, le=100)]


@cache
def names_in(module: str) -> frozenset[str]:
    """Public functions a module defines or re-exports, read from its text: no torch is imported."""
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin, module
    body = ast.parse(Path(spec.origin).read_text("utf8")).body
    named = [n.name for n in body if isinstance(n, ast.FunctionDef)]
    named += [a.asname or a.name for n in body if isinstance(n, ast.ImportFrom) for a in n.names if a.asname]
    return frozenset(n for n in named if not n.startswith("_"))


def function_of(module: str) -> Any:
    """A type for fields that name a function of `module`: the module is the registry."""

    def check(name: str) -> str:
        if name not in names_in(module):
            raise ValueError(f"{name!r} is no function of {module}; {expected_one_of(name, names_in(module))}")
        return name

    return Annotated[str, AfterValidator(check)]


class Stage(Frozen, ABC):
    """Hyper-parameters that can be called with a run.  Raise `version` when the code means something else."""

    version: ClassVar[int] = 1
    shared: ClassVar[bool] = False  # whether several workers can carry it out together

    @abstractmethod
    def __call__(self, run: Run) -> None:
        """Carry the stage out and leave its artifact in the run's folder."""

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """Which training data can change the result: labelled source, unlabelled target."""
        return frozenset({"source", "target"})

    def stream(self) -> int:
        """Which stream of chance and of data the stage draws from: stages that follow each other use different ones."""
        return 0

    def view(self, run: Run, source: Batch, paint: Any, t: int) -> Tensor:
        """The second view of source images (B, 3, H, W) the stage trains on; the images, if it has none."""
        return source.image

    def scores(self) -> tuple[str, ...]:
        """Domains whose labelled validation images the stage reads: none, unless it scores."""
        return ()

    def guesses(self) -> str | None:
        """Name of the stage whose stored target labels travel with the target images, if any."""
        return None


class Recipe(Frozen):
    """A method with no decision left open.

    A domain is a path under the data root whose last part is a layout: `gta5`, `streets/gta5`.
    Only the last stage and what it reads, directly or not, is carried out.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    sources: tuple[str, ...]
    targets: tuple[str, ...] = ()
    model: function_of("diga.models") = "streetnet"  # type: ignore[valid-type]
    classes: Literal[19, 16] = 19
    crop: tuple[Count, Count] = Field((512, 896), description="height, width in pixels")
    scale: tuple[Factor, Factor] = Field((1.0, 1.0), description="bounds of the random side factors before the crop")
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    batch: Count = Field(3, description="source images a step over all workers, and as many of the target")
    balance: Literal["none", "sqrt_inverse"] = Field("none", description="class weights of every cross-entropy")
    align_corners: bool = Field(False, description="of every bilinear resize of logits; the authors' code: true")
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    stages: dict[str, SerializeAsAny[Stage]]

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError(f"found {list(scale)}, expected the lower bound first")
        return scale

    @field_validator("stages", mode="before")
    @classmethod
    def _typed(cls, stages: Any) -> Any:
        if not isinstance(stages, Mapping):
            return stages
        for name in stages:
            if not str(name).isidentifier() or name in cls.model_fields:  # its paths would mean something else
                raise ValueError(f"found the name {shown(name)}, expected a word that is no field of a recipe")
        return {k: restored(v, k) if isinstance(v, Mapping) else v for k, v in stages.items()}

    @model_validator(mode="after")
    def _references_point_back(self) -> Recipe:
        known: list[str] = []
        for name, stage in self.stages.items():
            for ref in refs(stage):
                if ref not in known:
                    raise ValueError(f"stage {name!r} reads {ref!r}; earlier stages are: {', '.join(known) or 'none'}")
            known.append(name)
        if not known or not self.sources:
            raise ValueError("a recipe needs one source and one stage at least")
        return self

    def needed(self) -> tuple[str, ...]:
        """Names of the last stage and of all it reads, in order."""
        wanted = {list(self.stages)[-1]}
        for name in reversed(self.stages):
            if name in wanted:
                wanted |= set(refs(self.stages[name]))
        return tuple(n for n in self.stages if n in wanted)


# --- references --------------------------------------------------------------------------


def _is_ref(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return STAGE in hint.__metadata__
    if get_origin(hint) in (Union, types.UnionType, tuple):
        return any(_is_ref(a) for a in get_args(hint))
    return False


@cache
def ref_fields(kind: type[Stage]) -> tuple[str, ...]:
    """Fields of a stage class that hold names of earlier stages."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(n for n in kind.model_fields if _is_ref(hints[n]))


def refs(stage: Stage) -> list[str]:
    """Names of the earlier stages that `stage` reads: its fields annotated `Ref`."""
    values = [getattr(stage, n) for n in ref_fields(type(stage))]
    return [r for v in values if v is not None for r in ((v,) if isinstance(v, str) else v)]


# --- to JSON and back --------------------------------------------------------------------


def plain(value: Any) -> Any:
    """The JSON form of a recipe or stage; a stage says which class it `is`."""
    if isinstance(value, Stage):
        kind = type(value)
        return {"is": f"{kind.__module__}.{kind.__qualname__}"} | value.model_dump(mode="json")
    if isinstance(value, Recipe):
        flat = value.model_dump(mode="json", exclude={"stages"})
        return flat | {"stages": {k: plain(s) for k, s in value.stages.items()}}
    return value.model_dump(mode="json") if isinstance(value, Frozen) else value


def restored(value: Mapping[str, Any], where: str) -> Stage:
    """A stage from its JSON form.  Only classes that modules of `diga.methods` define are looked up."""
    return checked(_stage_class(value.get("is"), f"{where}.is"), {k: v for k, v in value.items() if k != "is"}, where)


def _stage_class(name: Any, where: str) -> type[Stage]:
    module, _, kind = str(name).rpartition(".")
    folder, _, file = module.rpartition(".")
    if folder == METHODS and file.isidentifier() and importlib.util.find_spec(module):
        found: Any = getattr(importlib.import_module(module), kind, None)
        whole = isinstance(found, type) and not inspect.isabstract(found)
        if whole and issubclass(found, Stage) and found.__module__ == module:
            return found  # type: ignore[no-any-return]
    raise ConfigError(where, f"found {shown(name)}", f"a stage of {METHODS}, such as {METHODS}.score.Score")


def loads(text: str, where: str = "recipe") -> Recipe:
    """A recipe from the JSON text of `dumps`.  Raises ConfigError on anything else."""
    try:
        values = json.loads(text, object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as failure:
        raise ConfigError(where, f"not JSON: {failure}", "a recipe written by `diga show --json`") from None
    if not isinstance(values, dict):
        raise ConfigError(where, f"found {type(values).__name__}", "a JSON object")
    return checked(Recipe, values)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice among " + shown([key for key, _ in pairs]))
    return found


def dumps(recipe: Recipe) -> str:
    """The resolved recipe, every default written out."""
    return json.dumps(plain(recipe), indent=2)


# --- changing one value ------------------------------------------------------------------


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """`recipe` with dotted paths changed: `override(r, {"warm_up.alpha": 0.3, "seed": 1})`.

    A path starts with a field of the recipe or the name of a stage; a whole stage may be put in a
    stage's place.  Raises ConfigError with the nearest right key, or the bound a value broke.
    """
    document = plain(recipe)
    for path, value in changes.items():
        *way, last = _resolved(recipe, path)
        place = document
        for name in way:
            place = place.get(name)
            if not isinstance(place, dict):
                raise ConfigError(path, f"an earlier change made {name!r} {shown(place)}", "changes that fit together")
        place[last] = json.loads(as_json(plain(value), path))
    return checked(Recipe, document) if changes else recipe


def _resolved(recipe: Recipe, path: str) -> Iterator[str]:
    head, *rest = path.split(".")
    if head in recipe.stages:
        yield "stages"
        yield head
        place: Any = recipe.stages[head]
    elif head in Recipe.model_fields and head != "stages":
        yield head
        place = getattr(recipe, head)
    else:
        known = (set(Recipe.model_fields) - {"stages"}) | set(recipe.stages)
        raise ConfigError(path, f"no {head!r} in recipe {recipe.name!r}", expected_one_of(head, known))
    for name in rest:
        known = set(type(place).model_fields) if isinstance(place, Frozen) else set()
        if name not in known:
            raise ConfigError(path, f"no {name!r} in {type(place).__name__}", expected_one_of(name, known))
        yield name
        place = getattr(place, name)
