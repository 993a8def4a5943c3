"""The only floor that knows a cluster and a tracking server exist."""

import os

SETTINGS = {  # they count when Ray or MLflow is imported, here and in Ray's workers
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the pace of ray.train.report, and of noticing a death
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a stage without a GPU still sees the device it may share
    "RAY_DEDUP_LOGS": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds; a server that is away is given up soon, and asked again
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
for _key, _value in SETTINGS.items():
    os.environ.setdefault(_key, _value)
