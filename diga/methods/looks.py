"""What a step shows: numbers that need no label, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from diga import ops
from diga.data.labels import IGNORE

if TYPE_CHECKING:
    from torch import Tensor

    from diga.ops.ensemble import Voice
    from diga.ops.rules import Chosen, Opinions
    from diga.types import Batch, Pair, Prediction


def doubts(p: Prediction) -> dict[str, Tensor]:
    """How undecided the student is on [x_s; x_cdm], as a share of log K."""
    weak, strong = ops.losses.entropy(p.logits, relative=True).chunk(2)
    return {"entropy/source": weak.mean(), "entropy/view": strong.mean()}


def label_free(heard: Opinions, chosen: Chosen, features: bool) -> dict[str, Tensor]:
    """Share of target pixels that get a label, the teacher's doubt, and how often both kinds of label agree."""
    kept = chosen.label.ne(IGNORE).float().mean()
    found = {"target/kept": kept, "entropy/target": ops.losses.entropy(heard.seen.logits, relative=True).mean()}
    if features:
        found["target/agreement"] = (ops.rules.feature(heard).label == heard.warm).float().mean()
    return found


def shown(source: Batch, view: Tensor, p: Prediction) -> dict[str, Tensor]:
    """Columns of a picture: the two views and what the student makes of the first."""
    return {
        "source": source.image,
        "label": source.label,
        "second view": view,
        "student": p.logits.chunk(2)[0].argmax(1),
    }


def mixing(pair: Pair, chosen: Chosen, x_mix: Tensor, y_mix: Tensor) -> dict[str, Tensor]:
    """Columns of a picture: the target, its labels before and after the rule, the mixed pair."""
    assert pair.guess is not None
    return {
        "target": pair.target,
        "y_warm": pair.guess.label,
        "chosen": chosen.label,
        "mixed": x_mix,
        "mixed label": y_mix,
    }


def told(seen: Prediction, label: Tensor) -> dict[str, Tensor]:
    """How undecided a network is on target images, as a share of log K, and what share of them has a label."""
    doubt = ops.losses.entropy(seen.logits, relative=True).mean()
    return {"entropy/target": doubt, "target/kept": label.ne(IGNORE).float().mean()}


def bridging(pair: Pair, chosen: Chosen, x_mix: Tensor, y_mix: Tensor, p: Prediction) -> dict[str, Tensor]:
    """Columns of a picture: the target and its labels, the mixed pair, and what the student makes of it."""
    mixed = {"mixed": x_mix, "mixed label": y_mix, "student": p.logits.argmax(1)}
    return {"target": pair.target, "teacher": chosen.label} | mixed


def together(x_t: Tensor, voices: Sequence[Voice], label: Tensor, view: Tensor, p: Prediction) -> dict[str, Tensor]:
    """Columns of a picture: the target, what each teacher says and all together, what the student sees and says."""
    each = {f"teacher {i}": voice.logits.argmax(1) for i, voice in enumerate(voices, 1)}
    return {"target": x_t} | each | {"together": label, "view": view, "student": p.logits.argmax(1)}
