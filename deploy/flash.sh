# shellcheck shell=sh
# shellcheck disable=SC2154  # install.sh, which sources this, sets root and the like
# The command flash: a card, or an image of one, that comes up, installs Outstation by itself and collects. Sourced by install.sh.
#
# The image is written and read back; its root partition grows a little, the buffer gets a partition of its own behind it
# (a full buffer, or a log that runs wild, never fills the other), and what the first boot needs is put into the files: a
# bundle, the configuration, and a service that runs install.sh from the card.

card=/opt/outstation-card
sys=/sys
ROOT_GROWS_MB=768
BUFFER_MB_MIN=64
OPTIONS_OF_BUFFER=noatime,lazytime,commit=30

usage_flash() {
    cat <<'END'
usage: sudo ./install.sh flash --image FILE (--device /dev/sdX | --output FILE) --config FILE [OPTIONS]

  --image FILE          Raspberry Pi OS, .img or .img.xz; its checksum is FILE.sha256, or --sha256
  --sha256 SUM          what the image's checksum must be
  --device /dev/sdX     the card: a whole disk that can be taken out, with nothing mounted. It is erased
  --output FILE         make an image instead of writing a card
  --config FILE         the configuration of the device
  --secrets DIR         its passwords and keys: a file for each, named as in { credential = "NAME" }
  --bundle DIR          from `install.sh bundle`; in a bundle: itself
  --hostname NAME       of the device
  --user NAME           a user who may log in (with --ssh-key), and become root
  --ssh-key FILE        the public key of that user; switches SSH on
  --wifi NAME           the network; its password is asked for, or --wifi-password-file FILE
  --wifi-country CC     where it is used, such as DE
  --uart                the UART on the pins is for a sensor: no console on it
  --less-wear           the journal in memory only, no swap on the card
  --buffer-mb N         size of the buffer's partition (a card: what is left; an image: 512)
  --yes                 do not ask before erasing
  --unchecked-config    do not ask this release whether it accepts the configuration
END
}

parse_flash_options() {
    image='' sum='' device='' output='' config='' secret_files='' bundle='' hostname='' user='' ssh_key=''
    wifi='' wifi_password_file='' wifi_country='' uart='' less_wear='' buffer_mb='' yes='' unchecked=''
    while [ $# -gt 0 ]; do
        case $1 in
        --uart) uart=yes ;;
        --less-wear) less_wear=yes ;;
        --yes) yes=yes ;;
        --unchecked-config) unchecked=yes ;;
        --help)
            usage_flash
            exit 0
            ;;
        --image | --sha256 | --device | --output | --config | --secrets | --bundle | --hostname | --user | --ssh-key | \
            --wifi | --wifi-password-file | --wifi-country | --buffer-mb)
            [ $# -ge 2 ] || refuse_flash "$1 takes an argument"
            set_flash_option "$1" "$2"
            shift
            ;;
        *) refuse_flash "flash does not know $1" ;;
        esac
        shift
    done
}

set_flash_option() {
    case $1 in
    --image) image=$2 ;;
    --sha256) sum=$2 ;;
    --device) device=$2 ;;
    --output) output=$2 ;;
    --config) config=$2 ;;
    --secrets) secret_files=$2 ;;
    --bundle) bundle=$2 ;;
    --hostname) hostname=$2 ;;
    --user) user=$2 ;;
    --ssh-key) ssh_key=$2 ;;
    --wifi) wifi=$2 ;;
    --wifi-password-file) wifi_password_file=$2 ;;
    --wifi-country) wifi_country=$2 ;;
    --buffer-mb) buffer_mb=$2 ;;
    esac
}

refuse_flash() {
    printf 'install.sh: error: %s\n\n' "$1" >&2
    usage_flash >&2
    exit 2
}

# --- Refusals ----------------------------------------------------------------

