#!/bin/sh
# Puts a program that tests need into .venv/NAME, from Debian's packages. Nothing is installed in the system and no root
# is needed. Where it cannot be had, those tests skip and say so: this script never fails.
#
# debian_tool.sh NAME PROGRAM TESTS PACKAGE...
#     PROGRAM: its path below .venv/NAME; one of that name on PATH will do as well. TESTS: what is skipped without it.
#     PACKAGE...: the first is the one to install instead.
set -u

cd "$(dirname "$0")/.." || exit 0
name=$1
program=$2
tests=$3
shift 3
target=.venv/$name
seconds=60

say() {
    printf 'gatewatch: no %s (%s), so %s are skipped\n' "$name" "$1" "$tests" >&2
    exit 0
}

is_there() {
    [ -x "$target/$program" ] || command -v "$(basename "$program")" >/dev/null 2>&1
}

# The machine's package lists may be missing or old; a second try takes lists of its own, kept in the same folder.
download() {
    (
        cd "$part" || exit 1
        timeout "$seconds" apt-get -qq download "$@" && exit 0
        mkdir -p lists/partial
        lists="Dir::State::lists=$PWD/lists"
        cache="Dir::Cache=$PWD/cache"
        timeout "$seconds" apt-get -qq -o "$lists" -o "$cache" update &&
            timeout "$seconds" apt-get -qq -o "$lists" -o "$cache" download "$@"
    ) >/dev/null 2>&1
}

if is_there; then
    exit 0
fi
for tool in apt-get dpkg timeout; do
    command -v "$tool" >/dev/null 2>&1 || say "$tool is missing; install $1"
done
part=$(mktemp -d "$target.XXXXXX") || say ".venv cannot be written"
trap 'rm -rf "$part"' EXIT
download "$@" || say "apt-get cannot fetch it; install $1"
for package in "$part"/*.deb; do
    dpkg -x "$package" "$part/root" >/dev/null 2>&1 || say "$package cannot be unpacked"
done
# Given its name last: killed before, nothing is there; killed after, all of it is.
rm -rf "$target"
mv "$part/root" "$target" || say "$target cannot be made"
