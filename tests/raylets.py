"""Clusters of several raylets on loopback, with ports and a folder of their own.

Ray's note of what the current cluster is, is shared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.tiny import free_port


@contextmanager
def raylets(nodes: int, **head: Any) -> Iterator[Any]:
    """A head that takes jobs and no stage, and nodes of a CPU each.

    Another cluster on the machine may have the port that an agent takes by itself, and such an agent takes no job; and
    a submitted job joins the cluster that the head's folder names, the last one begun in it.
    """
    from ray._private.authentication_test_utils import reset_auth_token_state
    from ray.cluster_utils import Cluster

    reset_auth_token_state()  # an earlier test may have imported Ray without a mode
    ports = {"dashboard_port": free_port(), "dashboard_agent_listen_port": free_port()}
    where = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "node_ip_address": "127.0.0.1"}
    short = {"prefix": "ray-", "dir": "/tmp"}  # names of sockets have a hundred letters at most
    with tempfile.TemporaryDirectory(**short, ignore_cleanup_errors=True) as own:
        made = Cluster()
        try:
            made.add_node(**head | ports | where | {"num_cpus": 0, "temp_dir": own})
            for _ in range(nodes):
                made.add_node(num_cpus=1, node_ip_address="127.0.0.1")
            yield made
        finally:
            made.shutdown()
