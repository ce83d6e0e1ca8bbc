#!/usr/bin/env bash
# Starts Prefect's server, MLflow, the bridge between them and two workers on this machine, applies all deployments, and stops them
# together on Ctrl-C. The pages answer before the deployments are applied.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${DEALREC_BIN:-$PWD/.venv/bin}
var=${DEALREC_VAR:-$PWD/var}
prefect_port=${PREFECT_PORT:-4200}
mlflow_port=${MLFLOW_PORT:-5000}
bridge_port=${BRIDGE_PORT:-4300}
logs=$var/logs
mkdir -p "$logs"

export PREFECT_HOME=${PREFECT_HOME:-$var/prefect}
export PREFECT_API_URL=http://127.0.0.1:$prefect_port/api
export PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1 MLFLOW_DISABLE_TELEMETRY=true
export PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30                # the automation marks a run that is silent for 60 s
export PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs
export PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD=${DEALREC_KEEP_SECONDS:-7776000}   # 90 days
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false            # 2 processes instead of 10
export MLFLOW_WEBHOOK_ALLOWED_SCHEMES=http,https MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true       # the bridge is on this machine
export PYTHONPATH=$PWD OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
export DEALREC_REGISTRY__TRACKING_URI=http://127.0.0.1:$mlflow_port
export DEALREC_BRIDGE_URL=http://127.0.0.1:$bridge_port

secret() {  # secret FILE: 32 random bytes, made once, for this user's eyes only
    [ -s "$var/$1" ] || (umask 077; head -c 32 /dev/urandom | base64 | tr '+/' '-_' > "$var/$1")
    cat "$var/$1"
}
DEALREC_WEBHOOK_SECRET=$(secret webhook-secret)
MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=$(secret webhook-key)
export DEALREC_WEBHOOK_SECRET MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY

pids=()
stop() {
    trap - EXIT INT TERM
    echo "stopping"
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
}
trap stop EXIT INT TERM

start() {  # start NAME COMMAND...: in the background, output to var/logs/NAME.log
    local name=$1; shift
    "$@" > "$logs/$name.log" 2>&1 &
    pids+=($!)
}

answers() {  # answers NAME URL PID: waits until the address answers, or tells where to look
    for _ in $(seq 240); do
        if curl --silent --fail --output /dev/null "$2"; then echo "$1 answers after $SECONDS s"; return; fi
        kill -0 "$3" 2>/dev/null || break
        sleep 0.5
    done
    echo "error: $1 does not answer at $2; see $logs/$1.log (is the port taken? set PREFECT_PORT or MLFLOW_PORT)" >&2
    exit 1
}

start prefect "$bin/python" -m prefect server start --host 127.0.0.1 --port "$prefect_port"
start mlflow "$bin/python" -m mlflow server --host 127.0.0.1 --port "$mlflow_port" --workers 1 \
    --backend-store-uri "sqlite:///$var/mlflow.db" --default-artifact-root "$var/mlflow-artifacts"
answers mlflow "http://127.0.0.1:$mlflow_port/health" "${pids[1]}"
answers prefect "http://127.0.0.1:$prefect_port/api/health" "${pids[0]}"
start bridge "$bin/python" -m flows.cli bridge --port "$bridge_port"
"$bin/python" -m flows.cli deploy --config "${DEALREC_CONFIG:-deployments/pipeline.toml}" > "$logs/deploy.log" 2>&1 || {
    echo "error: the deployments could not be applied; see $logs/deploy.log" >&2; exit 1; }
start worker-cpu "$bin/python" -m prefect worker start --pool cpu --limit 2
start worker-gpu "$bin/python" -m prefect worker start --pool gpu --limit 1

cat <<MESSAGE

dealrec is up after $SECONDS s. Stop it with Ctrl-C.
  Prefect    http://127.0.0.1:$prefect_port/deployments   start 'nightly' here: Run, Custom run
  artifacts  http://127.0.0.1:$prefect_port/artifacts     what the nights have to show
  MLflow     http://127.0.0.1:$mlflow_port/#/models       the registered models
  logs       $logs
MESSAGE
wait -n "${pids[@]}" || true
echo "error: one of the services ended; see $logs" >&2
exit 1
