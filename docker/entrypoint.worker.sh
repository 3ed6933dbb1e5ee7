#!/bin/sh
# Runs exactly one worker of the node file and no supervisor: REACTANT_NODE_FILE names the file,
# REACTANT_WORKER_NAME the worker (not needed when the file has one). Not the default entry point:
#
#   docker run --entrypoint tini … reactantserver -- entrypoint.worker.sh
set -eu
export REACTANT_NODE_FILE="${REACTANT_NODE_FILE:-/etc/reactantserver/node.yaml}"
exec reactantserver serve --role worker "$@"
