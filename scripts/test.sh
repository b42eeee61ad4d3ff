#!/usr/bin/env bash
# Lint, format, types and tests on a fresh machine. Arguments go to pytest; `-m slow` runs the long studies.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
make_environment test
ruff check .
ruff format --check .
mypy
[ "$#" -gt 0 ] || set -- -m "not slow"
exec pytest "$@"