check_flash_options() {
    [ -n "$image" ] || refuse_flash 'flash wants --image'
    [ -n "$config" ] || refuse_flash 'flash wants --config'
    if [ -n "$device" ] && [ -n "$output" ]; then
        refuse_flash '--device or --output, not both'
    fi
    [ -n "$device$output" ] || refuse_flash 'flash wants --device or --output'
    for file in "$image" "$config" ${ssh_key:+"$ssh_key"} ${wifi_password_file:+"$wifi_password_file"}; do
        [ -f "$file" ] || die "there is no file $file"
    done
    [ -z "$secret_files" ] || [ -d "$secret_files" ] || die "--secrets $secret_files: there is no such folder"
    if [ -z "$bundle" ] && [ -f "$root/SHA256SUMS" ]; then
        bundle=$root
    fi
    [ -n "$bundle" ] || refuse_flash 'flash wants --bundle: the device installs from the card, without internet'
    [ -f "$bundle/SHA256SUMS" ] || die "--bundle $bundle: this is no bundle." \
        'Remedy: ./install.sh bundle --arch aarch64 makes one.'
    case $hostname in
    *[!a-zA-Z0-9-]* | -* | *-) die "--hostname $hostname: letters, digits and hyphens, such as greenhouse-3." ;;
    esac
    case $user in
    '') [ -z "$ssh_key" ] || die '--ssh-key is of a user: say who, with --user.' ;;
    [a-z]*)
        case $user in *[!a-z0-9-]*) die "--user $user: small letters, digits and hyphens." ;; esac
        [ -n "$ssh_key" ] || die '--user logs in with a key: say which, with --ssh-key.'
        ;;
    *) die "--user $user: a name begins with a small letter." ;;
    esac
    case $buffer_mb in
    *[!0-9]*) die "--buffer-mb $buffer_mb: a number of megabytes." ;;
    esac
    [ -z "$buffer_mb" ] || [ "$buffer_mb" -ge "$BUFFER_MB_MIN" ] ||
        die "--buffer-mb $buffer_mb: at least $BUFFER_MB_MIN."
    [ -z "$output" ] || [ ! -e "$output" ] || die "$output is there already." 'Remedy: move it away, or name another file.'
    [ -n "$wifi" ] || [ -z "$wifi_password_file$wifi_country" ] ||
        die '--wifi-password-file and --wifi-country are of a network: say which, with --wifi.'
    case $wifi_country in
    '' | [A-Z][A-Z]) ;;
    *) die "--wifi-country $wifi_country: two capital letters, such as DE." ;;
    esac
    if [ -n "$ssh_key" ]; then
        case $(head -n 1 "$ssh_key") in
        ssh-* | ecdsa-* | sk-*) ;;
        *) die "--ssh-key $ssh_key: this is no public key." 'Remedy: the file beside it whose name ends in .pub.' ;;
        esac
    fi
    check_tools
    "$python" -I -c 'import sys, tomllib; tomllib.load(open(sys.argv[1], "rb"))' "$config" 2>/dev/null ||
        die "--config $config is no TOML." "Remedy: outstation check --config $config says where."
}

check_tools() {
    for tool in sfdisk losetup e2fsck resize2fs mkfs.ext4 lsblk mcopy; do
        command -v "$tool" >/dev/null ||
            die "flash needs $tool." 'Remedy: sudo apt-get install fdisk mount e2fsprogs util-linux mtools'
    done
    require_python_without_venv
}

check_image() {
    if [ -z "$sum" ] && [ -f "$image.sha256" ]; then
        sum=$(cut -d ' ' -f 1 <"$image.sha256")
    fi
    [ -n "$sum" ] || die "nothing says what the checksum of $image must be." \
        "Remedy: put $image.sha256 beside it, as it is offered with the image, or give --sha256."
    quietly "checking $image" checksum_is "$image" "$sum" ||
        die "$image does not have the checksum $sum: it is damaged, or another image." 'Remedy: fetch it again.'
}

checksum_is() {
    [ "$(sha256sum <"$1" | cut -d ' ' -f 1)" = "$2" ]
}

