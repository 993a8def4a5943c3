"""The 18,111 of GTA5's 24,966 frames on which the authors of DiGA train; why the others are left out is not told."""

from __future__ import annotations

FRAMES = 24_966  # numbered from 1

LEFT_OUT = """
    8166-9514 9768-9909 10108-10123 10217-10225 10235-10239 10244-10249 10372 10377-12017 12111-12567 12577-12690
    12703-12711 12742-12745 12827-14015 14062-14380 14516-14748 14844-15170 15188 15260-15420 15430 15476-15479
    15483-15487 15510-15514 15524 15534 15538-15547 15560-15627 15658-15713 15783-15982 16213-16279 16642-16650
    17197 17234 17429-17545 17605-17616 17690-17691 17705-17706 17718 17737-17740 17745-17746 17775-17894 18102
    18424 18478 18491 18495-18553 19068 19316-19317 19378-19397 19578 19729-19746 19827-19902 19913 20089
"""


def left_out() -> frozenset[int]:
    """Numbers of the frames that the authors' list has not."""
    bounds = [run.partition("-") for run in LEFT_OUT.split()]
    return frozenset(n for first, _, last in bounds for n in range(int(first), int(last or first) + 1))


def names() -> list[str]:
    """File names of the frames they train on, in order."""
    without = left_out()
    return [f"{n:05d}.png" for n in range(1, FRAMES + 1) if n not in without]
