#!/bin/sh
# Serves the bundles of /models; flags and other commands are passed on: `--log-format json`,
# `bundle validate /models/mine`, ...
set -eu
cd "$(dirname -- "$0")/.."
exec ./scripts/deno run -A --no-prompt main.ts "$@"
