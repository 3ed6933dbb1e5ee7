#!/bin/sh
# keep-libraries.sh FOLDER: leaves, of Python packages installed in FOLDER, the shared libraries, the GPU
# compiler's programs and bitcode, and the licences; headers, static archives and Python code go.
set -eu
find "$1" -type f \
  ! -name '*.so' ! -name '*.so.*' ! -name '*.bc' \
  ! -name ptxas ! -name nvlink ! -name fatbinary \
  ! -iname '*licen[cs]e*' ! -iname 'eula*' -delete
find "$1" -type d -empty -delete
