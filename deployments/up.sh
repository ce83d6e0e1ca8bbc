#!/usr/bin/env bash
# Starts Prefect's server, MLflow, the bridge between them and two workers on this machine, applies all deployments, and stops them
# together on Ctrl-C. A service that ends is started again, three times at most; one that ran for ten minutes has its three starts back.
# The pages answer before the deployments are applied.
# Both servers ask for a password; the first start makes the passwords and keeps them below var/secrets, where only this user can read
# them (docs/security.md).
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${DEALREC_BIN:-$PWD/.venv/bin}
var=${DEALREC_VAR:-$PWD/var}
prefect_port=${PREFECT_PORT:-4200}
mlflow_port=${MLFLOW_PORT:-5000}
bridge_port=${BRIDGE_PORT:-4300}
patience=${DEALREC_PATIENCE_S:-120}   # a server that has done nothing for so many seconds will not start any more
logs=$var/logs
secrets=$var/secrets

export PREFECT_HOME=${PREFECT_HOME:-$var/prefect}
mkdir -p "$logs" "$secrets" "$PREFECT_HOME"
chmod 700 "$logs" "$secrets" "$PREFECT_HOME"
export PREFECT_API_URL=http://127.0.0.1:$prefect_port/api
export PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1 MLFLOW_DISABLE_TELEMETRY=true
export PREFECT_CLIENT_MAX_RETRIES=6                        # a server that is gone is waited for, two minutes instead of one
export PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30                # the automation marks a run that is silent for 60 s
export PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs
export PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD=${DEALREC_KEEP_SECONDS:-7776000}   # 90 days
export PREFECT_SERVER_CORS_ALLOWED_ORIGINS=http://127.0.0.1:$prefect_port,http://localhost:$prefect_port
export PREFECT_SERVER_CSRF_PROTECTION_ENABLED=true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false            # 2 processes instead of 10
export MLFLOW_BASIC_AUTH_FAIL_CLOSED=true MLFLOW_AUTH_CONFIG_PATH=$secrets/mlflow-auth.ini
export MLFLOW_WEBHOOK_ALLOWED_SCHEMES=http,https MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true       # the bridge is on this machine
export PYTHONPATH=$PWD OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
export DEALREC_REGISTRY__TRACKING_URI=http://127.0.0.1:$mlflow_port
export DEALREC_BRIDGE_URL=http://127.0.0.1:$bridge_port

secret() {  # secret NAME: 32 random bytes, made once; earlier versions kept two of them one folder above
    if [ -f "$var/$1" ]; then mv "$var/$1" "$secrets/$1"; fi
    [ -s "$secrets/$1" ] || (umask 077; head -c 32 /dev/urandom | base64 | tr '+/' '-_' > "$secrets/$1")
    cat "$secrets/$1"
}
first=$([ -s "$secrets/login.sh" ] || echo yes)
prefect_login=dealrec:$(secret prefect-password)
mlflow_password=$(secret mlflow-password)
mlflow_page_key=$(secret mlflow-page-key)
webhook_secret=$(secret webhook-secret)
webhook_key=$(secret webhook-key)
export PREFECT_API_AUTH_STRING=$prefect_login MLFLOW_TRACKING_USERNAME=dealrec MLFLOW_TRACKING_PASSWORD=$mlflow_password
(
    umask 077
    touch "$secrets/mlflow-auth.db"   # MLflow would make it readable for everyone
    sed "s|/app/var|$secrets|" deployments/mlflow-auth.ini > "$secrets/mlflow-auth.ini"
    echo "# A shell that has read this file (. $secrets/login.sh) is logged in to both servers." > "$secrets/login.sh"
    for name in PREFECT_API_URL PREFECT_API_AUTH_STRING DEALREC_REGISTRY__TRACKING_URI MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_PASSWORD
    do echo "export $name=${!name}"; done >> "$secrets/login.sh"
    echo "export MLFLOW_TRACKING_URI=$DEALREC_REGISTRY__TRACKING_URI" >> "$secrets/login.sh"
)

names=() pids=() starts=() since=() groups=()
family() {  # family PID: the process and all that it started; the process first, so that it starts nothing while they are killed
    local child
    echo "$1"
    for child in $(pgrep -P "$1"); do family "$child"; done
}

all_run() {  # all_run PID...
    local pid
    for pid; do kill -0 "$pid" 2>/dev/null || return 1; done
}

gone() {  # gone SECONDS PID...: waits for that long until none of them runs
    local end=$((SECONDS + $1)); shift
    while kill -0 "$@" 2>/dev/null; do [ "$SECONDS" -lt "$end" ] || return 1; sleep 0.2; done
}

stop() {  # ends workers and bridge, then the servers, and at last what does not end by itself, such as a worker without a server
    trap '' INT TERM HUP
    trap - EXIT
    echo "stopping"
    local pid all=()
    for pid in "${pids[@]}"; do all+=($(family "$pid")); done
    all+=($(pgrep -s 0 -g "$(IFS=,; echo "${groups[*]}")" || true))   # what a killed service has left behind
    kill "${pids[@]:2}" 2>/dev/null || true
    gone 10 "${pids[@]:2}" || true
    kill "${pids[@]:0:2}" 2>/dev/null || true
    gone 10 "${all[@]}" || kill -KILL "${all[@]}" 2>/dev/null || true
    gone 10 "${all[@]}" || true
}
trap stop EXIT
trap 'exit 0' INT TERM HUP

