#!/usr/bin/env bash
# The main job on a fresh machine: .venv, then `hfgen quickstart` with this script's arguments.
set -euo pipefail
here="$(pwd)"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
make_environment
cd "$here"
exec hfgen quickstart "$@"
