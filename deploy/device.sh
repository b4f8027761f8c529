# shellcheck shell=sh
# shellcheck disable=SC2154  # install.sh, which sources this, sets root, python and the like
# The commands for a device: install, upgrade, settle, uninstall. Sourced by install.sh, whose functions it uses.
#
#   /opt/outstation/releases/RELEASE/    a release: its environment, this script, its unit; `complete` is written last
#   /opt/outstation/current              a link to the release that runs
#   /opt/outstation/pending              there while an upgrade is not settled: the release before it
#   /opt/outstation/pending.before       how that did
#   /etc/outstation/                     configuration, and secrets/ for passwords and keys
#   /var/lib/outstation/                 the buffer
#
# Whatever is cut short, at whatever moment, leaves a device that runs one whole release: a release is built apart and counts
# when its `complete` is on the disk; the link changes in one rename; and what was changed over to is settled (found to do its
# work, or left again) by whoever comes first, this script or, after a power cut, outstation-settle.service.

prefix=/opt/outstation
releases=$prefix/releases
current=$prefix/current
pending=$prefix/pending
# How the release before did: three reports, some seconds apart.
did_before=$prefix/pending.before
configuration=/etc/outstation/outstation.toml
secrets=/etc/outstation/secrets
state=/var/lib/outstation
# Links of ours lie where systemctl disable leaves them alone; what is started at boot is the administrator's.
units=/usr/local/lib/systemd/system
administrators_units=/etc/systemd/system
wanted=$administrators_units/multi-user.target.wants
rules=/etc/udev/rules.d/60-outstation.rules
command_link=/usr/local/bin/outstation
lock=/run/lock/outstation-install.lock

# So long settling waits for an install.sh that is still ending.
SETTLE_WAITS_S=30
# Between two reports of how the release before does.
SAMPLED_S=${OUTSTATION_TEST_SAMPLED_S:-3}

# shellcheck source=/dev/null
. "$root/deploy/preflight.sh"
# shellcheck source=/dev/null
. "$root/deploy/settling.sh"

# --- Steps -------------------------------------------------------------------

install_steps='preflight release user configuration rules units current start doctor'
upgrade_steps='preflight release user self_test pending current rules units restart settle tidy'

describe_step() {
    case $1 in
    preflight) echo 'looking at this machine' ;;
    release) echo "building release $release in $releases" ;;
    user) echo "making the system user outstation, $state and $secrets" ;;
    configuration) echo "putting a first configuration into $configuration" ;;
    rules) echo 'telling udev about serial adapters' ;;
    units) echo 'telling systemd about the service' ;;
    current) echo "making $release the current release" ;;
    start) echo 'starting the service, and at every boot from now on' ;;
    doctor) echo 'looking at everything that the agent needs' ;;
    self_test) echo 'letting the new release try itself on a copy of the buffer' ;;
    pending) echo "noting that $release is to be settled" ;;
    restart) echo 'restarting the service with it' ;;
    settle) echo 'seeing whether it does its work' ;;
    tidy) echo 'removing releases that nobody goes back to' ;;
    esac
}

# run_steps NAME...: each in its turn. All of them may be run again at any time.
run_steps() {
    total=$#
    number=0
    for name in "$@"; do
        number=$((number + 1))
        say "[$number/$total] $(describe_step "$name")"
        if [ -n "$dry_run" ]; then
            foresee "$name"
            continue
        fi
        # A seam for the tests, which kill this script before each step.
        [ "${OUTSTATION_TEST_KILL-}" != "$name" ] || kill -9 $$
        "step_$name"
        # What the next step builds on must not be undone by a power cut.
        sync_disk
    done
}

# What is known before anything is done: what stands in the way, and what is there already.
foresee() {
    case $1 in
    preflight) step_preflight ;;
    release) ! is_complete "$folder_of_release" || say "release $release is there already" ;;
    user) ! getent passwd outstation >/dev/null || say 'the user outstation is there already' ;;
    configuration) [ ! -e "$configuration" ] || say "$configuration is left as it is" ;;
    start | restart) [ ! -e "$pending" ] || say 'an upgrade that was cut short is settled before' ;;
    esac
}

