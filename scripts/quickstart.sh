#!/usr/bin/env bash
# The main job on a fresh machine: .venv with the Space, then `hfgen quickstart` with this script's arguments.
set -euo pipefail
here="$(pwd)"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
make_environment space
# `hfgen quickstart` prints it at the end, so that the next lines find `hfgen`.
HFGEN_ACTIVATE="source .venv/bin/activate"
[ "$here" -ef "$(pwd)" ] || HFGEN_ACTIVATE="source $(printf '%q' "$(pwd)/.venv/bin/activate")"
export HFGEN_ACTIVATE
cd "$here"
exec hfgen quickstart "$@"
