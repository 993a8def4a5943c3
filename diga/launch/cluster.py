"""Ray, started on this machine when no address is given, with the settings that a killed part asks for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

SETTINGS = {  # must be in the environment before Ray is imported, and in that of its workers
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the pace of ray.train.report, and of noticing a death
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a stage without a GPU still sees the device it may share
    "RAY_DEDUP_LOGS": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
for _key, _value in SETTINGS.items():
    os.environ.setdefault(_key, _value)


@contextmanager
def cluster(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """A connection to a Ray cluster: at `address` or $RAY_ADDRESS, else one of this process's own.

    The own one listens on loopback alone and ends with the block.
    """
    import ray

    address = address or os.environ.get("RAY_ADDRESS") or None
    workers = {"env_vars": {k: os.environ[k] for k in [*SETTINGS, "DIGA_HOME", "DIGA_DATA"] if k in os.environ}}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address:
        ray.init(address=address, runtime_env=workers, **quiet)
    else:
        ray.init(num_cpus=cpus, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
    try:
        yield
    finally:
        ray.shutdown()
