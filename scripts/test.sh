#!/usr/bin/env bash
# Lint, format, types and tests on a fresh machine. Arguments go to pytest; `-m slow` runs the long studies.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
make_environment test
ruff check .
ruff format --check .
mypy
# Two workers of one thread each: faster on tiny models than threads that wait for each other.
export OMP_NUM_THREADS=1
[ "$#" -gt 0 ] || set -- -m "not slow"
exec pytest --numprocesses 2 --dist loadfile "$@"
