#!/usr/bin/env bash
# One search on every process of this job: the same line on every host.
#
#   experiments/run_pod.sh [FLAGS OF experiments.search]
#
# PROCESSES=N starts N processes on this machine alone. Otherwise this is one process of
# many, and the platform says which (SLURM, Open MPI, a TPU pod, Kubernetes), or
# COORDINATOR=HOST:PORT, COUNT and ID do. See docs/pod.md.
set -euo pipefail

python=${PYTHON:-python}

if [ -n "${PROCESSES:-}" ]; then
  if ! [[ $PROCESSES =~ ^[1-9][0-9]*$ ]]; then
    echo "error: PROCESSES must be a whole number >= 1, got '$PROCESSES'" >&2
    exit 2
  fi
  address=${COORDINATOR:-127.0.0.1:$((20000 + RANDOM % 20000))}
  pids=()
  # A process that ends early takes the others with it within half a minute; wait.
  trap 'kill -TERM "${pids[@]}" 2> /dev/null || true' INT TERM
  for ((id = 0; id < PROCESSES; id++)); do
    "$python" -m experiments.search "$@" --coordinator_address="$address" \
      --processes="$PROCESSES" --process_id="$id" &
    pids+=($!)
  done
  status=0
  # Again where the trap has ended a wait: a process may save for some seconds yet.
  for pid in "${pids[@]}"; do
    code=0
    while kill -0 "$pid" 2> /dev/null; do wait "$pid" || code=$?; done
    wait "$pid" 2> /dev/null || { last=$?; [ "$last" = 127 ] || code=$last; }
    [ "$status" != 0 ] || status=$code # of the first process, which says why
  done
  exit "$status"
fi

if [ -n "${COORDINATOR:-}" ]; then
  exec "$python" -m experiments.search "$@" --coordinator_address="$COORDINATOR" \
    --processes="${COUNT:?is the number of processes}" \
    --process_id="${ID:?is the number of this one, from 0}"
fi
exec "$python" -m experiments.search "$@" --distributed