# Nothing but a whole disk that can be taken out, and that nobody uses.
check_device() {
    [ -b "$device" ] || die "$device is no disk." "Remedy: lsblk shows what there is."
    # By the kernel's name, which says what it is.
    device=$(readlink -f "$device")
    kind=$(lsblk -dno TYPE "$device")
    [ "$kind" = disk ] || die "$device is a $kind: the whole disk is written, such as /dev/sdX or /dev/mmcblk0."
    name=$(basename "$device")
    case $name in
    mmcblk*boot[0-9] | mmcblk*rpmb) die "$device is no card, but a part of a soldered memory: it is not touched." ;;
    esac
    [ "$(cat "$sys/block/$name/device/type" 2>/dev/null)" != MMC ] ||
        die "$device is soldered memory (eMMC), so it is no card: it is not touched."
    # A card in a reader is removable; one in a slot is a disk of its own kind.
    case $(lsblk -dno RM,HOTPLUG "$device" | tr -d ' ')$name in
    1* | 01* | 00mmcblk*) ;;
    *) die "$device cannot be taken out, so it is no card: it is not touched." ;;
    esac
    mounted=$(lsblk -nro MOUNTPOINT "$device" | grep . | tr '\n' ' ') || mounted=
    case " $mounted" in
    *' / '* | *' /boot '* | *' /boot/firmware '* | *' [SWAP] '*)
        die "$device is in use by this system ($mounted): it is not touched."
        ;;
    esac
    [ -z "$mounted" ] || die "$device is in use: mounted at $mounted." "Remedy: unmount it first: sudo umount $mounted"
    users=$(lsblk -nro TYPE "$device" | grep -vx 'disk\|part' | sort -u | tr '\n' ' ') || users=
    [ -z "$users" ] || die "$device is in use: something is made of it (${users% })." \
        'Remedy: end that first (vgchange -an, mdadm --stop, cryptsetup close), or take another card.'
    confirmed=$(identity_of "$device")
}

# What tells one card from another, and from itself put in again.
identity_of() {
    lsblk -dnbo SIZE,MODEL,SERIAL,WWN "$1"
    cat "$sys/block/$(basename "$1")/diskseq" "$sys/block/$(basename "$1")/device/cid" 2>/dev/null || true
}

# From here on nobody else writes to it or mounts it, and it is still the one that was shown.
hold_device() {
    "$python" "$root/deploy/hold_device.py" "$device" "$work/held" 2>"$work/not-held" &
    holder=$!
    while [ ! -f "$work/held" ]; do
        kill -0 "$holder" 2>/dev/null || die "$(cat "$work/not-held")" "Remedy: see what uses it: lsblk $device"
        sleep 0.1
    done
    [ "$(identity_of "$device")" = "$confirmed" ] ||
        die "$device is not the card any more that was there before: nothing was written." 'Remedy: begin again.'
}

ask_before_erasing() {
    lsblk -o NAME,SIZE,MODEL,LABEL "$device" >&2
    [ -z "$yes" ] || return 0
    [ -t 0 ] || die "$device would be erased, and there is no terminal to ask on." 'Remedy: --yes, if you are sure.'
    printf 'All of %s is erased. Type its name to go on: ' "$device" >&2
    read -r answer
    [ "$answer" = "$device" ] || die 'nothing was written.'
}

