"""What to run: a recipe is its domains, its network, its seed and its named stages in order.

Nothing here runs anything and nothing here imports torch.  A recipe is a frozen value that goes to
JSON and comes back equal; one function, `override`, changes a value by its dotted path.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from diga.errors import ConfigError, expected_one_of, shown
from diga.registry import function_of
from diga.settings import Count, Frames, Frozen, Mask, Sampling, as_json, checked
from diga.stage import Draws as Draws
from diga.stage import Kept as Kept
from diga.stage import Ref as Ref
from diga.stage import Stage as Stage
from diga.stage import Training as Training
from diga.stage import ref_fields as ref_fields
from diga.stage import refs as refs

METHODS = "diga.methods"


class Recipe(Frozen):
    """A method with no decision left open.

    A domain is a path under the data root whose last part is a layout: `gta5`, `streets/gta5`.  Of its
    training images `cityscapes@1/16` has the first sixteenth of a fixed shuffle and `cityscapes@not-1/16`
    the others.
    Only the last stage and what it reads, directly or not, is carried out.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    sources: tuple[str, ...]
    targets: tuple[str, ...] = ()
    model: function_of("diga.models") = "streetnet"  # type: ignore[valid-type]
    pretrained: str = Field(
        "", max_length=400, description="file of backbone weights under the data root; none: random"
    )
    classes: Literal[19, 16] = 19
    crop: tuple[Count, Count] = Field((512, 896), description="height, width in pixels")
    source_frames: Frames = Frames()
    target_frames: Frames = Frames()
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    batch: Count = Field(3, description="source images a step over all workers, and as many of the target")
    sampling: Sampling = Field("proportional", description="how often each of several sources, or targets, is drawn")
    balance: Literal["none", "sqrt_inverse"] = Field("none", description="class weights of every cross-entropy")
    align_corners: bool = Field(False, description="of every bilinear resize of logits; the authors' code: true")
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    stages: dict[str, SerializeAsAny[Stage]]

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
                if self.stages[ref].scores():
                    raise ValueError(f"stage {name!r} reads {ref!r}, which has seen labels of the target; reports may")
            stage.fits({k: self.stages[k] for k in known}, name)
            _sizes_make_a_batch(name, stage, stage.draws(self))
            _masks_select(name, stage, self)
            known.append(name)
        if not known or not self.sources:
            raise ValueError("a recipe needs one source and one stage at least")
        for name in () if self.targets else self.needed():
            if "target" in self.stages[name].reads() and not self.stages[name].scores():
                raise ConfigError("targets", f"none, and {name!r} reads target images", "one domain at least")
        return self

    def needed(self) -> tuple[str, ...]:
        """Names of the last stage and of all it reads, in order."""
        wanted = {list(self.stages)[-1]}
        for name in reversed(self.stages):
            if name in wanted:
                wanted |= set(refs(self.stages[name]))
        return tuple(n for n in self.stages if n in wanted)


def _sizes_make_a_batch(name: str, stage: Stage, draws: Draws) -> None:
    for role, frames in (("source", draws.source), ("target", draws.target)):
        images = sum(size.images for size in frames.sizes)
        if role in stage.reads() and images not in (0, draws.batch):
            what = f"{images} images in the sizes of {role}_frames, {draws.batch} in a batch"
            raise ConfigError(f"{name}.{role}_frames.sizes", what, "as many")


def _masks_select(name: str, stage: Stage, recipe: Recipe) -> None:
    for path, mask in _masks(stage):
        if mask.fraction < (least := mask.least(recipe.crop, recipe.classes)):
            height, width = recipe.crop
            whole = f"no class of {recipe.classes}" if mask.kind == "classes" else f"no pixel of {height} x {width}"
            what = f"found {mask.fraction:g}, of which {mask.kind!r} makes {whole}"
            raise ConfigError(f"{name}.{path}.fraction", what, f"{least:.4g} or more")


def _masks(stage: Stage) -> Iterator[tuple[str, Mask]]:
    """Every mask among the fields of a stage, and its path there."""
    for field in type(stage).model_fields:
        value = getattr(stage, field)
        if isinstance(value, Mask):
            yield field, value
        elif isinstance(value, tuple):
            yield from ((f"{field}[{i}]", each) for i, each in enumerate(value) if isinstance(each, Mask))


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
