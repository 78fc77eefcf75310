#!/bin/sh
# Puts oidc-provider, an OpenID provider for Node.js, into .venv/oidc-provider, for the tests that fetch real keys and
# tokens. Nothing is installed in the system. Where it cannot be had, those tests skip and say so: this never fails.
set -u

cd "$(dirname "$0")/.." || exit 0
source=tests/system/oidc_provider
target=.venv/oidc-provider
seconds=120

say() {
    printf 'gatewatch: no OpenID provider (%s), so tests against a real one are skipped\n' "$1" >&2
    exit 0
}

is_there() {
    cmp -s "$source/package-lock.json" "$target/package-lock.json"
}

main() {
    if is_there; then
        return
    fi
    for tool in node npm timeout; do
        command -v "$tool" >/dev/null 2>&1 || say "$tool is missing; install Node.js 20 or newer"
    done
    part=$(mktemp -d .venv/oidc-provider.XXXXXX) || say ".venv cannot be written"
    trap 'rm -rf "$part"' EXIT
    cp "$source/package.json" "$source/package-lock.json" "$part" || say "$part cannot be written"
    # The lock file pins every package by its hash; none may run a script of its own.
    (cd "$part" && timeout "$seconds" npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier) \
        >/dev/null 2>&1 || say "npm cannot fetch it; check its registry"
    # Given its name last: killed before, nothing is there; killed after, all of it is.
    rm -rf "$target"
    mv "$part" "$target" || say "$target cannot be made"
}

main
