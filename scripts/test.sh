#!/usr/bin/env bash
# Lint, types and tests.      scripts/test.sh [--lint | pytest arguments...]
# --lint: no tests. With pytest arguments, only these tests:  scripts/test.sh test/test_camera.py -k distort
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh
say() { echo "[test] $*" >&2; }

run_pytest() {  # the per-test limit is in test/conftest.py; this one is for a process that hangs at its end
  timeout --foreground --kill-after 20 1200 python -m pytest "$@"
}

if (($#)) && [[ $1 != --lint ]]; then run_pytest "$@"; exit; fi
say 'ruff'
ruff check .
say 'mypy'
mypy
say 'text files and shell scripts'
python scripts/check_files.py
for script in scripts/*.sh .ci/run; do bash -n "$script"; done
if [[ ${1:-} == --lint ]]; then exit; fi
say 'pytest'
run_pytest
