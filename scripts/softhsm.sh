#!/bin/sh
# Puts SoftHSM2, a token in software, into .venv/softhsm, for the tests of keys in hardware. Nothing is installed in
# the system and no root is needed. Where it cannot be had, those tests skip and say so: this script never fails.
set -u

cd "$(dirname "$0")/.." || exit 0
target=.venv/softhsm
seconds=60

say() {
    printf 'gatewatch: no SoftHSM2 (%s), so tests of PKCS #11 keys are skipped\n' "$1" >&2
    exit 0
}

is_there() {
    [ -x "$target/usr/bin/softhsm2-util" ] || command -v softhsm2-util >/dev/null 2>&1
}

# The machine's package lists may be missing or old; a second try takes lists of its own, kept in the same folder.
download() {
    (
        cd "$1" || exit 1
        timeout "$seconds" apt-get -qq download libsofthsm2 softhsm2 && exit 0
        mkdir -p lists/partial
        set -- -qq -o "Dir::State::lists=$PWD/lists" -o "Dir::Cache=$PWD/cache"
        timeout "$seconds" apt-get "$@" update && timeout "$seconds" apt-get "$@" download libsofthsm2 softhsm2
    ) >/dev/null 2>&1
}

main() {
    if is_there; then
        return
    fi
    for tool in apt-get dpkg timeout; do
        command -v "$tool" >/dev/null 2>&1 || say "$tool is missing; install softhsm2"
    done
    part=$(mktemp -d .venv/softhsm.XXXXXX) || say ".venv cannot be written"
    trap 'rm -rf "$part"' EXIT
    download "$part" || say "apt-get cannot fetch it; install softhsm2"
    for package in "$part"/*.deb; do
        dpkg -x "$package" "$part/root" >/dev/null 2>&1 || say "$package cannot be unpacked"
    done
    # Given its name last: killed before, nothing is there; killed after, all of it is.
    rm -rf "$target"
    mv "$part/root" "$target" || say "$target cannot be made"
}

main
