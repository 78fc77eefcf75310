#!/bin/sh
# Runs the tests: first those that each need little of the machine, side by side, then the ones that start real processes,
# one after another. Arguments go to pytest, such as -k audit. Usage: scripts/unit.sh [ARGUMENT ...]
set -u

cd "$(dirname "$0")/.." || exit 1
nothing_fits=5 # pytest's code where no test was chosen

run() {
    .venv/bin/python -m pytest "$@"
}

main() {
    # By file, so that fixtures of a module are made once; each process takes up to a gigabyte where torch is loaded.
    run -n auto --maxprocesses 4 --dist loadfile --ignore tests/system "$@"
    side_by_side=$?
    [ "$side_by_side" -eq 0 ] || [ "$side_by_side" -eq "$nothing_fits" ] || exit "$side_by_side"
    run tests/system "$@"
    one_by_one=$?
    if [ "$one_by_one" -eq "$nothing_fits" ]; then
        exit "$side_by_side"
    fi
    exit "$one_by_one"
}

main "$@"
