#!/bin/sh
# The image's entry point: waits until the GPUs have room, then becomes the node's supervisor. Arguments are
# passed on, so other commands work too: docker run reactantserver bundle validate /models/mine
set -eu

patience=${REACTANT_GPU_RECLAIM_TIMEOUT_SECONDS:-30}
ceiling=${REACTANT_GPU_RECLAIM_MAX_USED_PERCENT:-15}
interval=2

say() { echo "[entrypoint] $*" >&2; }

# Whether a text is a whole number of at most nine digits, which the shell can count with.
is_count() {
  case $1 in
  '' | *[!0-9]* | ??????????*) return 1 ;;
  esac
}

# The GPUs that this node will use, as nvidia-smi takes them: what REACTANT_GPUS or CUDA_VISIBLE_DEVICES
# lists. Nothing: all that there are. Others may be as full as they like.
chosen_gpus() {
  list=${REACTANT_GPUS-${CUDA_VISIBLE_DEVICES-}}
  if is_count "$list" && [ -n "${REACTANT_GPUS-}" ]; then
    index=0
    list=
    while [ "$index" -lt "$REACTANT_GPUS" ] && [ "$index" -lt 64 ]; do
      list="$list$index,"
      index=$((index + 1))
    done
  fi
  echo "$list" | tr -d '[:space:]' | sed 's/^,*//; s/,*$//'
}

# Prints one line for each of them that uses more than the ceiling. A driver that hangs is not waited for.
busy_gpus() {
  gpus=$(chosen_gpus)
  timeout 10 nvidia-smi ${gpus:+-i "$gpus"} --query-gpu=index,memory.used,memory.total \
    --format=csv,noheader,nounits 2>/dev/null |
    while IFS=', ' read -r index used total; do
      is_count "$used" && is_count "$total" && [ "$total" -gt 0 ] || continue
      percent=$((used * 100 / total))
      [ "$percent" -le "$ceiling" ] || echo "GPU $index uses $percent% ($used of $total MiB)"
    done
}

# A container that was just stopped may not have given its memory back yet; one that preallocates would
# fail to start on what is left.
wait_for_memory() {
  is_count "$patience" && [ "$patience" -gt 0 ] || return 0
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
  # As process 1, without an init, a signal that nobody listens for is lost.
  trap 'exit 0' INT TERM
  waited=0
  while busy=$(busy_gpus) && [ -n "$busy" ]; do
    echo "$busy" | while read -r line; do say "$line"; done
    if [ "$waited" -ge "$patience" ]; then
      say "still more than $ceiling% in use after $patience s; starting anyway"
      return 0
    fi
    sleep "$interval"
    waited=$((waited + interval))
  done
}

# Commands other than serving need no GPU, nor does a gateway alone.
case ${1-} in
'' | serve | -*)
  case ${REACTANT_GPUS-}:${REACTANT_ROLE-} in
  0:* | *:[Gg][Aa][Tt][Ee][Ww][Aa][Yy]) ;;
  *) wait_for_memory ;;
  esac
  ;;
esac
exec reactantserver "$@"