# --- Options -----------------------------------------------------------------

parse_device_options() {
    dry_run=
    offline=
    # What was installed with extras is upgraded with them; a bundle is first installed with its own.
    with=$(cat "$current/extras" 2>/dev/null || cat "$root/extras" 2>/dev/null) || with=
    first_configuration=
    list_steps=
    while [ $# -gt 0 ]; do
        case $1 in
        --dry-run) dry_run=yes ;;
        --list-steps) list_steps=yes ;;
        --offline | --with | --config)
            [ "$command:$1" != upgrade:--config ] || refuse_usage '--config is for install: an upgrade leaves the configuration as it is'
            [ $# -ge 2 ] || refuse_usage "$1 takes an argument"
            case $1 in
            --offline) offline=$2 ;;
            --with) with=$2 ;;
            --config) first_configuration=$2 ;;
            esac
            shift
            ;;
        *) refuse_usage "$command does not know $1" ;;
        esac
        shift
    done
    # A bundle brings its packages along.
    if [ -z "$offline" ] && [ -d "$root/wheels" ]; then
        offline=$root/wheels
    fi
    if [ -n "$offline" ]; then
        [ -d "$offline" ] || die "--offline $offline: there is no such folder" \
            'Remedy: ./install.sh bundle --arch ARCH makes one, on a machine with internet.'
        offline=$(cd "$offline" && pwd -P)
    fi
    sort_extras
    check_extras
    [ -z "$first_configuration" ] || [ -f "$first_configuration" ] ||
        die "--config $first_configuration: there is no such file"
}

require_root() {
    [ "$(id -u)" -eq 0 ] || die "$command changes the system, so it needs root." \
        "Remedy: sudo ./install.sh $command" \
        'Without root: ./install.sh demo, or ./install.sh test.'
}

# take_lock SECONDS: one of us at a time, for which it waits so long; the kernel lets go of the lock however we end.
take_lock() {
    mkdir -p "$(dirname "$lock")"
    exec 9>"$lock"
    flock -w "$1" 9 || die "another install.sh is at work (it holds $lock)." 'Remedy: wait until it has ended.'
}

# After a power cut in the middle of an upgrade that one is settled first, which takes some minutes at most.
take_lock_after_settling() {
    if [ -f "$pending" ]; then
        say 'an upgrade is still to be settled: waiting for whoever is at it'
        take_lock $((READY_S + STEADY_S + PROGRESS_S + SETTLE_WAITS_S))
    else
        take_lock 0
    fi
}

# --- The release -------------------------------------------------------------

# Its version, and a checksum of all that decides what is in it.
name_release() {
    release_version=$(project_version)
    if [ -n "$offline" ]; then
        require_python_without_venv
    else
        require_python
    fi
    digest=$({
        source_digest
        echo "$with ${python_version%.*}"
    } | sha256sum | cut -c 1-8)
    release=$release_version-$digest
    folder_of_release=$releases/$release
}

source_digest() {
    if [ -f "$root/SHA256SUMS" ]; then
        cat "$root/SHA256SUMS"
    else
        (
            cd "$root" || exit
            find agent buffer collectors drivers deploy requirements install.sh pyproject.toml \
                -type f ! -name '*.pyc' -print | LC_ALL=C sort | while read -r file; do
                sha256sum "$file"
            done
        )
    fi
}

is_complete() {
    [ -f "$1/complete" ]
}

