#!/bin/sh
# Installs Outstation on this device, or shows it (`demo`) or tests it (`test`) in this checkout.
# `./install.sh help` says more. What is for devices alone lies in deploy/.
#
# Nothing runs before the last line, so a truncated copy of this file does nothing.
set -eu

usage() {
    cat <<'END'
usage: ./install.sh [COMMAND]

On a device, as root:
  install             (or no command) install Outstation as a service: its releases below
                      /opt/outstation, its configuration in /etc/outstation, its buffer in
                      /var/lib/outstation. Run again, it changes nothing.
      --config FILE     the first configuration; one that is there is never overwritten
      --with EXTRAS     more than serial, MQTT and simulated sensors: ble,http,...
      --offline DIR     take the packages from this folder (a bundle brings its own)
      --dry-run         only say what would be done
  upgrade             build this release beside the one that runs, try it on a copy of the
                      buffer, change over, and go back if it does not do its work. Takes
                      --with, --offline and --dry-run.
  uninstall           remove it; --purge removes buffer and configuration as well.

On any machine:
  bundle --arch ARCH [--python 3.11] [--with EXTRAS] [FOLDER]
                      gather all that a device without internet needs: aarch64, armv7l
                      or x86_64. Copy the folder there; its install.sh takes it from there.
  flash ...           (as root) write a card, or an image of one, whose device installs itself at
                      its first boot, without internet, and collects: flash --help
  demo [ARGUMENTS]    set up this checkout and run the demonstration. Needs no root,
                      no server and no configuration; ARGUMENTS go to `outstation demo`.
  test [--everyday]   set up this checkout with the test tools, then run every check and
                      all tests. Debian packages that are missing are installed when
                      run as root, else named. --everyday leaves the slow tests out.
  --version           print the version of this checkout or bundle
  help                print this

demo and test set up a virtual environment in .venv, from locked packages with verified
hashes, and skip what is already there. OUTSTATION_PYTHON=/path/to/python chooses the
interpreter (3.11 to 3.13); otherwise the newest that fits on PATH is taken.
END
}

# What `test` needs from Debian: the program or file that shows that it is there, its package.
debian_packages() {
    cat <<'END'
mosquitto       mosquitto
mosquitto_pub   mosquitto-clients
pg_ctlcluster   postgresql
shellcheck      shellcheck
faketime        faketime
dbus-daemon     dbus-daemon
qemu-system-x86_64      qemu-system-x86
qemu-aarch64-static     qemu-user-static
/usr/lib/x86_64-linux-gnu/libdw.so.1            libdw1
/usr/lib/x86_64-linux-gnu/libasound.so.2        libasound2
/usr/lib/x86_64-linux-gnu/libglib-2.0.so.0      libglib2.0-0
/usr/lib/x86_64-linux-gnu/libdbus-1.so.3        libdbus-1-3
/usr/lib/x86_64-linux-gnu/libfuse3.so.3         libfuse3-3
/sbin/mke2fs    e2fsprogs
/sbin/losetup   mount
systemd-nspawn  systemd-container
mmdebstrap      mmdebstrap
/usr/sbin/sfdisk                fdisk
/usr/sbin/mkfs.vfat             dosfstools
mcopy           mtools
avr-gcc         gcc-avr
cc              gcc
make            make
/usr/include/stdio.h            libc6-dev
/usr/include/simavr/sim_avr.h   libsimavr-dev
/usr/lib/avr/include/avr/io.h   avr-libc
END
}

# --- Telling -----------------------------------------------------------------

say() {
    printf 'install.sh: %s\n' "$*"
}

# Ends the script: what is wrong, then a line for each remedy.
die() {
    printf 'install.sh: error: %s\n' "$1" >&2
    shift
    for line in "$@"; do
        printf '    %s\n' "$line" >&2
    done
    exit 1
}

now() {
    date +%s
}

# Sets clock_trouble if what failed may have failed because of the clock: with a wrong one no certificate is valid.
clock_trouble=
note_wrong_clock() {
    if grep -qi 'CERTIFICATE_VERIFY_FAILED\|not yet valid\|certificate has expired' "$1"; then
        clock_trouble="A certificate was refused, and the clock says $(date '+%Y-%m-%d %H:%M'): if that is wrong, set it (sudo date -s 2026-12-31), or wait until it is synchronised."
    fi
}

