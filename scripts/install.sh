#!/bin/sh
# Makes .venv and installs Gatewatch with the extras given as arguments, at the versions of constraints.txt.
# A second call with nothing changed does nothing. Usage: scripts/install.sh reports [seal] [postgres] [dev]
set -eu

cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

die() {
    printf 'gatewatch: %s\n' "$1" >&2
    exit 1
}

check_python() {
    command -v "$python" >/dev/null 2>&1 ||
        die "no $python here: install Python 3.11 or newer (Debian: apt install python3 python3-venv), or set PYTHON"
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' ||
        die "$python is $("$python" -V 2>&1): Gatewatch needs Python 3.11 to 3.14; set PYTHON to one"
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        die "$python has no venv module: install it (Debian: apt install python3-venv)"
}

# The set is known by what was asked for and by the two files that define it.
wanted() {
    printf '%s\n' "$@" | sort
    cat pyproject.toml constraints.txt
}

# What an earlier call installed stays, so that make run after make test keeps what the tests need.
merge_with_installed() {
    if [ -f .venv/gatewatch-extras ]; then
        cat .venv/gatewatch-extras
    fi
    printf '%s\n' "$@"
}

is_cpu_only() {
    ! command -v nvidia-smi >/dev/null 2>&1
}

# The ordinary build of torch brings gigabytes of CUDA libraries, so without a GPU the CPU build is tried first: from
# the index named in GATEWATCH_TORCH_INDEX, or by uv, which knows PyTorch's own. Where neither answers, what pip finds
# is taken as it stands: it runs on CPUs too. Ultralytics needs torchvision, and so the pair of one index.
install_torch() {
    version=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' constraints.txt)
    vision=$(sed -n 's/^torchvision==\([0-9.]*\).*/\1/p' constraints.txt)
    if .venv/bin/python -c 'import torch' 2>/dev/null; then
        return
    fi
    if is_cpu_only && install_cpu_torch "torch==$version" "torchvision==$vision" 2>/dev/null; then
        return
    fi
    .venv/bin/pip install -qq --no-compile -c constraints.txt "torch==$version"
}

# -qq: pip's warnings (a cache folder that cannot be written, a newer pip) mend nothing here; its errors still show.
install_cpu_torch() {
    if [ -n "${GATEWATCH_TORCH_INDEX:-}" ]; then
        .venv/bin/pip install -qq --no-deps --index-url "$GATEWATCH_TORCH_INDEX" "$@"
    elif command -v uv >/dev/null 2>&1; then
        UV_HTTP_TIMEOUT=10 uv pip install -q --python .venv/bin/python --no-deps --torch-backend cpu "$@"
    else
        return 1
    fi
}

install_all() {
    with_dev=
    list=
    for name in "$@"; do
        if [ "$name" = dev ]; then with_dev=yes; else list="$list,$name"; fi
    done
    target=".[${list#,}]"
    case "$list," in *,seal,*) install_torch ;; esac
    if [ -n "$with_dev" ]; then
        dev=$(.venv/bin/python -c '
import tomllib
print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"]))')
        printf '%s\n' "$dev" >.venv/dev-requirements.txt
        set -- -r .venv/dev-requirements.txt
    else
        set --
    fi
    if command -v uv >/dev/null 2>&1; then
        uv pip install -q --python .venv/bin/python -c constraints.txt "$@" -e "$target"
    else
        .venv/bin/pip install -qq --no-compile --disable-pip-version-check -c constraints.txt "$@" -e "$target"
    fi
}

main() {
    extras=$(merge_with_installed "$@" | sort -u)
    # shellcheck disable=SC2086  # the words of $extras are separate arguments
    stamp=$(wanted $extras | cksum)
    if [ -x .venv/bin/gateway ] && [ "$(cat .venv/gatewatch-stamp 2>/dev/null)" = "$stamp" ]; then
        return
    fi
    check_python
    if [ ! -x .venv/bin/pip ]; then
        "$python" -m venv .venv || die "could not make .venv (Debian: apt install python3-venv)"
    fi
    printf 'gatewatch: installing (%s) into .venv ...\n' "$(echo $extras)" >&2
    # shellcheck disable=SC2086
    install_all $extras || die "installing failed: see the lines above; is the package index reachable?"
    printf '%s\n' $extras >.venv/gatewatch-extras
    printf '%s\n' "$stamp" >.venv/gatewatch-stamp
}

main "$@"
