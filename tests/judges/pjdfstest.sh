#!/bin/sh
# pjdfstest: what POSIX says of file names, attributes and errors, asked as root and as other users on a
# mount, then once more on a mount that is made read-only. Needs root: without it this fails, for nothing
# would have been tested.
# shellcheck source=tests/judges/lib.sh
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || fail "needs root: run it as root (it mounts, remounts and changes users)"
pjdfstest=$(judge pjdfstest 0.2.2)

# Another file system, for what crosses them.
other=
for candidate in /dev/shm /run /tmp; do
    if [ -d "$candidate" ] && [ "$(stat -c %d "$candidate")" != "$(stat -c %d /)" ]; then
        other=$candidate
        break
    fi
done
[ -n "$other" ] || fail "no second file system found: mount a tmpfs on /dev/shm"

# `mount -o remount` looks for the helper here only.
helper=/sbin/mount.fuse.lsmfs
if [ ! -e "$helper" ]; then
    install -m 755 mount-scripts/mount.fuse.lsmfs "$helper"
    clean_up="rm -f $helper"
fi

chmod 755 "$scratch"
start_mount
chmod 755 "$scratch/dir"
group=nogroup
getent group nogroup >/dev/null || group=nobody
sed "s/NOBODY_GROUP/$group/" "$judges/pjdfstest.toml" >"$scratch/all.toml"
sed 's/^allow_remount = false/allow_remount = true/' "$scratch/all.toml" >"$scratch/remount.toml"

# Runs the tests; $1 is the configuration's name. Prints what is not well, and the summary.
judged() {
    config=$1
    shift
    status=0
    "$pjdfstest" -c "$scratch/$config.toml" -p "$scratch/dir" -s "$other" "$@" >"$scratch/$config.out" 2>&1 ||
        status=$?
    mountpoint -q "$scratch/dir" || fail "the mount is gone"
    grep -E '(FAILED|skipped)$|^Summary' "$scratch/$config.out" || true
    if [ "$status" != 0 ]; then
        cat "$scratch/$config.out" >&2
        fail "pjdfstest found faults"
    fi
}

judged all
# A tmpfs skips the same: thirteen that remount, which come next, and the one that needs a known LINK_MAX.
skipped=$(grep -E 'skipped$' "$scratch/all.out" | grep -vE '::(erofs_named|erofs_new_file)|^link::link_count_max' || true)
[ -z "$skipped" ] || fail "skipped: $skipped"
# In a process of their own: tests before them leave files open, which forbids a remount on any file system.
judged remount erofs
grep -q ', 0 skipped, 13 passed' "$scratch/remount.out" || fail "not all read-only tests ran"