# quietly WHAT COMMAND...: one line and its duration; the output only if it fails.
quietly() {
    what=$1
    shift
    printf 'install.sh: %s ... ' "$what"
    began=$(now)
    log=$(mktemp)
    trap 'rm -f "$log"; exit 130' INT HUP
    if "$@" </dev/null >"$log" 2>&1; then
        printf '%s s\n' "$(($(now) - began))"
        rm -f "$log"
    else
        status=$?
        printf 'failed (exit status %s)\n' "$status"
        cat "$log" >&2
        note_wrong_clock "$log"
        rm -f "$log"
        trap 'exit 130' INT HUP
        return 1
    fi
    trap 'exit 130' INT HUP
}

# --- Python ------------------------------------------------------------------

# Prints `X.Y.Z venv|no-venv /path/to/interpreter` for the given interpreter; nothing
# if it does not run (a pyenv shim without its version, for one). Says the
# interpreter behind a virtual environment, since that one outlives ours.
describe_python() {
    "$1" -c '
import sys
try:
    from importlib.util import find_spec
    venv = find_spec("venv") and find_spec("ensurepip")
except ImportError:
    venv = None
path = getattr(sys, "_base_executable", None) or sys.executable
print("%d.%d.%d %s %s" % (sys.version_info[:3] + ("venv" if venv else "no-venv", path)))
' 2>/dev/null </dev/null || true
}

# Sets python, python_version to the first interpreter that fits. If none does, sets
# python_problem and python_package (which Debian package would help) and fails.
find_python() {
    python_problem=
    python_package='python3 python3-venv'
    seen=
    if [ -n "${OUTSTATION_PYTHON-}" ]; then
        set -- "$OUTSTATION_PYTHON"
    else
        set -- python3.13 python3.12 python3.11 python3
    fi
    for name in "$@"; do
        found=$(describe_python "$name")
        [ -n "$found" ] || continue
        version=${found%% *}
        path=${found#* * }
        case $found in
        3.11.*' venv '* | 3.12.*' venv '* | 3.13.*' venv '*)
            python=$path
            python_version=$version
            return
            ;;
        3.11.* | 3.12.* | 3.13.*)
            if [ -z "$python_problem" ]; then
                python_problem="Python $version ($path) has no venv and ensurepip modules; Debian packs them apart."
                python_package=$(venv_package "$version")
            fi
            ;;
        *) seen="${seen:+$seen,} $name is $version" ;;
        esac
    done
    : "${python_problem:=Python 3.11, 3.12 or 3.13 is needed;${seen:- none was found}.}"
    return 1
}

# python3-venv belongs to Debian's own python3; any other version has its own package.
venv_package() {
    default=$(describe_python python3)
    case $default in
    "$1 "*) echo python3-venv ;;
    *) echo "python${1%.*}-venv" ;;
    esac
}

require_python() {
    find_python || die "$python_problem" \
        "Remedy on Debian 12 or later, Raspberry Pi OS or Ubuntu 24.04:" \
        "    sudo apt-get update && sudo apt-get install $python_package" \
        'Or name an interpreter: OUTSTATION_PYTHON=/path/to/python3 ./install.sh ...'
}

# Where pip comes with a bundle, Debian's python3-venv is not needed.
require_python_without_venv() {
    find_python && return
    for name in ${OUTSTATION_PYTHON-python3.13 python3.12 python3.11 python3}; do
        found=$(describe_python "$name")
        case $found in
        3.11.* | 3.12.* | 3.13.*)
            python=${found#* * }
            python_version=${found%% *}
            return
            ;;
        esac
    done
    require_python
}

# --- The virtual environment -------------------------------------------------

