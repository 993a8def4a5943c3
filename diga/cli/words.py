"""Times and sizes as people say them."""

from __future__ import annotations


def spoken(seconds: float) -> str:
    """2 d 15 h, 3 h 20 min, 40 s"""
    units = (("d", 86400), ("h", 3600), ("min", 60))
    for i, (unit, size) in enumerate(units):
        if seconds >= size:
            rest, small = divmod(seconds, size), units[i + 1 : i + 2]
            return f"{int(rest[0])} {unit}" + (f" {int(rest[1] // small[0][1])} {small[0][0]}" if small else "")
    return f"{seconds:.0f} s"


def readable(size: float) -> str:
    """1.5 GB"""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
