# shellcheck shell=sh
# shellcheck disable=SC2154  # install.sh and device.sh, which source this, set root, before and the like
# Whether a new release does its work, and going back if it does not. Sourced by device.sh.
#
# It must become ready and stay it, and then do what the release before did (deploy/judge.py): sources that worked, upstreams that
# were connected, readings that were stored. What that one's doctor finds wrong as well, an outage of the link for one, is not held
# against it.

# A release has so long to become ready, then to stay it, then to do what the one before did; one that systemd has to start
# again and again is given up at once.
READY_S=90
STEADY_S=${OUTSTATION_TEST_STEADY_S:-10}
PROGRESS_S=${OUTSTATION_TEST_PROGRESS_S:-180}
RESTARTS_MAX=2

# note_report RELEASE: how the agent does, in a line; nothing while none answers.
note_report() {
    "$releases/$1/venv/bin/outstation" status --config "$configuration" --json 2>/dev/null |
        "$releases/$1/venv/bin/python" -I -S "$root/deploy/judge.py" --stamp 2>/dev/null
}

# A busy device may not answer at once.
note_how_it_does() {
    for _ in 1 2 3; do
        if line=$(note_report "$before"); then
            echo "$line" >>"$did_before"
            return
        fi
        sleep 1
    done
}

step_settle() {
    settle
}

is_switched_on() {
    systemctl --quiet is-enabled outstation.service 2>/dev/null
}

# Seconds since the boot: a clock that is set meanwhile, as after every boot of a Pi, does not hurry a release.
uptime_s() {
    cut -d . -f 1 /proc/uptime
}

# Whether the service does its work: active, of this release, and without a restart for a while.
does_its_work() {
    until_s=$(($(uptime_s) + READY_S))
    expected=$(basename "$(readlink "$current")")
    while [ "$(uptime_s)" -lt "$until_s" ] && does_not_end_again; do
        if systemctl --quiet is-active outstation.service && answers "$expected"; then
            restarts_before=$(restarts)
            first_report=$report
            sleep "$STEADY_S"
            if systemctl --quiet is-active outstation.service && answers "$expected" &&
                [ "$(restarts)" = "$restarts_before" ]; then
                does_what_the_one_before_did
                return
            fi
        fi
        sleep 1
    done
    return 1
}

does_not_end_again() {
    [ "$(restarts)" -le "$RESTARTS_MAX" ]
}

# Sources that worked, upstreams that were connected, readings that were stored: as soon as all of it is so again, or when the
# time is over and the release before finds no fault with what is missing (its doctor looks while the new one runs).
does_what_the_one_before_did() {
    if [ "$(grep -c . "$did_before" 2>/dev/null)" != 3 ]; then
        say 'how the release before did is not known, so no more is asked of this one than to run and to report'
        return 0
    fi
    say 'seeing whether it does what the release before did'
    judging=$(mktemp -d)
    verdict=0
    watch_progress || verdict=$?
    rm -rf "$judging"
    return "$verdict"
}

watch_progress() {
    until_s=$(($(uptime_s) + PROGRESS_S))
    # Asking takes seconds on a small device; this was just said.
    printf '%s' "$first_report" >"$judging/first"
    printf '%s' "$report" >"$judging/now"
    while does_not_end_again; do
        if said=$(judge); then
            [ -z "$said" ] || say "$said"
            return 0
        fi
        if [ "$(uptime_s)" -ge "$until_s" ]; then
            "$releases/$before/venv/bin/outstation" doctor --config "$configuration" --json >"$judging/doctor" 2>/dev/null || true
            [ -s "$judging/doctor" ] || echo '{"findings": []}' >"$judging/doctor"
            judge "$judging/doctor"
            return
        fi
        sleep 2
        note_report "$after" >"$judging/report" && mv "$judging/report" "$judging/now"
    done
    return 1
}

judge() {
    "$releases/$before/venv/bin/python" -I -S "$root/deploy/judge.py" "$did_before" "$judging/first" "$judging/now" "$@"
}

restarts() {
    systemctl show -p NRestarts --value outstation.service
}

# answers RELEASE: the agent that runs is of this release, and reports (which sets report).
answers() {
    report=$("$releases/$1/venv/bin/outstation" status --config "$configuration" --json 2>/dev/null) &&
        [ "$(release_of_process "$(systemctl show -p MainPID --value outstation.service)")" = "$1" ]
}

release_of_process() {
    tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null | sed -n "s|^$releases/\([^/]*\)/.*|\1|p" | head -n 1
}

forget_pending() {
    rm -f "$pending" "$did_before"
}

# Keeps the release that was changed over to if it does its work; else goes back to the one before.
settle() {
    [ -f "$pending" ] || return 0
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
    systemctl restart outstation.service || true
    forget_pending
    sync_disk
    die "the upgrade to $after failed; $before runs again."
}
