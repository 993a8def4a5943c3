"""Checkpoints of a stage under way that were damaged on the disk: found, named, and the one before goes on."""

from __future__ import annotations

import numpy as np
import torch

from diga.engine import checkpoint


def test_a_hundred_of_a_hundred_damaged_checkpoints_are_found_and_the_one_before_is_used(tmp_path, capsys):
    chance = np.random.default_rng(1)
    for number in range(100):
        folder = tmp_path / str(number)
        for step in (100, 200):
            checkpoint.save(folder, step, {"step": step, "nets": {"w": torch.randn(64, 64)}})
        newest = sorted(folder.glob("*.pt"))[-1]
        whole = newest.read_bytes()
        at = int(chance.integers(len(whole)))
        flip = bytes([whole[at] ^ (1 << int(chance.integers(8)))])
        newest.write_bytes(whole[:at] + flip + whole[at + 1 :] if number % 2 else whole[:at])
        state = checkpoint.latest(folder, torch.device("cpu"))
        assert state is not None
        assert state["step"] == 100, (number, at)
        said = capsys.readouterr().out
        assert str(newest) in said
        assert f"its name says {newest.name.split('.')[1]}" in said