step_release() {
    if is_complete "$folder_of_release"; then
        say "release $release is there already"
        return
    fi
    # What a power cut left of another attempt.
    rm -rf "$folder_of_release" "$prefix"/.building.*
    building=$folder_of_release
    mkdir -p "$folder_of_release"
    chmod 755 "$prefix" "$releases" "$folder_of_release"
    work=$(mktemp -d "$prefix/.building.XXXXXX")
    # Packages are unpacked on the disk: /tmp may be memory, and little of it.
    TMPDIR=$work
    export TMPDIR
    cp -R "$root/deploy" "$root/requirements" "$root/install.sh" "$root/README.md" "$folder_of_release/"
    cp "$root/pyproject.toml" "$folder_of_release/"
    quietly 'making its environment' "$python" -m venv --without-pip "$folder_of_release/venv" ||
        die "no environment could be made in $folder_of_release/venv."
    prepare_pip
    # One call for all: pip takes seconds to start on a small device.
    echo "$wheel --hash=sha256:$(sha256sum "$wheel" | cut -d ' ' -f 1)" >"$work/own.txt"
    set -- -r "$work/own.txt" -r "$root/requirements/run.lock"
    for extra in $(echo "$with" | tr ',' ' '); do
        set -- "$@" -r "$root/requirements/extras/$extra.lock"
    done
    quietly 'installing outstation and its packages' \
        pip_release --require-hashes --only-binary :all: "$@" || release_failed
    "$folder_of_release/venv/bin/outstation" --version >/dev/null || release_failed
    echo "$with" >"$folder_of_release/extras"
    unset TMPDIR
    rm -rf "$work"
    work=
    chmod -R u=rwX,go=rX "$folder_of_release"
    sync_disk
    echo "$release" >"$folder_of_release/complete"
    sync_disk
    building=
    say "installed size: $(du -sm "$folder_of_release" | cut -f 1) MB"
}

release_failed() {
    die "release $release could not be built; the reason stands above. What runs is as it was." \
        ${clock_trouble:+"$clock_trouble"} \
        'If packages could not be fetched: set up pip for this network, or bring them along (--offline).'
}

# Sets wheel to the project's own, in $work; sees that pip is at hand: from a bundle, or in an environment of its own.
prepare_pip() {
    if [ -n "$offline" ]; then
        own=$(find "$offline" -name "outstation-$release_version-*.whl" | head -n 1)
        pip_wheel=$(find "$offline" -name 'pip-*.whl' | head -n 1)
        if [ -z "$own" ] || [ -z "$pip_wheel" ]; then
            die "$offline has no outstation-$release_version-*.whl, or no pip-*.whl: it is not a bundle of this version." \
                'Remedy: ./install.sh bundle --arch ARCH makes one.'
        fi
        cp "$own" "$work/"
        # From within its wheel it would be slow.
        "$folder_of_release/venv/bin/python" -I -S -m zipfile -e "$pip_wheel" "$work/pip" || release_failed
    else
        quietly 'making an environment to build with' "$python" -m venv "$work/tools" ||
            die "no environment could be made in $work/tools."
        quietly 'installing the build tools' "$work/tools/bin/python" -m pip --quiet --disable-pip-version-check --no-input \
            install --require-hashes --only-binary :all: -r "$root/requirements/build.lock" || release_failed
        build_wheel "$work/tools/bin/python" "$work" || release_failed
    fi
    wheel=$(find "$work" -maxdepth 1 -name "outstation-$release_version-*.whl")
}

# build_wheel PYTHON FOLDER
build_wheel() {
    quietly 'building outstation' "$1" -m pip --quiet --disable-pip-version-check --no-input wheel \
        --no-index --no-deps --no-build-isolation --wheel-dir "$2" "$root"
}

# pip install for the release.
pip_release() {
    if [ -n "$offline" ]; then
        "$folder_of_release/venv/bin/python" -B "$work/pip/pip" --quiet --disable-pip-version-check --no-input --no-cache-dir \
            install --no-index --find-links "$offline" "$@"
    else
        "$work/tools/bin/python" -m pip --quiet --disable-pip-version-check --no-input \
            --python "$folder_of_release/venv/bin/python" install "$@"
    fi
}

# What has been written is on the card.
sync_disk() {
    sync
}

# What a failure or a signal leaves behind is taken away: an unfinished release, the folder it was built in.
clean_up() {
    [ -z "${watcher-}" ] || kill "$watcher" 2>/dev/null || true
    [ -z "${work-}" ] || rm -rf "$work"
    [ -z "${building-}" ] || is_complete "$building" || rm -rf "$building"
    # An upgrade whose terminal went away is settled without one.
    if [ "$command" = upgrade ] && [ -f "$pending" ]; then
        systemctl --no-block start outstation-settle.service || true
    fi
}

# --- The rest of an installation ------------------------------------------------

