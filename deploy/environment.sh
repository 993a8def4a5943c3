# What every shell of a cluster's nodes has before `ray start` and before `diga`:  . deploy/environment.sh
# Edit the three folders; all nodes see the first two at the same path.
export DIGA_HOME=/shared/diga-home          # stages, reports, MLflow's artifacts
export DIGA_DATA=/shared/data               # datasets, as docs/cluster.md says
export PATH="$HOME/diga-venv/bin:$PATH"     # the package, on each node's own disk

export RAY_AUTH_MODE=token                  # on all nodes and for `ray job submit`; the token is ~/.ray/auth_token
export RAY_TMPDIR="${RAY_TMPDIR:-/tmp/ray}" # Ray's logs, on each node's own disk
export PGPASSFILE="$HOME/diga-services/pgpass"        # deploy/mlflow-postgres.sh writes it; no password is typed
export MLFLOW_TRACKING_URI="http://127.0.0.1:5000"    # of the head: the driver runs there and alone talks to it
eval "$(python -m diga.launch)"             # health checks and the pace of reports
