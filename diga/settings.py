"""Hyper-parameters that several stages share, as frozen values with bounds.

Nothing here imports torch: recipes, planners and reports read these too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from diga.errors import ConfigError, expected_one_of, shown
from diga.registry import function_of

Weight = Annotated[float, Field(ge=0, le=1e4, allow_inf_nan=False)]  # of a loss term
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]  # a probability or a fraction
Inside = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]  # a share that is neither none nor all
Count = Annotated[int, Field(ge=1, le=100_000_000)]
Factor = Annotated[float, Field(gt=0, le=100)]
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]

Sampling = Literal["proportional", "balanced"]  # of several domains: as their images are many, or all alike
Normalise = Literal["valid", "all", "hard"]  # labelled pixels, all pixels as the authors, or OHEM's hard ones


T = TypeVar("T", bound="Frozen")


class Frozen(BaseModel):
    """A value: it cannot change, knows its fields, and refuses any other; text is no number, a truth value neither."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with fields changed and checked again: pydantic's own believes any update."""
        return self.model_validate(dict(self) | dict(update or {}))


class Plan(Frozen):
    """How long and how fast a network descends.

    `lr` is the rate of the backbone times `backbone`, of the classifier times `head`.
    """

    steps: Count = 80_000
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Positive = 2.5e-4
    backbone: Positive = Field(1.0, description="factor of the backbone's rate; the authors' code steps it thrice")
    head: Positive = Field(10.0, description="factor of the head's rate")
    momentum: Share = Field(0.9, description="of SGD, or beta_1 of Adam")
    beta_2: Share = 0.999
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 5e-4
    schedule: Literal["poly", "constant", "linear_ramp"] = Field(
        "poly", description="linear_ramp rises to `lr` at the last step, as the official SYNTHIA warm-up does"
    )
    power: Positive = 0.9
    ramp: Annotated[int, Field(ge=0, le=100_000_000)] = Field(
        0, description="steps over which the rate first rises linearly"
    )
    ramp_from: Share | None = Field(None, description="share of the rate at which that rise starts; none: 1 / ramp")
    snapshots: Count = Field(8, description="weights kept at evenly spaced steps, the last included, for `best`")

    def lr_at(self, t: int) -> float:
        """The learning rate of 0-based step `t`, before the backbone's and head's factors."""
        rise = self._risen(t) if t < self.ramp else 1.0
        if self.schedule == "linear_ramp":
            return self.lr * t / self.steps
        if self.schedule == "constant":
            return self.lr * rise
        return float(self.lr * rise * (1 - t / self.steps) ** self.power)

    def _risen(self, t: int) -> float:
        """The share of the rate that step `t` of the ramp has."""
        if self.ramp_from is None:
            return (t + 1) / self.ramp
        return 1 - (1 - t / self.ramp) * (1 - self.ramp_from)

    def snapshot_steps(self) -> frozenset[int]:
        """Numbers of finished steps after which weights are kept."""
        return frozenset(max(1, round(self.steps * (i + 1) / self.snapshots)) for i in range(self.snapshots))


class Strong(Frozen):
    """Strong photometric view: x' = blend * A(x) + (1 - blend) * x."""

    brightness: Share = 0.4
    contrast: Share = 0.4
    saturation: Share = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(0.1, description="turns of the colour wheel")
    jitter: Share = Field(0.5, description="probability of the four above")
    grey: Share = Field(0.3, description="probability of losing colour")
    blur: Share = Field(0.8, description="probability of a 3x3 Gaussian blur, sigma 2 pixels")
    sharpen: Share = Field(0.3, description="probability of sharpening")
    blend: Share = Field(0.4, description="beta: 1 is the augmented image alone")
    ranges: Literal["rgb", "legacy"] = Field(
        "rgb",
        description="legacy: the authors' operations on BGR around zero, blended as beta (2A(x) - 1) + (1 - beta) x",
    )


class Photometric(Frozen):
    """What is done to a whole mixed image: colours jittered, then blurred, each with a probability."""

    strength: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.2, description="s: brightness, contrast, saturation times 1 - s to 1 + s, hue by up to s turns"
    )
    jitter: Share = Field(0.8, description="probability of the four")
    blur: Share = Field(0.5, description="probability of a Gaussian blur")
    kind: Literal["isotropic", "horizontal", "none"] = Field(
        "isotropic", description="of the blur; horizontal: along rows alone, which the authors' code comes to"
    )
    sigma: tuple[Positive, Positive] = Field((0.15, 1.15), description="bounds of its standard deviation, pixels")

    @field_validator("sigma")
    @classmethod
    def _ordered(cls, sigma: tuple[float, float]) -> tuple[float, float]:
        return _lower_first(sigma)


