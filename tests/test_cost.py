"""What a step is said to cost is counted while it is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diga.cost import STEPS, UPDATE
from diga.models.streetnet import StreetNet
from diga.pipeline import Place, execute
from diga.recipe import override
from diga.types import Prediction
from tests.conftest import Chain, stage_run, until
from tests.test_methods_ddb import tiny

LEAK: dict[str, Any] = {"statistics.update": ["views", "target"]}


@pytest.fixture(scope="module")
def paths(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A round of DDB before its score."""
    recipe, place = until(tiny(steps=2), "student_1"), Place(tmp_path_factory.mktemp("home"), data)
    return Chain(recipe, place, execute(recipe, place))


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images of every forward of the network: one that is learnt from counts as often as `UPDATE` says."""
    counts: list[int] = []
    forward = StreetNet.forward

    def counted(net: StreetNet, image: Tensor) -> Prediction:
        counts.append(len(image) * (UPDATE if torch.is_grad_enabled() else 1))
        return forward(net, image)

    monkeypatch.setattr(StreetNet, "forward", counted)
    return counts


def counted_as_told(chain: Chain, stage: str, changes: dict[str, Any], folder: Path, looked_at: list[int]) -> None:
    """Forwards of two steps, those of three less those of one, are what `STEPS` says."""
    found = []
    for steps in (1, 3):
        own = {f"{stage}.{key}": value for key, value in (changes | {"plan.steps": steps, "plan.snapshots": 1}).items()}
        recipe = override(chain.recipe, own)
        run = stage_run(chain, recipe, stage, folder / str(steps))
        looked_at.clear()
        run.own(run)
        found.append(sum(looked_at))
    trained: Any = recipe.stages[stage]
    told = STEPS[type(trained).__name__](trained).network
    assert found[1] - found[0] == 2 * trained.draws(recipe).batch * told


@pytest.mark.parametrize("changes", [{}, LEAK], ids=["clean", "leak"])
@pytest.mark.parametrize("stage", ["cut_1", "student_1"])
def test_ddb(paths: Chain, stage: str, changes: dict[str, Any], tmp_path: Path, looked_at: list[int]) -> None:
    counted_as_told(paths, stage, changes, tmp_path, looked_at)


@pytest.mark.parametrize(("stage", "changes"), [("warm_up", {}), ("warm_up", LEAK), ("self_training", {})])
def test_diga(chain: Chain, stage: str, changes: dict[str, Any], tmp_path: Path, looked_at: list[int]) -> None:
    counted_as_told(chain, stage, changes, tmp_path, looked_at)
