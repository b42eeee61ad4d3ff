# Sourced by the other scripts. `make_environment [EXTRA]` makes .venv with hfgen and the extra, or re-uses it.

make_environment() {
    local extra="${1:-}" python stamp
    stamp="$(cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1) $(pwd)"
    if ! { grep -qxF "$stamp" ".venv/installed-${extra:-base}"; } 2>/dev/null; then
        for python in python3 python3.13 python3.12 python3.11 python3.10; do
            "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null && break
            python=""
        done
        if [ -z "$python" ]; then
            echo "hfgen: error: Python 3.10 to 3.13 wasn't found; install it, then repeat" >&2
            return 2
        fi
        echo "installing hfgen${extra:+[$extra]} into .venv (once)"
        [ -x .venv/bin/python ] || "$python" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check \
            --constraint constraints.txt --editable ".${extra:+[$extra]}" || return
        echo "$stamp" > ".venv/installed-${extra:-base}"
    fi
    PATH="$(pwd)/.venv/bin:$PATH"
    export PATH
}
