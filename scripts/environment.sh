# Sourced by the other scripts. `make_environment [EXTRA]` makes .venv with hfgen and the extra, or re-uses it.

make_environment() {
    local extra="${1:-}" stamp
    stamp="$(_stamp)"
    if ! { grep -qxF "$stamp" ".venv/installed-${extra:-base}" && _supported .venv/bin/python; } 2> /dev/null; then
        _make_venv || return
        echo "installing hfgen${extra:+[$extra]} into .venv (once; several minutes)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
            --config-settings editable_mode=compat --editable ".${extra:+[$extra]}" > .venv/install.log 2>&1 || { _explain_failure; return 2; }
        echo "$stamp" > ".venv/installed-${extra:-base}"
    fi
    PATH="$(pwd)/.venv/bin:$PATH"
    export PATH
}

# What an installation depends on. (`compat`: a path instead of an import hook. After the hook, `import hfgen` in the
# folder above the checkout would find the checkout itself, as an empty namespace package.)
_stamp() {
    echo "$({ cat pyproject.toml constraints.txt; grep -F __version__ hfgen/__init__.py; } | cksum) $(pwd)"
}

# The lowest Python 3.x that is supported, and the first that isn't.
_versions() {
    sed -n 's/^requires-python = ">=3\.\([0-9]*\),<3\.\([0-9]*\)"$/\1 \2/p' pyproject.toml
}

# Whether a Python runs, is of a supported version, and can import the modules that are named.
_supported() {
    local python="$1" lowest above
    shift
    read -r lowest above <<< "$(_versions)"
    "$python" - "$lowest" "$above" "$@" 2> /dev/null <<< '
import importlib, sys
sys.exit(not (3, int(sys.argv[1])) <= sys.version_info[:2] < (3, int(sys.argv[2])) or
         not all(map(importlib.import_module, sys.argv[3:])))'
}

_make_venv() {
    local lowest above minor python with_venv="" without_venv="" names="python3"
    if _supported .venv/bin/python pip; then
        return
    fi
    read -r lowest above <<< "$(_versions)"
    for ((minor = above - 1; minor >= lowest; minor--)); do names="$names python3.$minor"; done
    for python in $names; do
        if _supported "$python" venv ensurepip; then with_venv="$python"; break; fi
        if [ -z "$without_venv" ] && _supported "$python"; then without_venv="$python"; fi
    done
    if [ -z "$with_venv" ] && [ -n "$without_venv" ]; then
        python="$("$without_venv" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')"
        echo "hfgen: error: $python can't make environments (it has no venv or no ensurepip);" \
            "on Debian and Ubuntu: apt-get install $python-venv" >&2
        return 2
    elif [ -z "$with_venv" ]; then
        echo "hfgen: error: no Python from 3.$lowest to 3.$((above - 1)) was found" \
            "(python3 is $(python3 --version 2> /dev/null || echo missing)); install one, then repeat" >&2
        return 2
    fi
    if [ -e .venv ]; then
        echo "making .venv anew: its Python is unsupported, or it isn't complete"
        rm -rf .venv
    fi
    if ! "$with_venv" -m venv .venv > /dev/null 2>&1; then
        echo "hfgen: error: $with_venv can't make $(pwd)/.venv; is the folder writable, and is there space?" >&2
        rm -rf .venv
        return 2
    fi
}

# One line about a failed installation; .venv/install.log has the rest.
_explain_failure() {
    local log=.venv/install.log reason
    if grep -qE "NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|from versions: none" "$log"; then
        reason="the package index can't be reached; check the network, then repeat"
    elif grep -qi "No space left" "$log"; then
        reason="the disk is full; free some space, then repeat"
    else
        reason="$(grep -E "^ *ERROR: " "$log" | head -n 1)"
    fi
    echo "hfgen: error: the installation failed: ${reason:-it was stopped} ($(pwd)/$log)" >&2
}