launch() {  # launch PLACE: the service of that place, in the background and a process group of its own, output to var/logs/NAME.log
    local name=${names[$1]}
    starts[$1]=$((${starts[$1]:-0} + 1)) since[$1]=$SECONDS
    set -m
    "run-$name" < /dev/null >> "$logs/$name.log" 2>&1 &
    set +m
    pids[$1]=$! groups+=($!)
}

start() {  # start NAME: for the first time; its log begins anew
    : > "$logs/$1.log"
    names+=("$1")
    launch $((${#names[@]} - 1))
}

answers() {  # answers NAME URL PID: waits until the address answers, for as long as the service works on it; 1 where it does not
    local work="" seen="" quiet=$SECONDS told=$SECONDS
    while kill -0 "$3" 2>/dev/null && [ $((SECONDS - quiet)) -lt "$patience" ]; do
        if curl --silent --fail --max-time 30 --output /dev/null "$2"; then echo "$1 answers after $SECONDS s"; return; fi
        work="$(ps -o time= -p "$(family "$3" | paste -sd, -)") $(wc -c < "$logs/$1.log")"
        [ "$work" = "$seen" ] || { seen=$work; quiet=$SECONDS; }
        [ $((SECONDS - told)) -lt 60 ] || { told=$SECONDS; echo "$1 is still starting after $SECONDS s; see $logs/$1.log"; }
        sleep 0.5
    done
    echo "error: $1 does not answer at $2; see $logs/$1.log (is the port taken? set PREFECT_PORT or MLFLOW_PORT)" >&2
    return 1
}

run-prefect() {
    PREFECT_SERVER_API_AUTH_STRING=$prefect_login \
        exec "$bin/python" -m prefect server start --host 127.0.0.1 --port "$prefect_port"
}
run-mlflow() {
    MLFLOW_AUTH_ADMIN_PASSWORD=$mlflow_password MLFLOW_FLASK_SERVER_SECRET_KEY=$mlflow_page_key \
        MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=$webhook_key \
        exec "$bin/python" -m mlflow server --app-name basic-auth --host 127.0.0.1 --port "$mlflow_port" --workers 1 \
        --backend-store-uri "sqlite:///$var/mlflow.db" --default-artifact-root "$var/mlflow-artifacts"
}
run-bridge() { DEALREC_WEBHOOK_SECRET=$webhook_secret exec "$bin/python" -m flows.cli bridge --port "$bridge_port"; }
run-deploy() { DEALREC_WEBHOOK_SECRET=$webhook_secret exec "$bin/python" -m flows.cli deploy; }
run-worker-cpu() { exec "$bin/python" -m prefect worker start --pool cpu --limit 2; }
run-worker-gpu() { exec "$bin/python" -m prefect worker start --pool gpu --limit 1; }

start prefect
start mlflow
answers mlflow "http://127.0.0.1:$mlflow_port/health" "${pids[1]}"
answers prefect "http://127.0.0.1:$prefect_port/api/health" "${pids[0]}"
start bridge
start deploy
wait "${pids[-1]}" || { echo "error: the deployments could not be applied; see $logs/deploy.log" >&2; exit 1; }
unset 'names[-1]' 'pids[-1]' 'starts[-1]'
start worker-cpu
start worker-gpu

nights=$(grep -o 'http.*viewStateShareKey=nights' "$logs/deploy.log" || true)   # `dealrec deploy` makes this view

cat <<MESSAGE

dealrec is up after $SECONDS s. Stop it with Ctrl-C.
  start      http://127.0.0.1:$prefect_port/deployments?deployments.tags.name=by-hand   'nightly' stands first: Run, Custom run
  runs       http://127.0.0.1:$prefect_port/runs?hide-subflows=true   a night's state says promoted, rejected, unchanged or empty
  night      http://127.0.0.1:$prefect_port/artifacts/key/night   the newest night, with links to its report and its stages
  MLflow     ${nights:-http://127.0.0.1:$mlflow_port/#/models}   every night with verdict, champion and recall
  models     http://127.0.0.1:$mlflow_port/#/models
  passwords  $secrets/login.sh   in another shell, '. $secrets/login.sh' logs you in
  logs       $logs
MESSAGE
if [ -n "$first" ] && [ -t 1 ]; then   # once, and never into a file
    echo "Shown this once: Prefect's page asks for    $prefect_login"
    echo "                 this link opens MLflow     http://dealrec:$mlflow_password@127.0.0.1:$mlflow_port/"
fi
while true; do
    if all_run "${pids[@]}"; then wait -n "${pids[@]}" || true; fi
    for place in "${!pids[@]}"; do
        if kill -0 "${pids[place]}" 2>/dev/null; then continue; fi
        case ${names[place]} in   # a worker ends without Prefect, which has its turn first; a child of a killed server still holds its port
            worker-*) answers prefect "http://127.0.0.1:$prefect_port/api/health" "${pids[0]}" || continue 2 ;;
            *) kill -KILL -- "-${pids[place]}" 2>/dev/null || true ;;
        esac
        status=0
        wait "${pids[place]}" || status=$?
        [ $((SECONDS - since[place])) -lt 600 ] || starts[place]=1
        said="${names[place]} ended with exit status $status; see $logs/${names[place]}.log"
        if [ "${starts[place]}" -gt 3 ]; then echo "error: $said; it is not started again" >&2; exit 1; fi
        echo "warning: $said; it is started again (${starts[place]} of 3)" >&2
        launch "$place"
    done
done
