#!/usr/bin/env bash
# Starts Prefect's server, MLflow and a worker on this machine, applies all deployments, and stops them together on Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
prefect_port=${PREFECT_PORT:-4200}
mlflow_port=${MLFLOW_PORT:-5000}
export PREFECT_HOME=${PREFECT_HOME:-$PWD/var/prefect}
export PREFECT_API_URL=http://127.0.0.1:$prefect_port/api
export PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1 MLFLOW_DISABLE_TELEMETRY=true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false            # 2 processes instead of 10
export PYTHONPATH=$PWD OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
export DEALREC_REGISTRY__TRACKING_URI=http://127.0.0.1:$mlflow_port
logs=$PWD/var/logs
mkdir -p "$logs" "$PWD/var"

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
    for _ in $(seq 120); do
        if curl --silent --fail --output /dev/null "$2"; then return; fi
        kill -0 "$3" 2>/dev/null || break
        sleep 0.5
    done
    echo "error: $1 does not answer at $2; see $logs/$1.log (is the port taken? set PREFECT_PORT or MLFLOW_PORT)" >&2
    exit 1
}

start prefect "$bin/prefect" server start --host 127.0.0.1 --port "$prefect_port"
start mlflow "$bin/mlflow" server --host 127.0.0.1 --port "$mlflow_port" \
    --backend-store-uri "sqlite:///$PWD/var/mlflow.db" --default-artifact-root "$PWD/var/mlflow-artifacts"
answers prefect "http://127.0.0.1:$prefect_port/api/health" "${pids[0]}"
answers mlflow "http://127.0.0.1:$mlflow_port/health" "${pids[1]}"
"$bin/prefect" --no-prompt work-pool create dealrec --type process --overwrite > "$logs/deploy.log" 2>&1
"$bin/prefect" --no-prompt deploy --all --prefect-file deployments/prefect.yaml >> "$logs/deploy.log" 2>&1 || {
    echo "error: the deployments could not be applied; see $logs/deploy.log" >&2; exit 1; }
start worker "$bin/prefect" worker start --pool dealrec --limit 2

cat <<MESSAGE

dealrec is up. Stop it with Ctrl-C.
  Prefect  http://127.0.0.1:$prefect_port/deployments   start 'nightly' here: Run, Custom run
  MLflow   http://127.0.0.1:$mlflow_port/#/models       the registered models
  logs     $logs
MESSAGE
wait -n "${pids[@]}" || true
echo "error: one of the services ended; see $logs" >&2
exit 1