step_user() {
    getent group outstation >/dev/null || groupadd --system outstation
    uid=$(id -u outstation 2>/dev/null) || uid=
    if [ -z "$uid" ]; then
        useradd --system --gid outstation --home-dir "$state" --no-create-home --shell /usr/sbin/nologin outstation
    elif is_a_persons "$uid"; then
        say 'there is a user outstation who is a person: the agent runs as that one'
    fi
    for group in outstation dialout bluetooth; do
        case " $(id -nG outstation) " in *" $group "*) continue ;; esac
        if getent group "$group" >/dev/null; then
            usermod -a -G "$group" outstation
        fi
    done
    install -d -m 750 -o root -g outstation /etc/outstation
    install -d -m 700 -o root -g root "$secrets"
    install -d -m 750 -o outstation -g outstation "$state"
}

# Debian gives people the numbers from 1000 on; 65534 is nobody.
is_a_persons() {
    [ "$1" -ge 1000 ] && [ "$1" -ne 65534 ]
}

step_configuration() {
    if [ -e "$configuration" ]; then
        say "$configuration is left as it is"
        return
    fi
    install -m 640 -o root -g outstation "${first_configuration:-$root/deploy/outstation.toml}" "$configuration.new"
    sync_disk
    mv "$configuration.new" "$configuration"
}

step_rules() {
    put_rules "$root/deploy"
}

# put_rules FOLDER
put_rules() {
    mkdir -p "$(dirname "$rules")"
    install -m 644 "$1/60-outstation.rules" "$rules"
    if command -v udevadm >/dev/null; then
        udevadm control --reload 2>/dev/null || true
    fi
}

# The units are links into the current release, so that they change with it.
step_units() {
    mkdir -p "$units"
    for unit in outstation.service outstation-settle.service; do
        ln -sfn "$current/deploy/$unit" "$units/$unit"
    done
    ln -sfn "$current/venv/bin/outstation" "$command_link"
}

# As `systemctl enable` does, which would link into the release itself, and so to nothing once that is gone.
enable_units() {
    mkdir -p "$wanted"
    for unit in outstation.service outstation-settle.service; do
        ln -sfn "$units/$unit" "$wanted/$unit"
    done
    systemctl daemon-reload
}

# switch_to RELEASE: in one rename, so that there is always a current release.
switch_to() {
    ln -sfn "releases/$1" "$prefix/.current.new"
    mv -T "$prefix/.current.new" "$current"
    sync_disk
    systemctl daemon-reload
}

step_current() {
    switch_to "$release"
}

step_start() {
    enable_units
    if ! "$current/venv/bin/outstation" check --config "$configuration" >/dev/null 2>&1; then
        say "the service is not started yet: the configuration wants your sensors. It says:"
        "$current/venv/bin/outstation" check --config "$configuration" || true
        say "then: sudo systemctl start outstation"
        return
    fi
    systemctl start outstation.service ||
        die 'the service does not start.' 'See: journalctl -u outstation'
}

# What it finds is told; none of it undoes an installation.
step_doctor() {
    "$current/venv/bin/outstation" doctor --config "$configuration" || true
}

# --- Upgrading ---------------------------------------------------------------

# The release that runs, by the link; empty without one.
running_release() {
    if [ -L "$current" ]; then
        basename "$(readlink "$current")"
    fi
}

step_self_test() {
    new=$folder_of_release/venv/bin/outstation
    "$new" check --config "$configuration" ||
        die "release $release does not accept $configuration; what runs is as it was." \
            'Remedy: mend what it says above, then upgrade again.'
    rm -f "$did_before"
    find_sockets "$release" || die "release $release does not say where the agent answers; what runs is as it was."
    note_how_it_does
    runuser -u outstation -- "$new" self-test --config "$configuration" ||
        die "release $release does not pass its self-test; what runs is as it was."
    note_how_it_does
}

step_pending() {
    # What sensors say every second or two has come again by then.
    [ ! -s "$did_before" ] || sleep "$SAMPLED_S"
    note_how_it_does
    echo "$before" >"$pending.new"
    sync_disk
    mv "$pending.new" "$pending"
    sync_disk
}

