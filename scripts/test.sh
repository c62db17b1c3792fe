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

failed=()
check() {  # LABEL COMMAND...: run it; a failure is remembered, so that one run shows all there is to do
  local label=$1
  shift
  say "$label"
  "$@" || failed+=("$label")
}
parse_scripts() { local script; for script in scripts/*.sh .ci/run; do bash -n "$script" || return; done; }

if (($#)) && [[ $1 != --lint ]]; then run_pytest "$@"; exit; fi
check ruff ruff check .
check mypy mypy
check 'text files' python scripts/check_files.py
check 'shell scripts' parse_scripts
if [[ ${1:-} != --lint ]]; then check pytest run_pytest; fi
if ((${#failed[@]})); then say "failed: ${failed[*]}"; exit 1; fi
