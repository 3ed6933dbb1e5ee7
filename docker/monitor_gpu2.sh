#!/bin/sh
# Writes what memory does during a soak, one CSV row per interval:
#
#   docker/monitor_gpu2.sh [CSV] [SECONDS] [GPU]        default: soak_monitor.csv 15 2
#
# COMPOSE_FILE names the stack, with its overrides (default: the gpu2 one beside this script), CONTAINER a
# container without compose. A memory column that climbs under an even load is a leak; shm_regions must stay
# bounded. What cannot be read is NA. MONITOR_ROWS ends it after so many rows; else it runs until it is stopped.
set -u

csv=${1:-soak_monitor.csv}
interval=${2:-15}
gpu=${3:-2}
stack=${COMPOSE_FILE:-$(dirname -- "$0")/docker-compose.gpu2.yml}
engine=${ENGINE:-docker}
rows=${MONITOR_ROWS:-0}

container_id() {
  if [ -n "${CONTAINER-}" ]; then
    echo "$CONTAINER"
  else
    COMPOSE_FILE=$stack "$engine" compose ps -q reactantserver 2>/dev/null | head -n 1
  fi
}

# Two fields, or NA for both.
gpu_fields() {
  fields=$(nvidia-smi -i "$gpu" --query-gpu=memory.used,utilization.gpu \
    --format=csv,noheader,nounits 2>/dev/null | head -n 1 | tr -d ' ')
  echo "${fields:-NA,NA}"
}

container_fields() {
  id=$(container_id)
  [ -z "$id" ] || fields=$("$engine" stats --no-stream --format '{{.MemUsage}},{{.CPUPerc}}' "$id" \
    2>/dev/null | sed 's, */ *[^,]*,,' | head -n 1)
  [ -n "$id" ] && [ -n "$fields" ] || fields=NA,NA
  echo "$fields"
}

# Regions of the server (reactant…), of our clients (shm-reactant-…) and of the load generator (shm-loadgen-…).
shm_regions() {
  if [ -d /dev/shm ]; then
    find /dev/shm -maxdepth 1 -type f \( -name '*reactant*' -o -name 'shm-loadgen-*' \) 2>/dev/null | wc -l
  else
    echo NA
  fi
}

[ -s "$csv" ] ||
  echo 'epoch,iso_time,gpu_mem_used_mib,gpu_util_pct,worker_mem,worker_cpu_pct,shm_regions' >"$csv"
count=0
while :; do
  now=$(date -u +%s,%Y-%m-%dT%H:%M:%SZ)
  echo "$now,$(gpu_fields),$(container_fields),$(shm_regions)" >>"$csv"
  count=$((count + 1))
  [ "$rows" -eq 0 ] || [ "$count" -lt "$rows" ] || break
  sleep "$interval"
done
