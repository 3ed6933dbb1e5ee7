#!/bin/sh
# Runs exactly one worker of the node file and no supervisor: REACTANT_NODE_FILE names the file,
# REACTANT_WORKER_NAME the worker (not needed when the file has one, but the health check goes by it). The
# file needs a list of workers, which the image's own leaves to the supervisor. Not the default entry point:
#
#   docker run -e REACTANT_WORKER_NAME=worker0 -v ./node.yaml:/etc/reactantserver/node.yaml:ro \
#     --entrypoint tini … reactantserver -- entrypoint.worker.sh
set -eu
# As the supervisor has it: JavaScript heaps go by the container's memory, not by the machine's.
export DENO_USE_CGROUPS="${DENO_USE_CGROUPS:-1}"
export REACTANT_NODE_FILE="${REACTANT_NODE_FILE:-/etc/reactantserver/node.yaml}"
exec reactantserver serve --role worker "$@"