ask_for_wifi_password() {
    wifi_password=
    [ -n "$wifi" ] || return 0
    if [ -n "$wifi_password_file" ]; then
        wifi_password=$(head -n 1 "$wifi_password_file" | tr -d '\r')
    else
        [ -t 0 ] || die 'the password of the network cannot be asked for without a terminal.' 'Remedy: --wifi-password-file FILE'
        printf 'Password of %s: ' "$wifi" >&2
        stty -echo
        trap 'stty echo; exit 130' INT HUP
        IFS= read -r wifi_password
        stty echo
        trap 'exit 130' INT HUP
        echo >&2
    fi
    [ ${#wifi_password} -ge 8 ] || die 'the password of a network has at least 8 characters.'
}

# --- The configuration ---------------------------------------------------------

# Whether the release that is put on the card accepts the configuration, with the secrets and the extras that the device will have.
check_config() {
    checked=$work/checked
    mkdir -p "$checked/etc/secrets" "$checked/code" "$checked/core"
    [ -n "$(find "$bundle/wheels" -name 'outstation-*.whl' 2>/dev/null)" ] ||
        die "$bundle has no outstation-*.whl: this is no bundle." 'Remedy: ./install.sh bundle --arch aarch64 makes one.'
    # All that the device will have, and nothing that only this machine has: extras count. What is compiled for the device is
    # found there, and not run.
    find "$bundle/wheels" -name '*.whl' ! -name 'pydantic*' ! -name 'pip-*' -exec "$python" -I -c '
import sys, zipfile
for wheel in sys.argv[2:]:
    zipfile.ZipFile(wheel).extractall(sys.argv[1])
' "$checked/code" {} +
    find_checker
    site=$("$checker" -I -c "$print_site")
    for name in pydantic pydantic_core annotated_types typing_inspection typing_extensions.py; do
        [ ! -e "$site/$name" ] || ln -s "$site/$name" "$checked/core/$name"
    done
    sed "s#/etc/outstation/#$checked/etc/#g" "$config" >"$checked/etc/outstation.toml"
    [ -z "$secret_files" ] || cp "$secret_files"/* "$checked/etc/secrets/" 2>/dev/null || true
    if (cd "$checked" && PYTHONPATH=$checked/code:$checked/core "$checker" -S -m agent check \
        --config "$checked/etc/outstation.toml") >"$work/said" 2>&1; then
        return
    fi
    sed "s#$checked/etc/outstation.toml#$config#g; s#$checked/etc/#/etc/outstation/#g" "$work/said" >&2
    die "the device would not accept $config; the reason stands above. Nothing was written." \
        'Remedy: mend it. A file that it names must be in --secrets DIR, and be named as /etc/outstation/secrets/NAME;' \
        'an extra (outstation[...]) must be in the bundle: ./install.sh bundle --with ...' \
        'Or --unchecked-config, where only the device itself has what is missing.'
}

print_site='import os, pydantic_core, pydantic; print(os.path.dirname(os.path.dirname(pydantic.__file__)))'

# Sets checker to a Python that has pydantic, whose core is compiled: that of the checkout, or one with the bundle's own packages,
# where this machine is of the device's kind, or with fetched ones.
find_checker() {
    checker=$venv/bin/python
    if venv_fits && "$checker" -I -c "$print_site" >/dev/null 2>&1; then
        return
    fi
    pip_wheel=$(find "$bundle/wheels" -name 'pip-*.whl' | head -n 1)
    "$python" -m venv --without-pip "$checked/venv" >/dev/null 2>&1 || true
    checker=$checked/venv/bin/python
    set -- "$checker" "$pip_wheel/pip" --quiet --disable-pip-version-check --no-input --no-cache-dir install \
        --require-hashes --only-binary :all: -r "$bundle/requirements/run.lock"
    if "$@" --no-index --find-links "$bundle/wheels" >/dev/null 2>&1; then
        return
    fi
    quietly 'fetching what checking the configuration takes' "$@" ||
        die "whether the device accepts $config cannot be found out here: the packages of $bundle are for the device, and" \
            'this machine has none of its own, nor internet to fetch them. Nothing was written.' \
            'Remedy: once with internet, ./install.sh demo in the checkout, or flash from a checkout that ran it;' \
            'or outstation check on another device, then flash --unchecked-config.'
}

# --- Writing -----------------------------------------------------------------

command_flash() {
    parse_flash_options "$@"
    check_flash_options
    require_root
    (cd "$bundle" && sha256sum --quiet -c SHA256SUMS) >&2 ||
        die "$bundle was changed or damaged; what differs stands above."
    target=$device
    loops=''
    holder=''
    work=$(mktemp -d)
    trap 'clean_up_flash' EXIT
    trap 'exit 130' INT HUP
    trap 'exit 143' TERM
    if [ -n "$device" ]; then
        check_device
    fi
    [ -n "$unchecked" ] || check_config
    check_image
    ask_for_wifi_password
    if [ -n "$device" ]; then
        ask_before_erasing
        hold_device
    else
        target=$output.part
    fi
    say "writing $image to $target"
    "$python" "$root/deploy/write_image.py" "$image" "$target" || die "$target is not complete."
    make_room
    open_partitions
    prepare_files
    close_partitions
    if [ -n "$output" ]; then
        mv "$target" "$output"
        target=$output
    fi
    say "done: $target. Its device installs itself at the first boot, which takes some minutes, and collects."
}

clean_up_flash() {
    umount "$work/root" 2>/dev/null || true
    for loop in $loops; do
        losetup -d "$loop" 2>/dev/null || true
    done
    [ -z "$holder" ] || kill "$holder" 2>/dev/null || true
    # Not what is on the card, should it still be mounted there.
    rm -rf --one-file-system "$work" || true
    [ -z "$output" ] || rm -f "$output.part"
}

# part NUMBER start|size: of a partition, in sectors of 512 bytes.
part() {
    sfdisk --dump "$target" 2>/dev/null |
        sed -n "s/^[^ ]*[^0-9]$1 : .*$2= *\([0-9]*\).*/\1/p" | head -n 1
}

# The root partition grows, and the buffer gets what comes behind it.
make_room() {
    root_start=$(part 2 start)
    root_size=$(part 2 size)
    if [ -z "$root_start" ] || [ -n "$(part 3 start)" ]; then
        die "$image does not have two partitions, boot and root, as Raspberry Pi OS has."
    fi
    root_size=$((root_size + ROOT_GROWS_MB * 2048))
    buffer_start=$((root_start + root_size))
    if [ -n "$output" ]; then
        truncate -s $(((buffer_start + ${buffer_mb:-512} * 2048) * 512 + 1048576)) "$target"
        sectors=$(($(stat -c %s "$target") / 512))
    else
        sectors=$(blockdev --getsz "$target")
    fi
    buffer_size=$((sectors - buffer_start - 2048))
    if [ -n "$buffer_mb" ] && [ $((buffer_mb * 2048)) -lt "$buffer_size" ]; then
        buffer_size=$((buffer_mb * 2048))
    fi
    [ "$buffer_size" -ge $((BUFFER_MB_MIN * 2048)) ] ||
        die "$target is too small: $((buffer_size / 2048)) MB are left for the buffer, and $BUFFER_MB_MIN are needed."
    echo "$root_start,$root_size" | sfdisk --quiet --no-reread --no-tell-kernel -N 2 "$target" ||
        die "the root partition of $target cannot be made larger."
    echo "$buffer_start,$buffer_size,L" | sfdisk --quiet --no-reread --no-tell-kernel --append "$target" ||
        die "no partition for the buffer can be made on $target."
}

# loop NUMBER: sets opened to a device that is this partition.
loop() {
    opened=$(losetup --find --show --offset $(($(part "$1" start) * 512)) --sizelimit $(($(part "$1" size) * 512)) "$target") ||
        die "partition $1 of $target cannot be opened."
    loops="$opened $loops"
}

open_partitions() {
    mkdir -p "$work/boot" "$work/root"
    loop 3
    quietly 'making the file system of the buffer' mkfs.ext4 -q -F -L outstation "$opened" ||
        die 'the file system of the buffer cannot be made.'
    loop 2
    # 1 says that something was mended.
    e2fsck -fy "$opened" >/dev/null 2>&1 || [ $? -le 1 ] || die "the root file system of $image is damaged."
    quietly 'making the root file system larger' resize2fs "$opened" || die 'the root file system cannot be made larger.'
    mount -t ext4 "$opened" "$work/root" || die 'the root file system cannot be mounted.'
    # The boot file system is FAT, which mtools writes without the help of a kernel.
    # (Of its own, since they would wait for our lock of the whole card.)
    loop 1
    boot=$opened
    export MTOOLS_SKIP_CHECK=1
    mdir -b -i "$boot" :: >/dev/null || die "the first partition of $image is no boot file system."
    for file in cmdline.txt config.txt user-data meta-data network-config; do
        mcopy -n -i "$boot" "::$file" "$work/boot/$file" 2>/dev/null || true
    done
}

close_partitions() {
    for file in "$work"/boot/*; do
        mcopy -o -i "$boot" "$file" :: || die "$file cannot be written to the boot file system."
    done
    sync
    umount "$work/root"
    for loop in $loops; do
        losetup -d "$loop"
    done
    loops=''
}

# --- What the first boot finds -----------------------------------------------

prepare_files() {
    files=$work/root
    check_bundle_fits
    mkdir -p "$files$card"
    (cd "$bundle" && tar -cf - .) | tar -xf - -C "$files$card"
    chown -R 0:0 "$files$card"
    install -m 600 "$config" "$files$card/first.toml"
    install -d -m 750 "$files/etc/outstation"
    install -d -m 700 "$files/etc/outstation/secrets"
    if [ -n "$secret_files" ]; then
        for file in "$secret_files"/*; do
            [ -f "$file" ] || continue
            install -m 600 "$file" "$files/etc/outstation/secrets/"
        done
    fi
    enable_at_boot outstation-first-boot.service "$root/deploy/outstation-first-boot.service"
    mkdir -p "$files/var/lib/outstation"
    printf '\nLABEL=outstation /var/lib/outstation ext4 %s,nofail,x-systemd.device-timeout=20s 0 2\n' "$OPTIONS_OF_BUFFER" >>"$files/etc/fstab"
    keep_partitions
    prepare_watchdog
    [ -z "$uart" ] || prepare_uart
    [ -z "$less_wear" ] || spare_the_card
    [ -z "$wifi" ] || switch_wifi_on
    if [ -f "$work/boot/user-data" ] || [ -d "$files/etc/cloud" ]; then
        prepare_cloud_init
    else
        prepare_directly
    fi
}

# A bundle for another Python or architecture than the image's would show it at the first boot only, where nobody is.
check_bundle_fits() {
    version=$(readlink "$files/usr/bin/python3" | sed -n 's/^python//p')
    [ -n "$version" ] || return 0
    tag=cp$(echo "$version" | tr -d .)
    [ -n "$(find "$bundle/wheels" -name "*-$tag-$tag-*.whl")" ] ||
        die "$bundle is not for Python $version, which $image has." "Remedy: ./install.sh bundle --arch ARCH --python $version"
    arch=$(architecture_of "$files/usr/bin/python$version")
    [ -z "$arch" ] || [ -n "$(find "$bundle/wheels" -name "pydantic_core-*_$arch.whl")" ] ||
        die "$bundle is not for $arch, which $image is for." "Remedy: ./install.sh bundle --arch $arch --python $version"
}

# Of a program, by the field e_machine of its ELF header; nothing for another one than ours.
architecture_of() {
    case $(od -An -tx1 -j 18 -N 1 "$1" 2>/dev/null | tr -d ' ') in
    b7) echo aarch64 ;;
    28) echo armv7l ;;
    3e) echo x86_64 ;;
    esac
}

enable_at_boot() {
    install -D -m 644 "$2" "$files/etc/systemd/system/$1"
    mkdir -p "$files/etc/systemd/system/multi-user.target.wants"
    ln -sfn "../$1" "$files/etc/systemd/system/multi-user.target.wants/$1"
}

# Raspberry Pi OS makes its root partition as large as the card at the first boot; the buffer lies behind it.
keep_partitions() {
    [ -f "$work/boot/cmdline.txt" ] || return 0
    sed -i 's# init=/usr/lib/raspberrypi-sys-mods/firstboot##; s# init=/usr/lib/raspi-config/init_resize.sh##; s# resize\b##' \
        "$work/boot/cmdline.txt"
    rm -f "$files/etc/systemd/system/multi-user.target.wants/rpi-resize.service"
}

# Raspberry Pi OS keeps the radio off until somebody says in which country it is.
switch_wifi_on() {
    if [ -f "$files/var/lib/NetworkManager/NetworkManager.state" ]; then
        sed -i 's/^WirelessEnabled=false/WirelessEnabled=true/' "$files/var/lib/NetworkManager/NetworkManager.state"
    fi
    for file in "$files"/var/lib/systemd/rfkill/*:wlan; do
        [ ! -f "$file" ] || echo 0 >"$file"
    done
}

add_to_config_txt() {
    printf '\n[all]\n%s\n' "$1" >>"$work/boot/config.txt"
}

prepare_watchdog() {
    add_to_config_txt 'dtparam=watchdog=on'
    mkdir -p "$files/etc/systemd/system.conf.d"
    printf '[Manager]\nRuntimeWatchdogSec=15\n' >"$files/etc/systemd/system.conf.d/watchdog.conf"
}

prepare_uart() {
    # The good UART is Bluetooth's on most models, unless that is given the small one.
    if [ -f "$bundle/wheels/.ble" ] || ls "$bundle"/wheels/bleak-* >/dev/null 2>&1; then
        add_to_config_txt 'enable_uart=1
dtoverlay=miniuart-bt'
    else
        add_to_config_txt 'enable_uart=1
dtoverlay=disable-bt'
    fi
    sed -i 's/console=\(serial0\|ttyAMA0\|ttyS0\),[0-9]* *//' "$work/boot/cmdline.txt"
    ln -sfn /dev/null "$files/etc/systemd/system/serial-getty@ttyAMA0.service"
    ln -sfn /dev/null "$files/etc/systemd/system/serial-getty@ttyS0.service"
}

spare_the_card() {
    mkdir -p "$files/etc/systemd/journald.conf.d"
    printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\n' >"$files/etc/systemd/journald.conf.d/volatile.conf"
    for unit in dphys-swapfile.service rpi-setup-loop@var-swap.service; do
        ln -sfn /dev/null "$files/etc/systemd/system/$unit"
    done
    sed -i 's/^\([^#][^ \t]*[ \t]*\/[ \t].*\)defaults,noatime/\1defaults,noatime,lazytime,commit=30/' "$files/etc/fstab"
}

prepare_cloud_init() {
    {
        echo '#cloud-config'
        echo 'growpart: { mode: "off" }'
        echo 'resize_rootfs: false'
        [ -z "$hostname" ] || printf 'hostname: %s\nmanage_etc_hosts: true\n' "$hostname"
        if [ -n "$user" ]; then
            printf 'ssh_pwauth: false\nenable_ssh: true\nusers:\n'
            printf '  - name: %s\n    groups: [adm, sudo, dialout]\n    shell: /bin/bash\n    lock_passwd: true\n' "$user"
            printf '    sudo: "ALL=(ALL) NOPASSWD:ALL"\n    ssh_authorized_keys:\n      - "%s"\n' "$(yaml "$(head -n 1 "$ssh_key")")"
        fi
    } >"$work/boot/user-data"
    [ -f "$work/boot/meta-data" ] || echo 'instance-id: outstation' >"$work/boot/meta-data"
    if [ -n "$wifi" ]; then
        {
            printf 'network:\n  version: 2\n  wifis:\n    wlan0:\n      dhcp4: true\n      optional: true\n'
            [ -z "$wifi_country" ] || printf '      regulatory-domain: "%s"\n' "$wifi_country"
            printf '      access-points:\n        "%s":\n          password: "%s"\n' "$(yaml "$wifi")" "$(yaml "$wifi_password")"
        } >"$work/boot/network-config"
    fi
}

# Inside of double quotes.
yaml() {
    printf '%s' "$1" | sed 's/[\\"]/\\&/g'
}

# As a value of a key file of NetworkManager, which takes backslashes for escapes and drops spaces at either end.
keyfile() {
    printf '%s' "$1" | sed 's/\\/&&/g; s/ /\\s/g'
}

# Without cloud-init (Bookworm and before) the same is put where it belongs.
prepare_directly() {
    if [ -n "$hostname" ]; then
        echo "$hostname" >"$files/etc/hostname"
        sed -i '/^127\.0\.1\.1/d' "$files/etc/hosts" 2>/dev/null || true
        printf '127.0.1.1\t%s\n' "$hostname" >>"$files/etc/hosts"
    fi
    if [ -n "$user" ]; then
        # A user without a password: `*` is no password's hash.
        echo "$user:*" >"$work/boot/userconf.txt"
        : >"$work/boot/ssh"
        mkdir -p "$files/etc/ssh/authorized" "$files/etc/ssh/sshd_config.d" "$files/etc/sudoers.d"
        install -m 644 "$ssh_key" "$files/etc/ssh/authorized/$user"
        printf 'AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized/%%u\nPasswordAuthentication no\n' \
            >"$files/etc/ssh/sshd_config.d/outstation.conf"
        echo "$user ALL=(ALL) NOPASSWD:ALL" >"$files/etc/sudoers.d/010_$user"
        chmod 440 "$files/etc/sudoers.d/010_$user"
    fi
    if [ -n "$wifi" ]; then
        mkdir -p "$files/etc/NetworkManager/system-connections"
        (
            umask 077
            printf '[connection]\nid=wifi\ntype=wifi\n\n[wifi]\nmode=infrastructure\nssid=%s\n\n' "$(keyfile "$wifi")"
            printf '[wifi-security]\nkey-mgmt=wpa-psk\npsk=%s\n\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n' "$(keyfile "$wifi_password")"
        ) >"$files/etc/NetworkManager/system-connections/wifi.nmconnection"
        chmod 600 "$files/etc/NetworkManager/system-connections/wifi.nmconnection"
        if [ -n "$wifi_country" ]; then
            sed -i "s/\$/ cfg80211.ieee80211_regdom=$wifi_country/" "$work/boot/cmdline.txt"
        fi
    fi
}
