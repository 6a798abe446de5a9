# shellcheck shell=sh disable=SC2034
# What the judges share; sourced. A judge is a test program from elsewhere that knows nothing of lsmfs.
#
# Afterwards: $lsmfs is the program under test, $scratch a directory of this run's own, with a store
# mounted on $scratch/dir by start_mount. All of it is gone at the end, however that comes.
set -eu
cd "$(dirname "$0")/../.."
judges=$(pwd)/tests/judges
exec </dev/null

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# Installs version $2 of the program $1 from crates.io, if it is not there; prints its path.
judge() {
    tools=${CARGO_TARGET_DIR:-$(pwd)/target}/judges
    if ! "$tools/bin/$1" --version 2>/dev/null | grep -qF "$2"; then
        CARGO_TARGET_DIR=$tools/build cargo install --quiet --locked --root "$tools" --version "$2" "$1" >&2
        rm -rf "$tools/build"
    fi
    echo "$tools/bin/$1"
}

if [ -z "${LSMFS:-}" ]; then
    cargo build --quiet --bin lsmfs
    LSMFS=${CARGO_TARGET_DIR:-$(pwd)/target}/debug/lsmfs
fi
lsmfs=$LSMFS
scratch=$(mktemp -d)
scratch=$(cd "$scratch" && pwd -P)
clean_up=:

end() {
    status=$?
    trap - EXIT
    $clean_up
    if mountpoint -q "$scratch/dir"; then
        "$lsmfs" umount "$scratch/dir" || "$lsmfs" umount --lazy "$scratch/dir" || status=1
    fi
    if [ "$status" != 0 ] && [ -e "$scratch/store/daemon.log" ]; then
        sed 's/^/daemon: /' "$scratch/store/daemon.log" >&2
    fi
    rm -rf "$scratch"
    exit "$status"
}
trap end EXIT
trap 'exit 1' INT TERM

# Mounts a new store.
start_mount() {
    "$lsmfs" mount "$scratch/store" "$scratch/dir"
    mountpoint -q "$scratch/dir" || fail "nothing is mounted"
}
