"""What room a cluster has, now and at best."""

from __future__ import annotations

from collections import Counter
from typing import Any

from diga.errors import StorageError
from diga.launch.resources import Resources


def free(ray: Any, asked: Resources) -> bool:
    """Whether a cluster has that much to give now."""
    there = ray.available_resources()
    return all(there.get(kind, 0) >= value for kind, value in asked.total().items())


def possible(ray: Any, asked: Resources) -> bool:
    """Whether some node, were it idle, could hold one worker, and all of them together the rest."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    one = any(all(node.get(k, 0) >= v for k, v in asked.each().items()) for node in nodes)
    return one and all(sum(n.get(k, 0) for n in nodes) >= v for k, v in asked.total().items())


def refuse(ray: Any, where: str, asked: Resources) -> None:
    """Raises StorageError for what the whole cluster could not hold: it would be waited for without end."""
    if not ray.nodes() or possible(ray, asked):
        return
    wants = ", ".join(f"{value:g} {kind}" for kind, value in asked.each().items())
    there = Counter(ray.cluster_resources())
    has = ", ".join(f"{there[kind]:g} {kind}" for kind in ("CPU", "GPU"))
    many = f"{asked.workers} times " if asked.workers > 1 else ""
    raise StorageError(where, f"wants {many}{wants}; the cluster has {has}", "a node that has")