# Whether $venv works, was made where it now is, and holds pip for the Python that it
# runs. It does not if Python was upgraded underneath, the checkout was moved, or
# another interpreter is asked for.
venv_fits() {
    [ -x "$venv/bin/python" ] && [ -f "$venv/bin/pip" ] && runs_wanted_python &&
        grep -qF "$venv/bin/python" "$venv/bin/pip" &&
        venv_version=$("$venv/bin/python" -I -c '
import os, sys
from importlib.util import find_spec
sys.exit(1) if not (3, 11) <= sys.version_info[:2] <= (3, 13) else None
sys.exit(1) if not os.path.samefile(sys.prefix, sys.argv[1]) or not find_spec("pip") else None
print("%d.%d.%d" % sys.version_info[:3])
' "$venv" 2>/dev/null </dev/null)
}

runs_wanted_python() {
    [ -z "${OUTSTATION_PYTHON-}" ] ||
        { find_python && [ "$(readlink -f "$venv/bin/python")" = "$(readlink -f "$python")" ]; }
}

# Takes the environment that is there if it fits; makes one otherwise.
make_venv() {
    if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(find "$venv" ! -type d | head -n 1)" ]; then
        die "$venv is not a virtual environment, so it is left alone." "Remedy: move it away."
    fi
    if [ "$(cat "$stamp" 2>/dev/null)" = "$unfinished" ]; then
        why='the last set-up of .venv was interrupted'
    elif venv_fits; then
        return
    else
        why='.venv was made by another Python or in another folder'
    fi
    require_python
    if [ -e "$venv" ]; then
        say "$why; making it anew"
    fi
    quietly "making a virtual environment in .venv with Python $python_version ($python)" \
        "$python" -m venv --clear "$venv" ||
        die "no virtual environment could be made in $venv."
    venv_version=$python_version
}

# Settings of the caller's that would send packages elsewhere or import from elsewhere.
# Those that choose a package index stay: they are the machine's business.
clean_environment() {
    unset PYTHONHOME PYTHONPATH PYTHONSTARTUP VIRTUAL_ENV
    unset PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIRE_HASHES PIP_NO_BINARY PIP_ONLY_BINARY PIP_REQUIREMENT
}

pip() {
    "$venv/bin/python" -m pip --quiet --disable-pip-version-check --no-input "$@"
}

# Wheels only, so that installing runs nobody's code. The exceptions have no wheel; they are
# built with the setuptools of build.lock.
pip_locked() {
    pip install --require-hashes --only-binary :all: --no-binary forbiddenfruit,pyric \
        --no-build-isolation --use-pep517 "$@"
}

pip_project() {
    pip install --no-index --no-deps --no-build-isolation --editable "$root"
}

# set_up demo|test: makes .venv hold requirements/$1.lock and the project.
#
# The stamp in .venv says what it holds: the set, the checksum of all that decides it
# and the Python. It says `unfinished` while packages are being installed, so that a
# half-installed environment is never taken for a whole one.
set_up() {
    stamp=$venv/outstation-installed
    unfinished=unfinished
    checksum=$(cat "$root"/requirements/*.lock "$root/pyproject.toml" | sha256sum)
    checksum=${checksum%% *}
    make_venv
    # What `test` installs includes what `demo` needs.
    case $(cat "$stamp" 2>/dev/null) in
    "$1 $checksum $venv_version" | "test $checksum $venv_version")
        say "set up already (.venv, Python $venv_version)"
        return
        ;;
    esac
    echo "$unfinished" >"$stamp"
    quietly 'installing the build tools' pip_locked -r "$root/requirements/build.lock" || install_failed
    quietly "installing the packages of requirements/$1.lock" \
        pip_locked -r "$root/requirements/$1.lock" || install_failed
    quietly 'installing outstation' pip_project || install_failed
    echo "$1 $checksum $venv_version" >"$stamp"
}

install_failed() {
    rm -f "$stamp"
    die 'the packages could not be installed; pip says why above.' \
        ${clock_trouble:+"$clock_trouble"} \
        'If it cannot reach its package index: set up pip for this network (pip.conf, PIP_INDEX_URL or https_proxy).' \
        'Then run the same command again: it goes on where it stopped.'
}

# --- test --------------------------------------------------------------------

# Sets missing to the Debian packages that are not there.
find_missing_packages() {
    missing=$(debian_packages | while read -r shown package; do
        command -v "$shown" >/dev/null || [ -f "$shown" ] || printf '%s ' "$package"
    done)
    missing=${missing% }
    if ! { venv_fits || find_python; }; then
        missing="${missing:+$missing }$python_package"
    fi
}

require_packages() {
    find_missing_packages
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        die "the tests need programs that are not here: $missing." \
            "Remedy: sudo apt-get update && sudo apt-get install --no-install-recommends $missing"
    fi
    command -v apt-get >/dev/null ||
        die "the tests need programs that are not here, and there is no apt-get to install them: $missing."
    quietly 'reading the list of Debian packages' apt-get update -q ||
        say 'going on with the list that is here'
    # shellcheck disable=SC2086  # a list
    quietly "installing $missing" \
        env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing ||
        die 'the Debian packages could not be installed; apt-get says why above.'
    # Debian starts the broker on port 1883 and the database on 5432. The tests start their own.
    for service in mosquitto postgresql; do
        case " $missing " in
        *" $service "*)
            if [ -d /run/systemd/system ]; then
                quietly "switching off the service that came with $service" systemctl disable --now "$service" || true
            fi
            ;;
        esac
    done
}

shell_scripts() {
    echo install.sh
    echo .ci/run
    find . -name '.[!.]*' -prune -o -type f -name '*.sh' ! -path ./install.sh -print | sort
}

check_shell() {
    # shellcheck disable=SC2046  # none of our own file names holds a space
    shellcheck $(shell_scripts)
}

# check WHAT COMMAND...: runs it whatever came before; keeps what failed for the end.
check() {
    what=$1
    shift
    printf '\n== %s\n' "$what"
    began=$(now)
    if "$@" </dev/null; then
        verdict=passed
    else
        verdict="FAILED (exit status $?)"
        failed="$failed
    $what"
    fi
    printf '== %s: %s, %s s\n' "$what" "$verdict" "$(($(now) - began))"
}

run_checks() {
    failed=
    started=$(now)
    python=$venv/bin/python
    check 'shell scripts (shellcheck)' check_shell
    check 'lint (ruff check)' "$python" -m ruff check .
    check 'format (ruff format)' "$python" -m ruff format --check .
    check 'types (mypy)' "$python" -m mypy
    check 'architecture (import-linter)' "$venv/bin/lint-imports"
    # Each file stays in one process: its tests may share a broker.
    # A third process fills the time in which the others wait for programs; `tests/conftest.py` says in which order.
    check 'everyday tests (pytest)' "$python" -m pytest -m 'not slow' -n 3 --dist loadfile --no-loadscope-reorder
    if [ "$1" = all ]; then
        check 'slow tests (pytest)' "$python" -m pytest -m slow
    fi
    echo
    if [ -n "$failed" ]; then
        die "failed after $(($(now) - started)) s:$failed"
    fi
    say "everything passed, $(($(now) - started)) s"
}

# --- What a checkout and a bundle say of themselves ----------------------------

project_version() {
    sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml" | head -n 1
}

# The same extras are the same release, in whatever order they are named.
sort_extras() {
    with=$(echo "$with" | tr -s ', ' '\n' | sed '/^$/d' | LC_ALL=C sort -u | tr '\n' ',')
    with=${with%,}
}

# Dies unless each of the extras in $with has a lock file.
check_extras() {
    for extra in $(echo "$with" | tr ',' ' '); do
        [ -f "$root/requirements/extras/$extra.lock" ] ||
            die "--with $extra: there is no such extra." "There are: $(extras_there)"
    done
}

extras_there() {
    for file in "$root"/requirements/extras/*.lock; do
        basename "$file" .lock
    done | tr '\n' ' '
}

# A bundle is used only as it was made.
check_bundle() {
    [ -f "$root/SHA256SUMS" ] || return 0
    (cd "$root" && sha256sum --quiet -c SHA256SUMS) >&2 ||
        die 'this bundle was changed or damaged; what differs stands above.' 'Remedy: copy it again.'
}

# --- Commands ----------------------------------------------------------------

command_demo() {
    set_up demo
    exec "$venv/bin/outstation" demo "$@"
}

command_test() {
    case "$#:${1-}" in
    0:) extent=all ;;
    1:--everyday) extent=everyday ;;
    *) refuse_usage "test takes --everyday or nothing, not: $*" ;;
    esac
    # Debian keeps servers out of other users' PATH.
    PATH=$PATH:/usr/sbin:/sbin
    require_packages
    set_up test
    PATH=$venv/bin:$PATH
    export PATH
    cd "$root"
    run_checks "$extent"
}

refuse_usage() {
    printf 'install.sh: error: %s\n\n' "$1" >&2
    usage >&2
    exit 2
}

main() {
    root=$(cd "$(dirname "$0")" && pwd -P)
    venv=$root/.venv
    [ -f "$root/requirements/run.lock" ] ||
        die 'this script belongs to a checkout of Outstation, which is not here.' \
            'Remedy: clone the repository and run ./install.sh in it.'
    clean_environment
    with=
    case ${1-} in
    '' | --dry-run | --config | --with | --offline) command=install ;;
    *)
        command=$1
        shift
        ;;
    esac
    case $command in
    demo) command_demo "$@" ;;
    test) command_test "$@" ;;
    bundle)
        # shellcheck source=/dev/null
        . "$root/deploy/bundle.sh"
        command_bundle "$@"
        ;;
    install | upgrade | settle | uninstall)
        # shellcheck source=/dev/null
        . "$root/deploy/device.sh"
        "command_$command" "$@"
        ;;
    first-boot)
        # shellcheck source=/dev/null
        . "$root/deploy/device.sh"
        command_first_boot
        ;;
    flash)
        # shellcheck source=/dev/null
        . "$root/deploy/device.sh"
        # shellcheck source=/dev/null
        . "$root/deploy/flash.sh"
        command_flash "$@"
        ;;
    --version) echo "outstation $(project_version)" ;;
    help | -h | --help) usage ;;
    *) refuse_usage "unknown command: $command" ;;
    esac
}

main "$@"
