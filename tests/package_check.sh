#!/bin/sh
# Build the wheel, install it without its dependencies' help into an empty environment, import it and ask for help.
# Usage: package_check.sh PYTHON, a python that has the build backend's front end, pip.
set -eu
python=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m pip wheel --quiet --no-deps --constraint constraints.txt --wheel-dir "$work" .
wheel=$(ls "$work"/*.whl)
"$python" -m zipfile --list "$wheel" | grep 'caviar/py.typed' >/dev/null || { echo "the wheel lacks py.typed" >&2; exit 1; }

"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --constraint constraints.txt "$wheel"
cd "$work"
"$work/venv/bin/python" -c "import caviar; print('imports caviar', caviar.__version__)"
"$work/venv/bin/caviar" --help >/dev/null
echo "package check passed: $(basename "$wheel")"
