# shellcheck shell=sh
# shellcheck disable=SC2154  # install.sh and device.sh, which source this, set root, before and the like
# Whether a new release does its work, and going back if it does not. Sourced by device.sh.
#
# It must become ready and stay it, and then do what the release before did (deploy/watch.py, deploy/judge.py): sources that worked,
# upstreams that were connected, readings that were stored. What that one's doctor finds wrong as well, an outage of the link for one,
# is not held against it.

# A release has so long to become ready, then to stay it, then to do what the one before did; one that systemd has to start
# again and again is given up at once.
READY_S=90
STEADY_S=${OUTSTATION_TEST_STEADY_S:-10}
PROGRESS_S=${OUTSTATION_TEST_PROGRESS_S:-180}
RESTARTS_MAX=2

# find_sockets RELEASE: sets sockets to where the agent answers, as that release says.
find_sockets() {
    sockets=$("$releases/$1/venv/bin/outstation" status --config "$configuration" --where)
}

# How the release before does, in a line; nothing when it does not answer.
note_how_it_does() {
    "$releases/$before/venv/bin/python" -I -S -B "$root/deploy/watch.py" note "$sockets" >>"$did_before" || true
}

step_settle() {
    settle
}

is_switched_on() {
    systemctl --quiet is-enabled outstation.service 2>/dev/null
}

# Whether the service does its work: active, of this release, without a restart for a while, and as the one before. The Python of
# that one is known to run.
does_its_work() {
    [ -n "${sockets-}" ] || find_sockets "$after" || return 1
    # In the background, so that a signal to this script is not held up for minutes; no function, which a shell of its own would run.
    "$releases/$before/venv/bin/python" -I -S -B "$root/deploy/watch.py" settle "$sockets" \
        releases="$releases" after="$after" before="$before" did_before="$did_before" configuration="$configuration" \
        ready_s="$READY_S" steady_s="$STEADY_S" progress_s="$PROGRESS_S" restarts_max="$RESTARTS_MAX" 9>&- &
    watcher=$!
    verdict=0
    wait "$watcher" || verdict=$?
    watcher=
    # By the kernel, on a device without memory left, for one: nothing is known of the release then.
    [ "$verdict" -le 1 ] || say "the watch was ended before its time (exit status $verdict)"
    return "$verdict"
}

# release_of_process PID: nothing if it is of none.
release_of_process() {
    tr '\0' '\n' 2>/dev/null <"/proc/$1/cmdline" | sed -n "s|^$releases/\([^/]*\)/.*|\1|p" | head -n 1
}

# An upgrade whose script ended, or whose device lost power: what is left of it, or of going back, is done, and then it is settled.
settle_what_was_cut_short() {
    [ -f "$pending" ] || return 0
    after=$(running_release)
    put_rules "$releases/$after/deploy"
    step_units
    # Ended before the restart, it has left the other release running, which says nothing of this one.
    case $(release_of_process "$(systemctl show -p MainPID --value outstation.service)") in
    '' | "$after") ;;
    *)
        systemctl daemon-reload
        step_restart
        ;;
    esac
    settle
}

forget_pending() {
    rm -f "$pending" "$did_before"
}

# Keeps the release that was changed over to if it does its work; else goes back to the one before.
settle() {
    before=$(cat "$pending")
    after=$(running_release)
    if [ "$before" = "$after" ] || ! is_complete "$releases/$before"; then
        forget_pending
        return 0
    fi
    if ! is_switched_on; then
        say 'the service is switched off, so nothing shows whether the new release does its work; it is kept'
        forget_pending
        return 0
    fi
    if does_its_work; then
        forget_pending
        sync_disk
        say "release $after does its work"
        return 0
    fi
    say "release $after does not do its work: going back to $before. Its last words:"
    journalctl -u outstation.service -n 10 --no-pager -o cat 2>/dev/null || true
    switch_to "$before"
    put_rules "$releases/$before/deploy" || true
    systemctl restart outstation.service || true
    forget_pending
    sync_disk
    die "the upgrade to $after failed; $before runs again."
}
