"""Whether every node of a cluster sees the same folders: a task on each reads a token and writes its own."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from diga.errors import StorageError
from diga.pipeline import Place

PATIENCE = 60.0  # seconds a node may take to start a first worker
ALL_SHARE = "a folder that all nodes of the cluster share, at the same path"


def see_the_same(place: Place) -> None:
    """Raises StorageError, naming the folder and the node, where a node does not see the store or the data."""
    import ray

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if set(nodes) == {ray.get_runtime_context().get_node_id()}:
        return
    root, token = place.store.root, f".probe-{uuid.uuid4().hex[:12]}"
    root.mkdir(parents=True, exist_ok=True)
    (root / token).write_text(token)
    try:
        asked = {node: ask(ray, node, root, token, place.data) for node in nodes}
        for node, task in asked.items():
            if trouble := answer(ray, task, root):
                raise StorageError(trouble[0], f"node {nodes[node]} {trouble[1]}", ALL_SHARE)
            if not (root / f"{token}-{node}").exists():
                raise StorageError(root, f"what node {nodes[node]} writes there is not seen here", ALL_SHARE)
    finally:
        for left in root.glob(f"{token}*"):
            left.unlink(missing_ok=True)


def ask(ray: Any, node: str, root: Path, token: str, data: Path) -> Any:
    """A task on one node, that and no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(look)
    return task.remote(str(root), token, node, str(data))


def answer(ray: Any, task: Any, root: Path) -> tuple[str, str] | None:
    """What a node has to complain of: a folder, and what is wrong with it."""
    try:
        trouble: tuple[str, str] | None = ray.get(task, timeout=PATIENCE)
    except ray.exceptions.GetTimeoutError:
        return str(root), f"did not answer for {PATIENCE:.0f} s"
    except ray.exceptions.RayError as failure:
        return str(root), f"cannot look: {(str(failure).strip().splitlines() or ['no reason given'])[-1]}"
    return trouble


def look(root: str, token: str, node: str, data: str) -> tuple[str, str] | None:
    """What is wrong with the folders, seen from a node; it leaves a token of its own."""
    try:
        if (Path(root) / token).read_text() != token:
            return root, "sees another folder there"
        (Path(root) / f"{token}-{node}").write_text(token)
    except OSError as failure:
        return root, f"does not see this store: {failure.strerror}"
    return None if Path(data).is_dir() else (data, "does not see the data")
