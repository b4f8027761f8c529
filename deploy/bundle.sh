# shellcheck shell=sh
# shellcheck disable=SC2154  # install.sh, which sources this, sets root, venv and the like
# The command bundle: everything that a device needs, in a folder, for where there is no internet. Sourced by install.sh.
#
#   FOLDER/install.sh, deploy/, requirements/ ...   what the device runs
#   FOLDER/wheels/                                  packages for one architecture and one Python, and outstation's own
#   FOLDER/extras                                   those that it was made with
#   FOLDER/SHA256SUMS                               of all of it; checked before anything of it is used

parse_bundle_options() {
    arch=
    bundle_python=3.11
    with=
    bundle=
    while [ $# -gt 0 ]; do
        case $1 in
        --arch | --python | --with)
            [ $# -ge 2 ] || refuse_usage "$1 takes an argument"
            case $1 in
            --arch) arch=$2 ;;
            --python) bundle_python=$2 ;;
            --with) with=$2 ;;
            esac
            shift
            ;;
        -*) refuse_usage "bundle does not know $1" ;;
        *)
            [ -z "$bundle" ] || refuse_usage "bundle takes one folder, not $bundle and $1"
            bundle=$1
            ;;
        esac
        shift
    done
    # Newest first: what a device's C library can take, pip finds out there.
    case $arch in
    aarch64 | x86_64) platforms="manylinux_2_35 manylinux_2_34 manylinux_2_31 manylinux_2_28 manylinux_2_26 manylinux_2_24 manylinux_2_17 manylinux2014" ;;
    armv7l) platforms="manylinux_2_35 manylinux_2_34 manylinux_2_31 manylinux_2_28 manylinux_2_24 manylinux_2_17 manylinux2014" ;;
    '') refuse_usage 'bundle wants --arch aarch64, armv7l or x86_64' ;;
    *) die "--arch $arch: there are aarch64, armv7l and x86_64." ;;
    esac
    case $bundle_python in
    3.11 | 3.12 | 3.13) ;;
    *) die "--python $bundle_python: 3.11 (Debian 12), 3.12 and 3.13 (Debian 13) are supported." ;;
    esac
    sort_extras
    check_extras
    [ -n "$bundle" ] || bundle=outstation-$(project_version)-$arch-python$bundle_python
    [ ! -e "$bundle" ] || die "$bundle is there already." 'Remedy: move it away, or name another folder.'
}

command_bundle() {
    parse_bundle_options "$@"
    set_up demo
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    made=$work/bundle
    mkdir -p "$made/wheels"
    cp -R "$root/deploy" "$root/requirements" "$root/install.sh" "$root/README.md" "$root/pyproject.toml" "$made/"
    echo "$with" >"$made/extras"
    quietly 'installing the build tools' "$venv/bin/python" -m pip --quiet --disable-pip-version-check --no-input install \
        --require-hashes --only-binary :all: --target "$work/tools" -r "$root/requirements/build.lock" || install_failed
    quietly 'building outstation' env PYTHONPATH="$work/tools" "$venv/bin/python" -m pip --quiet \
        --disable-pip-version-check --no-input wheel --no-index --no-deps --no-build-isolation \
        --wheel-dir "$made/wheels" "$root" || die 'outstation could not be built; the reason stands above.'
    set -- -r "$root/requirements/run.lock" -r "$root/requirements/pip.lock"
    for extra in $(echo "$with" | tr ',' ' '); do
        set -- "$@" -r "$root/requirements/extras/$extra.lock"
    done
    for platform in $platforms; do
        set -- "$@" --platform "${platform}_$arch"
    done
    quietly "fetching the packages for $arch, Python $bundle_python" \
        "$venv/bin/python" -m pip --quiet --disable-pip-version-check --no-input download --require-hashes \
        --only-binary :all: --no-deps --implementation cp --python-version "$bundle_python" --dest "$made/wheels" "$@" ||
        die "the packages for $arch could not be fetched; pip says why above." ${clock_trouble:+"$clock_trouble"}
    (cd "$made" && find . -type f -print | LC_ALL=C sort | xargs sha256sum) >"$work/sums"
    mv "$work/sums" "$made/SHA256SUMS"
    mkdir -p "$(dirname "$bundle")"
    mv "$made" "$bundle"
    say "made $bundle ($(du -sm "$bundle" | cut -f 1) MB): copy it to the device, and there: sudo $(basename "$bundle")/install.sh"
}
