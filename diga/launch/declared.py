"""Which ledger a sweep's trials are in: said once in its storage and once in the run home, and held to."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from diga.errors import ConfigError, shown
from diga.files import write_whole
from diga.space import Dimension, differences
from diga.sweep import Sweep

DECLARED = "declared"  # of the study in its storage
HERE = "ledger.json"  # in the sweep's folder of the run home: the ledger's id, and the storage it is in


def settled(study: optuna.Study, sweep: Sweep, question: str, folder: Path, where: str) -> str:
    """The id of the sweep's ledger; a new one if neither the storage nor the run home knows the sweep.

    Raises ConfigError where they know another sweep by its name, or each other not.
    """
    told = {
        "question": question,
        "dimensions": [d.model_dump(mode="json") for d in sweep.dimensions],
        "rungs": sweep.halving and list(sweep.halving.rungs),
        "in_turn": bool(sweep.halving and sweep.halving.in_turn),
    }
    before, here = study.user_attrs.get(DECLARED), _known(folder)
    if before is None:
        _alone(sweep.name, here, folder, where)
        ledger = uuid.uuid4().hex[:12]
        write_whole(folder / HERE, json.dumps({"id": ledger, "storage": where}).encode())
        study.set_user_attr(DECLARED, told | {"id": ledger})
        return ledger
    _same(sweep.name, before, told)
    if here.get("id") != before["id"]:  # drivers meet in their own run home alone
        what = "its trials are in another run home"
        raise ConfigError(f"sweep {sweep.name!r}", what, "that one as DIGA_HOME, or --name")
    return str(before["id"])


def _known(folder: Path) -> dict[str, str]:
    file = folder / HERE
    return dict(json.loads(file.read_text())) if file.exists() else {}


def _alone(name: str, here: Mapping[str, str], folder: Path, where: str) -> None:
    """Raises ConfigError where this run home has the sweep's trials in another storage."""
    if here and here["storage"] != where:
        what = f"its trials are in {here['storage']}, not in {where}"
        told = f"that storage, or --name for another sweep; where they are gone for good, without {folder}"
        raise ConfigError(f"sweep {name!r}", what, told)


def _same(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises ConfigError, saying what differs, unless a sweep goes on as it began."""
    spaces = [[Dimension.model_validate_json(json.dumps(d)) for d in one["dimensions"]] for one in (before, now)]
    other = "--name, for a sweep of its own"
    if told := differences(*spaces):
        raise ConfigError(f"sweep {name!r}", f"there is one with another space: {'; '.join(told)}", other)
    if before["question"] != now["question"]:
        raise ConfigError(f"sweep {name!r}", "there is one with another base recipe, data or objective", other)
    if before["rungs"] != now["rungs"]:
        what = f"there is one with rungs {shown(before['rungs'])}, not {shown(now['rungs'])}"
        raise ConfigError(f"sweep {name!r}", what, other)
    was, wanted = (one.get("in_turn", False) for one in (before, now))  # earlier versions had one rule
    if was != wanted:
        what = "whose best go on in turn" if was else "whose best so far go on"
        raise ConfigError(
            f"sweep {name!r}", f"there is one {what}", f"--prune {'sha' if was else 'asha'}; else {other}"
        )