step_restart() {
    if ! is_switched_on && ! systemctl --quiet is-active outstation.service; then
        say 'the service is switched off, and stays so'
        return
    fi
    # A release that does not become ready is settled below; it is no error of this script.
    systemctl restart outstation.service || true
}

# Keeps the current release and the one before.
step_tidy() {
    for folder in "$releases"/*; do
        case $(basename "$folder") in
        "$release" | "$before") ;;
        *) rm -rf "$folder" ;;
        esac
    done
    rm -rf "$prefix"/.building.*
}

# --- Commands ----------------------------------------------------------------

begin_device_command() {
    parse_device_options "$@"
    if [ -n "$list_steps" ]; then
        if [ "$command" = upgrade ]; then
            steps=$upgrade_steps
        else
            steps=$install_steps
        fi
        echo "$steps" | tr ' ' '\n'
        exit 0
    fi
    [ -n "$dry_run" ] || require_root
    check_bundle
    umask 022
    work=
    building=
    if [ -z "$dry_run" ]; then
        take_lock_after_settling
        trap 'clean_up' EXIT
        trap 'exit 130' INT HUP
        trap 'exit 143' TERM
    fi
    name_release
}

command_install() {
    begin_device_command "$@"
    [ -n "$dry_run" ] || settle_what_was_cut_short
    before=$(running_release)
    if [ -n "$before" ] && [ "$before" != "$release" ] && is_complete "$releases/$before"; then
        die "release $before is installed; this is $release." 'Remedy: sudo ./install.sh upgrade'
    fi
    # shellcheck disable=SC2086  # a list
    run_steps $install_steps
    end_of_steps "done: sudo outstation status"
}

command_upgrade() {
    begin_device_command "$@"
    [ -n "$dry_run" ] || settle_what_was_cut_short
    before=$(running_release)
    [ -n "$before" ] ||
        die 'nothing is installed that could be upgraded.' 'Remedy: sudo ./install.sh'
    if [ "$before" = "$release" ]; then
        say "release $release is installed already"
        return
    fi
    # shellcheck disable=SC2086  # a list
    run_steps $upgrade_steps
    end_of_steps "done: release $release"
}

end_of_steps() {
    if [ -n "$dry_run" ]; then
        say 'nothing was done (--dry-run)'
    else
        say "$1"
    fi
}

# Of a card that `flash` has written: installs from it, and then it has done its part.
command_first_boot() {
    "$root/install.sh" install --config "$root/first.toml"
    rm -f "$wanted/outstation-first-boot.service" "$administrators_units/outstation-first-boot.service"
    rm -rf "$root"
    say 'this card has installed itself'
}

# Builds nothing, so it asks for nothing that building takes: a device that was installed from a bundle may lack it.
command_settle() {
    require_root
    take_lock "$SETTLE_WAITS_S"
    settle_what_was_cut_short
}

command_uninstall() {
    purge=
    case "$#:${1-}" in
    0:) ;;
    1:--purge) purge=yes ;;
    *) refuse_usage "uninstall takes --purge or nothing, not: $*" ;;
    esac
    require_root
    take_lock 0
    systemctl --quiet disable --now outstation.service outstation-settle.service 2>/dev/null || true
    for unit in outstation.service outstation-settle.service; do
        rm -f "$units/$unit" "$wanted/$unit"
    done
    rm -f "$rules"
    [ ! -L "$command_link" ] || rm -f "$command_link"
    systemctl daemon-reload
    rm -rf "$prefix"
    if [ -z "$purge" ]; then
        say "removed. The buffer ($state) and the configuration (/etc/outstation) are still there; --purge removes them too."
        return
    fi
    # The buffer may be a file system of its own, whose folder stays.
    if [ -d "$state" ]; then
        find "$state" -mindepth 1 -delete
        rmdir "$state" 2>/dev/null || true
    fi
    rm -rf /etc/outstation "$administrators_units/outstation.service.d"
    uid=$(id -u outstation 2>/dev/null) || uid=
    if [ -n "$uid" ] && ! is_a_persons "$uid"; then
        userdel outstation
    fi
    say 'removed, with buffer and configuration.'
}
