#!/bin/sh
# Remakes the lock files from pyproject.toml with uv:
#
#   requirements/lock.sh             what pyproject.toml asks for now; pins that still fit stay
#   requirements/lock.sh --upgrade   the newest versions that fit
#
#   run.lock    the agent on a device
#   demo.lock   run and the extras `demo` and `http`: what `install.sh demo` needs
#   build.lock  what builds the project itself (and the one dependency that has no wheel)
#   extras/     what each extra adds to run.lock, for `install.sh install --with`
#   pip.lock    pip itself, for bundles: it installs where no pip is
#   test.lock   all of it and the test tools: what `install.sh test` needs
#
# Each is universal (every Python from 3.11 on, every architecture) and carries
# hashes. No package index is named: pip uses the one that the machine is set up for.
set -eu

find_uv() {
    if command -v uv; then
        return
    elif [ -x .venv/bin/uv ]; then
        echo .venv/bin/uv
    else
        echo 'lock.sh: uv is missing. Remedy: .venv/bin/python -m pip install uv' >&2
        return 1
    fi
}

# lock NAME UV-ARGUMENTS...
lock() {
    name=$1
    shift
    echo "requirements/$name.lock"
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-sources --custom-compile-command requirements/lock.sh \
        "$@" --output-file "requirements/$name.lock"
}

main() {
    case "$#:${1-}" in
    0:) upgrade= ;;
    1:--upgrade) upgrade=--upgrade ;;
    *)
        echo 'usage: requirements/lock.sh [--upgrade]' >&2
        exit 2
        ;;
    esac
    cd "$(dirname "$0")/.."
    uv=$(find_uv)
    extras=$(sed -n '/^\[project.optional-dependencies\]/,/^\[project.scripts\]/s/^\([a-z]*\) = .*/extras\/\1/p' pyproject.toml | grep -v extras/demo)
    mkdir -p requirements/extras
    # shellcheck disable=SC2086  # one option or none
    lock test $upgrade pyproject.toml --all-extras --group build --group test
    # The others begin as copies of test.lock: uv keeps the versions it finds and
    # drops what is not asked for, so that all four agree.
    for name in run demo build $extras; do
        cp requirements/test.lock "requirements/$name.lock"
    done
    lock run pyproject.toml
    lock demo pyproject.toml --extra demo --extra http
    lock build --group build
    lock pip --group pip
    for name in $extras; do
        lock "$name" pyproject.toml --extra "${name#extras/}"
    done
}

main "$@"
