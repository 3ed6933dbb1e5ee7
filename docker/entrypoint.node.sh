#!/bin/sh
# The image's entry point: waits until the GPUs have room, then becomes the node's supervisor. Arguments are
# passed on, so other commands work too: docker run reactantserver bundle validate /models/mine
set -eu

timeout=${REACTANT_GPU_RECLAIM_TIMEOUT_SECONDS:-30}
ceiling=${REACTANT_GPU_RECLAIM_MAX_USED_PERCENT:-15}
interval=2

say() { echo "[entrypoint] $*" >&2; }

# Whether a text is a whole number of at most nine digits, which the shell can count with.
is_count() {
  case $1 in
  '' | *[!0-9]* | ??????????*) return 1 ;;
  esac
}

# Prints one line for each visible GPU that uses more than the ceiling.
busy_gpus() {
  nvidia-smi --query-gpu=index,memory.used,memory.total --format=csv,noheader,nounits 2>/dev/null |
    while IFS=', ' read -r index used total; do
      is_count "$used" && is_count "$total" && [ "$total" -gt 0 ] || continue
      percent=$((used * 100 / total))
      [ "$percent" -le "$ceiling" ] || echo "GPU $index uses $percent% ($used of $total MiB)"
    done
}

# A container that was just stopped may not have given its memory back yet; one that preallocates would
# fail to start on what is left.
wait_for_memory() {
  is_count "$timeout" && [ "$timeout" -gt 0 ] || return 0
  is_count "$ceiling" || {
    say "REACTANT_GPU_RECLAIM_MAX_USED_PERCENT=$ceiling is no whole number; using 15"
    ceiling=15
  }
  if ! command -v nvidia-smi >/dev/null 2>&1; then
    for device in /dev/nvidia[0-9]*; do
      [ -e "$device" ] || continue
      say "there are GPUs but no nvidia-smi, so their memory is not checked;" \
        "add utility to NVIDIA_DRIVER_CAPABILITIES"
      break
    done
    return 0
  fi
  waited=0
  while busy=$(busy_gpus) && [ -n "$busy" ]; do
    echo "$busy" | while read -r line; do say "$line"; done
    if [ "$waited" -ge "$timeout" ]; then
      say "still more than $ceiling% in use after $timeout s; starting anyway"
      return 0
    fi
    sleep "$interval"
    waited=$((waited + interval))
  done
}

# Commands other than serving need no GPU.
case ${1-} in
'' | serve | -*)
  [ "${REACTANT_GPUS-}" = 0 ] || wait_for_memory
  ;;
esac
exec reactantserver "$@"
