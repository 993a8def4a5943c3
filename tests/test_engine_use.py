"""What a stage used: processor time, memory and time as this process can see them by other means."""

from __future__ import annotations

import json
import mmap
import os
import sys
import time

import psutil
import pytest
import torch

from diga.engine.use import measured
from diga.store import MANIFEST
from tests.conftest import Chain

CPU = torch.device("cpu")
MB = 1 << 20


def test_processor_time_is_not_waiting_time():
    with measured(CPU) as use:
        time.sleep(0.3)
    assert use["cpu_seconds"] < 0.2
    assert use["wall_seconds"] >= 0.3
    with measured(CPU) as use:
        begun = time.process_time()
        while time.process_time() - begun < 0.3:
            pass
    assert 0.29 <= use["cpu_seconds"] < 1


def test_what_a_child_used_counts():
    with measured(CPU) as use:
        pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", "sum(range(20_000_000))"])
        os.waitpid(pid, 0)
    assert use["cpu_seconds"] > 0.1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is the process's since it began")
def test_the_peak_is_this_block_s_alone():
    before = psutil.Process().memory_info().rss
    with measured(CPU) as use, mmap.mmap(-1, 300 * MB) as held:  # the heap may have kept what it once was given
        for _ in range(300):
            held.write(b"x" * MB)
    assert before + 290 * MB < use["peak_bytes"] < before + 700 * MB
    with measured(CPU) as use:
        pass
    assert use["peak_bytes"] < before + 150 * MB


def test_no_gpu_is_told_of_where_there_is_none():
    with measured(CPU) as use:
        pass
    assert set(use) == {"cpu_seconds", "wall_seconds", "peak_bytes"}


def test_every_stage_s_manifest_says_what_it_used(chain: Chain) -> None:
    for folder in chain.folders.values():
        meta = json.loads((folder / MANIFEST).read_text())["meta"]
        assert 0 < meta["use"]["cpu_seconds"] < 600
        assert 0 < meta["use"]["wall_seconds"] <= meta["seconds"]
        assert 50 * MB < meta["use"]["peak_bytes"] < 16_384 * MB
