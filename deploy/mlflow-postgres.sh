#!/usr/bin/env bash
# PostgreSQL and MLflow for one lab, on loopback of the machine where drivers run:
#   deploy/mlflow-postgres.sh start [FOLDER]     may be typed again; FOLDER is ~/diga-services unless given
#   deploy/mlflow-postgres.sh stop [FOLDER]
# It needs a PostgreSQL of the system (apt install postgresql) and `mlflow` on the PATH.  FOLDER is on the machine's
# own disk; the database's password is made once and stays in FOLDER/pgpass, which its owner alone can read.
set -euo pipefail
folder=${2:-$HOME/diga-services}
pg_port=${PG_PORT:-5432} mlflow_port=${MLFLOW_PORT:-5000} page=http://127.0.0.1:${MLFLOW_PORT:-5000}
artifacts=${DIGA_HOME:?}/mlflow-artifacts
found=$(command -v postgres || find /usr/lib/postgresql -path '*/bin/postgres' | sort -V | tail -1)
programs=$(dirname "$(readlink -f "$found")")

owner() { # a database server refuses to be root's
    if [ "$(id -u)" = 0 ]; then (cd "$folder/db" && runuser -u postgres -- "$@"); else (cd "$folder/db" && "$@"); fi
}

make_database() {
    (umask 077 && python3 -c 'import secrets; print(secrets.token_hex(24))' >"$folder/db/password")
    [ "$(id -u)" != 0 ] || chown -R postgres "$folder/db"
    owner "$programs/initdb" -D data -U diga -E UTF8 --auth=scram-sha-256 --pwfile=password >/dev/null
    (umask 077 && echo "127.0.0.1:*:*:diga:$(cat "$folder/db/password")" >"$folder/pgpass")
    rm "$folder/db/password"
}

running() { ps -o args= -p "$(cat "$folder/mlflow.pid" 2>/dev/null)" 2>/dev/null | grep -q 'mlflow server'; }
answers() { python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' "$page/health" 2>/dev/null; }

start() {
    mkdir -p "$folder/db" "$artifacts"
    [ -e "$folder/db/data/PG_VERSION" ] || make_database
    export PGPASSFILE="$folder/pgpass"
    if ! owner "$programs/pg_ctl" -D data status >/dev/null; then
        owner "$programs/pg_ctl" -D data -w -l log -o "-h 127.0.0.1 -p $pg_port -k $folder/db" start >/dev/null
    fi
    for name in mlflow optuna; do # two: both keep a table of their schema's version under the same name
        psql -h 127.0.0.1 -p "$pg_port" -U diga -d postgres -Atc "SELECT 1 FROM pg_database WHERE datname = '$name'" |
            grep -q 1 || createdb -h 127.0.0.1 -p "$pg_port" -U diga "$name"
    done
    if ! running; then
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true \
            MLFLOW_BACKEND_STORE_URI="postgresql://diga@127.0.0.1:$pg_port/mlflow" \
            setsid mlflow server --host 127.0.0.1 --port "$mlflow_port" --workers 1 \
            --no-serve-artifacts --default-artifact-root "file://$artifacts" >>"$folder/mlflow.log" 2>&1 &
        echo $! >"$folder/mlflow.pid"
        until running || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
    fi
    while running; do # it answers within seconds, the first time after it has made its tables
        if answers; then
            echo "MLflow $page · trials postgresql://diga@127.0.0.1:$pg_port/optuna"
            echo "export PGPASSFILE=$folder/pgpass"
            return
        fi
        sleep 1
    done
    echo "error: MLflow has ended: see $folder/mlflow.log" >&2
    return 4
}

stop() {
    while running && kill -- "-$(cat "$folder/mlflow.pid")"; do sleep 0.5; done
    rm -f "$folder/mlflow.pid"
    owner "$programs/pg_ctl" -D data -m fast stop >/dev/null
}

case ${1:-} in
start | stop) "$1" ;;
*) sed -n '2,6s/^# //p' "$0" && exit 2 ;;
esac
