#!/bin/sh
# setup.sh VENV TARGET: a virtual environment with TARGET at the versions of constraints.txt, and the offline model.
set -eu
venv=$1
target=$2
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup: found $("$python" --version 2>&1), need Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2
    exit 1
}
if [ ! -x "$venv/bin/pip" ]; then
    if ! "$python" -m venv "$venv" 2>/dev/null; then
        rm -rf "$venv"
        # Debian splits ensurepip into a package of its own.
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq && apt-get install -y -qq python3-venv
            "$python" -m venv "$venv"
        elif "$python" -m virtualenv --version >/dev/null 2>&1; then
            "$python" -m virtualenv "$venv"
        else
            echo "setup: $python cannot make virtual environments; run: sudo apt-get install python3-venv" >&2
            exit 1
        fi
    fi
fi
command -v bwrap >/dev/null 2>&1 ||
    echo "setup: bubblewrap is not installed: generated code will be parsed but never run (apt-get install bubblewrap)"
echo "setup: installing $target into $venv (a few minutes the first time)"
"$venv/bin/pip" install --quiet --no-compile --constraint constraints.txt torch==2.13.0 -e "$target"
"$venv/bin/python" -m infra.offline_model
