#!/bin/sh
# Runs the tests: first those that each need little of the machine, side by side, then the ones that start real processes,
# one after another. Arguments go to pytest, such as -k audit. Usage: scripts/unit.sh [ARGUMENT ...]
set -u

cd "$(dirname "$0")/.." || exit 1
nothing_fits=5 # pytest's code where no test was chosen

run() {
    .venv/bin/python -m pytest "$@"
}

# Whether a code of pytest's is a failure.
is_bad() {
    [ "$1" -ne 0 ] && [ "$1" -ne "$nothing_fits" ]
}

main() {
    # By file, so that fixtures of a module are made once; each process takes up to a gigabyte where torch is loaded.
    run -n auto --maxprocesses 4 --dist loadfile --ignore tests/system "$@"
    side_by_side=$?
    run tests/system "$@"
    one_by_one=$?
    if is_bad "$side_by_side" || [ "$one_by_one" -eq "$nothing_fits" ]; then
        exit "$side_by_side"
    fi
    if is_bad "$one_by_one"; then
        exit "$one_by_one"
    fi
}

main "$@"
