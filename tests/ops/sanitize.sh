#!/usr/bin/env bash
# The kernels under the address and undefined-behaviour sanitizers, for short and long vectors: tests/ops/sanitize.sh
set -euo pipefail
cd "$(dirname "$0")"
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
for bytes in ${1:-16 64}; do
  ${CXX:-g++} -std=c++17 -O1 -g1 -fopenmp -Wno-psabi -fsanitize=address,undefined -fno-sanitize-recover=all -fno-sanitize=float-cast-overflow \
    -DISA=attnviz_sanitized -DVECTOR_BYTES="$bytes" -DMICRO_ROWS=3 -I ../../attnviz/ops/csrc sanitize.cpp -o "$build/check"
  ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=3 "$build/check"
done