class Mask(Frozen):
    """Which pixels come from the front image: the M of eq. 6."""

    kind: function_of("diga.ops.masks") = "classes"  # type: ignore[valid-type]
    fraction: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="of the classes, or of the area")
    rounding: Literal["floor", "nearest", "ceil"] = Field("floor", description="of a fraction of the classes")
    void: Literal["front", "counted", "drawn"] = Field(
        "front",
        description="front: no class, and always in front; counted: in front, and one of the classes that are "
        "counted and drawn, as DiGA's authors; drawn: a class like any other, as DDB's",
    )
    side: Count = Field(8, description="of a patch, or of a blob of noise; of cow masks the least sigma, in pixels")

    def least(self, crop: tuple[int, int], classes: int) -> float:
        """The fraction below which it selects nothing of an image of all classes, of `crop` (H, W) pixels.

        A cut's sides, of A^a and A^(1 - a), must both keep a pixel whatever a is drawn, and a cow mask a pixel of
        the least share it draws.
        """
        height, width = crop
        patches = ceil(height / self.side) * ceil(width / self.side)
        least = {
            "classes": {"floor": 1.0, "nearest": 0.5, "ceil": 0.0}[self.rounding] / classes,
            "cut": 0.5 / min(crop),
            "grid": 0.5 / patches,
            "noise": 0.5 / (height * width),
            "cow": 0.1 + 0.5 / (height * width),
            "fourier": 0.5 / 20,
        }
        return least.get(self.kind, 0.0)


class Trust(Frozen):
    """What label rules that weigh confidence go by."""

    quantile: Inside = Field(0.5, description="of a class's confidences over the target: its threshold under `bdl`")
    cap: Inside = Field(0.9, description="the highest such threshold")
    threshold: Inside = Field(0.968, description="confidence that counts as sure under `fraction`")
    temperature: Positive = Field(1.0, description="tau of `proda`: how sharply distances to centroids weigh")


class Size(Frozen):
    """Some images of a batch are resized to this before they are scaled and cropped, in pixels."""

    images: Count
    height: Count
    width: Count


class Frames(Frozen):
    """How the images of one role come: resized, scaled by random factors of either side, cropped."""

    sizes: tuple[Size, ...] = Field((), description="in the order of the batch; none: every image at its own size")
    scale: tuple[Factor, Factor] = Field((1.0, 1.0), description="bounds of the random factors of height and width")
    gate: bool = Field(False, description="whether a source crop of few classes is drawn again, up to five times")

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        return _lower_first(scale)


def _lower_first(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"found {list(bounds)}, expected the lower bound first")
    return bounds


class Statistics(Frozen):
    """Batch normalisation: which forwards move the running statistics, and what the teacher uses.

    `views` is the forward of the source image and its second view, `mixed` that of the class-mix
    image, `target` a forward of target images made for nothing else: the authors' code makes it
    for pictures in training mode, so that its "source only" rows have seen target statistics.
    """

    student: Literal["batch", "running"] = Field("batch", description="running: frozen statistics while training")
    update: tuple[Literal["views", "mixed", "target"], ...] = ("views", "mixed")
    teacher: Literal["batch", "copied"] = Field(
        "batch", description="batch: statistics of its own batches, as the authors; copied: the student's running ones"
    )

    @property
    def reads(self) -> frozenset[Literal["source", "target"]]:
        """What a stage that trains on the source alone reads: the target only to let it move the statistics."""
        return frozenset({"source", "target"} if "target" in self.update else {"source"})


# --- made from JSON ----------------------------------------------------------------------


def checked(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """`kind` made from JSON values, strictly: no text for a number, no number for a truth value.

    Raises ConfigError naming the path, the value found and what was expected.
    """
    try:
        return kind.model_validate_json(as_json(values, where or kind.__name__))
    except ValidationError as failure:
        raise _one_line(kind, failure, where) from None


def as_json(value: Any, where: str) -> str:
    """The JSON text of a value.  Raises ConfigError for what has none."""
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        raise ConfigError(where, f"found {shown(value)}", "a value that JSON can hold") from None


def _one_line(kind: type[Frozen], failure: ValidationError, where: str) -> ConfigError:
    first = failure.errors(include_url=False)[0]
    path = ".".join([where, *map(str, first["loc"])]).strip(".") or kind.__name__
    if first["type"] == "extra_forbidden":
        return ConfigError(path, "no such key", expected_one_of(str(first["loc"][-1]), _fields_at(kind, first["loc"])))
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "value_error":
        return ConfigError(path, message)
    found = "nothing" if first["type"] == "missing" else shown(first["input"])
    return ConfigError(path, f"found {found}", message)


def _fields_at(kind: type[Frozen], place: tuple[int | str, ...]) -> Iterable[str]:
    """Fields of the value inside `kind` in which an unknown key stood."""
    for name in place[:-1]:
        inner = kind.model_fields[str(name)].annotation
        if not (isinstance(inner, type) and issubclass(inner, Frozen)):
            return ()
        kind = inner
    return kind.model_fields
