"""The only floor that knows a cluster and a tracking server exist.

SETTINGS is the one place where Ray and MLflow are told their pace.  This process, the cluster it starts
and the workers of any cluster it joins get them from here; a cluster that somebody else starts takes
them from `eval "$(python -m diga.launch)"` before `ray start`.
"""

import os

SETTINGS = {  # they count when Ray or MLflow is imported, here and in Ray's workers
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the pace of ray.train.report, and of noticing a worker's death
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",  # a group that waits for a node that has just died asks again
    "RAY_health_check_period_ms": "1000",  # of the head: it asks every node so often whether it lives, and
    "RAY_health_check_failure_threshold": "5",  # a node that refuses so often is dead: 5 s instead of 15
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # a submitted job's own environment does not keep a driver from adding to it
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a stage without a GPU still sees the device it may share
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed says so, and has no metric
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # a stopped search ends as every other command: exit code 130
    "RAY_AIR_NEW_OUTPUT": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds; a server that is away is given up soon, and asked again
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # of every run that a server is told of
}
for _key, _value in SETTINGS.items():
    os.environ.setdefault(_key, _value)
