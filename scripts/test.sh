#!/usr/bin/env bash
# Lint, format, types and tests on a fresh machine. Arguments go to pytest; `-m slow` runs the long studies.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
# The Space is tested in Debian's Chromium. Where there is none, those tests are skipped, which is said here and there.
browser() { command -v chromium chromium-browser google-chrome > /dev/null; }
if ! browser && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    echo "installing chromium (once), beside what follows"
    { timeout 120 apt-get update && timeout 300 apt-get install --yes --no-install-recommends chromium; } \
        > /dev/null 2>&1 &
    # A package is never left half installed.
    trap wait EXIT
fi
make_environment test
ruff check .
ruff format --check .
mypy
wait
browser || echo "NOT TESTED IN A BROWSER: no chromium; apt-get install chromium" >&2
# Two workers of one thread each: faster on tiny models than threads that wait for each other.
export OMP_NUM_THREADS=1
[ "$#" -gt 0 ] || set -- -m "not slow"
exec pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"
