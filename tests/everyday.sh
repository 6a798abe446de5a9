#!/bin/bash
# The programs people use every day, each at work on a real mount and checked by its own means: when it is
# done, after an unmount and a remount, and after the daemon was killed. Then everything is removed.
#
#   tests/everyday.sh [--keep] [NAME…]     NAME: a script of tests/everyday/; all of them, if none is given
#
# A script that lacks its program, or the network, says so and fails. $LSMFS names a built program to use
# instead of building one; $TMPDIR (or /var/tmp) is where it works. Some need root.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."
scripts=$PWD/tests/everyday

fail() {
    echo "everyday.sh: $*" >&2
    exit 1
}

keep=
if [ "${1:-}" = --keep ]; then
    keep=yes
    shift
fi
if [ $# = 0 ]; then
    for script in "$scripts"/*.sh; do
        name=$(basename "$script" .sh)
        if [ "$name" != lib ]; then set -- "$@" "$name"; fi
    done
fi
for name; do
    [ -e "$scripts/$name.sh" ] || fail "there is no $scripts/$name.sh"
done

if [ -z "${LSMFS:-}" ]; then
    cargo build --release --quiet --bin lsmfs </dev/null
    LSMFS=${CARGO_TARGET_DIR:-$PWD/target}/release/lsmfs
fi
export LSMFS
scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/lsmfs-everyday.XXXXXX")
scratch=$(cd "$scratch" && pwd -P)
chmod 755 "$scratch"
mkdir "$scratch/disk"
# The mount, the mount of a second store, and the disk below.
export DIR=$scratch/dir OTHER=$scratch/other DISK=$scratch/disk

mount_all() {
    "$LSMFS" mount "$scratch/store" "$DIR"
    "$LSMFS" mount "$scratch/store-2" "$OTHER"
}

umount_all() {
    for of in "$DIR" "$OTHER"; do
        ! mountpoint -q "$of" || "$LSMFS" umount "$of" || return 1
    done
}

clean_up() {
    status=$?
    trap - EXIT
    if [ -n "${running:-}" ]; then
        kill "$running" 2>/dev/null || true
        wait "$running" || true
    fi
    umount_all || for of in "$DIR" "$OTHER"; do
        "$LSMFS" umount --lazy "$of" || true
        status=1
    done
    if [ -n "$keep" ]; then
        echo "kept: $scratch"
    else
        rm -rf --one-file-system "$scratch"
    fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

failed=() running=

# step NAME STEP: one function of a script; what it prints is shown if it fails.
step() {
    local start=$SECONDS
    # It gets a process group of its own, all of which ends with it.
    timeout -k 10 1800 bash -euo pipefail "$scripts/$1.sh" "$2" >"$scratch/$1.out" 2>&1 </dev/null &
    running=$!
    if wait "$running"; then
        echo "$1: $2: fine ($((SECONDS - start)) s)"
    else
        sed "s/^/  $1: /" "$scratch/$1.out" | tail -n 40
        echo "$1: $2: FAILED"
        failed+=("$1 $2")
    fi
    running=
}

mount_all
for name; do
    mkdir "$DIR/$name" "$OTHER/$name" "$DISK/$name"
    step "$name" work
    step "$name" check
done
echo "-- after an unmount and a remount"
umount_all
mount_all
for name; do step "$name" check; done
echo "-- after kill -9"
kill -9 "$(sed -n 's/^pid //p' "$scratch/store/LOCK")"
"$LSMFS" mount "$scratch/store" "$DIR"
for name; do step "$name" check; done

find "$DIR" "$OTHER" -mindepth 1 -delete
[ -z "$(ls -A "$DIR" "$OTHER" | grep -v :$)" ] || fail "something is left after find -delete"
if grep -hE 'WARN|ERROR|panicked' "$scratch"/store*/daemon.log; then failed+=("the daemon's log"); fi
[ ${#failed[@]} = 0 ] || fail "failed: $(printf '%s; ' "${failed[@]}")"
echo "all fine: $*"
