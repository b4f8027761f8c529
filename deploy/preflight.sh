# shellcheck shell=sh
# shellcheck disable=SC2154  # install.sh and device.sh, which source this, set offline, python_version and the like
# What a machine must have before anything is changed on it. Sourced by device.sh.

systemd_runs=/run/systemd/system
command_line=/proc/cmdline
FREE_MB_MIN=300

# The architecture of the programs here. Raspberry Pi OS of 32 bits runs on a kernel of 64, which is what uname tells of.
architecture() {
    case $(uname -m):$(getconf LONG_BIT 2>/dev/null || echo unknown) in
    aarch64:32 | armv8l:*) echo armv7l ;;
    x86_64:32) echo i686 ;;
    *) uname -m ;;
    esac
}

step_preflight() {
    case $(architecture) in
    aarch64 | armv7l | x86_64) ;;
    armv6l)
        die 'this machine is an ARMv6 (the first Pi, the first Zero), for which pydantic-core has no packages.' \
            'Remedy: a Raspberry Pi 2 or later, or a Zero 2.'
        ;;
    *) die "Outstation is not tested on $(architecture): aarch64, armv7l and x86_64 are." ;;
    esac
    if ! command -v systemctl >/dev/null || [ ! -d "$systemd_runs" ]; then
        die 'there is no systemd here, which runs the service.' \
            'Remedy: without it, install the package with pip and see that "outstation run" is started.'
    fi
    check_disk
    check_offline_fits
    [ "$(date +%Y)" -ge 2025 ] ||
        say "the clock says $(date +%Y): the agent corrects its times once it knows better, but packages cannot be fetched with it"
    getent group dialout >/dev/null || say 'there is no group dialout here: serial ports may stay closed to the agent'
}

# Room, and that what is written stays.
check_disk() {
    if grep -q 'boot=overlay\|overlayroot=' "$command_line" && [ "$(stat -f -c %T "$(existing_parent "$prefix")")" = overlayfs ]; then
        die 'the root file system is an overlay in memory: what is installed would be gone at the next boot.' \
            'Remedy: sudo raspi-config nonint do_overlayfs 1, reboot, install, then switch it on again;' \
            'the buffer must be on a partition that it does not cover.'
    fi
    if [ "$(id -u)" -eq 0 ]; then
        for folder in "$prefix" /etc/outstation "$state" /usr/local; do
            folder=$(existing_parent "$folder")
            [ -w "$folder" ] || die "$folder is on a file system that is mounted read-only." \
                "Remedy: dmesg says why; sudo mount -o remount,rw / if it was meant to be so."
        done
    fi
    free_mb=$(df -Pm "$(existing_parent "$prefix")" | awk 'NR == 2 { print $4 }')
    [ "$free_mb" -ge "$FREE_MB_MIN" ] ||
        die "there are $free_mb MB free where $prefix belongs, and $FREE_MB_MIN are needed." \
            'Remedy: make room, or use a larger card.'
}

# Packages for another machine show it here, and not as a riddle of pip's.
check_offline_fits() {
    [ -n "$offline" ] || return 0
    one=$(find "$offline" -name 'pydantic_core-*.whl' | head -n 1)
    short=${python_version%.*}
    tag=cp$(echo "$short" | tr -d .)
    [ -z "$one" ] || [ -n "$(find "$offline" -name "pydantic_core-*-$tag-*_$(architecture).whl")" ] ||
        die "$offline is for another machine ($(basename "$one")): this one has Python $short on $(architecture)." \
            "Remedy: ./install.sh bundle --arch $(architecture) --python $short"
}

existing_parent() {
    folder=$1
    while [ ! -d "$folder" ]; do
        folder=$(dirname "$folder")
    done
    echo "$folder"
}
