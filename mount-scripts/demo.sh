#!/bin/bash
# Shows lsmfs at work: builds it, mounts a store in a temporary place, creates, lists, removes,
# unmounts and mounts again, and says at each step what happens in the store. Leaves nothing behind.
#
# usage: mount-scripts/demo.sh [--quick]     (--quick: without the part that fills a memtable)
#
# $LSMFS names a built program to use instead of building one; $TMPDIR is where the store goes.
#
# shellcheck disable=SC2016  # commands are shown as they are typed, and expanded only when they run
set -euo pipefail
cd "$(dirname "$0")/.."

quick=
case "${1:-}" in
'') ;;
--quick) quick=yes ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' mount-scripts/demo.sh >&2
    exit 2
    ;;
esac

if [ -z "${LSMFS:-}" ]; then
    echo "Building lsmfs (the first time this takes a minute or two) ..."
    cargo build --release --quiet </dev/null
    LSMFS=$(cargo metadata --format-version 1 --no-deps --offline </dev/null |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/lsmfs
fi

place=$(mktemp -d "${TMPDIR:-/tmp}/lsmfs-demo.XXXXXX")
dir=$place/dir

clean_up() {
    status=$?
    cd /
    if grep -q " $dir fuse.lsmfs " /proc/self/mounts; then
        "$LSMFS" umount "$dir" || "$LSMFS" umount --lazy "$dir"
    fi
    rm -rf "$place"
    if [ "$status" != 0 ]; then
        echo "demo.sh failed (status $status)" >&2
    fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# The commands are shown as one would type them after `cd` to the temporary place.
lsmfs() { "$LSMFS" "$@"; }
cd "$place"

step() { printf '\n== %s\n' "$*"; }
say() { printf '   %s\n' "$@"; }
try() {
    printf '$ %s\n' "$*"
    eval "$*" | sed 's/^/  /'
}

step 'Mount a store: both directories are made'
try lsmfs mount store dir
try df -h --output=source,fstype,size,target dir
say 'The store is a new log and a manifest; there is no table yet:'
try ls store

step 'Create: each change is a record in the log and in the memtable'
try mkdir -p dir/notes/2024
try 'echo "buy milk" > dir/notes/2024/monday'
try 'echo "call home" > dir/notes/2024/tuesday'
try 'for n in $(seq 1000); do echo "note $n" > dir/notes/$n; done'
say 'When a program was told that a file is written, its record is in the log, so even a killed' \
    'daemon loses nothing. The memtable holds the same records, sorted, in memory.'
try 'ls -l store | grep -v ^total'

step 'List: a directory is one range of keys, so this is one scan'
try 'ls dir/notes | wc -l'
try ls -l dir/notes/2024
try cat dir/notes/2024/monday

step 'Remove: a tombstone is written; what it hides goes later'
try rm dir/notes/2024/tuesday
try 'rm dir/notes/1*'
try 'ls dir/notes | wc -l'

if [ -z "$quick" ]; then
    step 'Fill a memtable: it is frozen, and a flush writes it out as a table of level 0'
    try 'dd if=/dev/urandom of=dir/big bs=1M count=80 status=none'
    say 'A table is complete, synced and named in the manifest before its memtable and log are dropped:'
    try 'for wait in $(seq 100); do ls store/*.sst 2>/dev/null && break; sleep 0.1; done'
    try 'ls -l store | grep -v ^total'
fi

step 'Unmount: the rest is flushed to tables, and the store is closed when this returns'
try lsmfs umount dir
say 'A path is a key, the contents are its value. Without a mount:'
try lsmfs get store notes/2024/monday
try lsmfs scan store notes/2024 notes/203
try 'echo "see you" | lsmfs put store notes/2024/wednesday'
say 'What the store is made of now: the memtable is empty, each flush left a table, and each table' \
    'knows its range of keys, so that a listing opens only those that overlap it:'
try lsmfs stats store

step 'Mount again (a remount): everything is there'
try lsmfs mount store dir
try 'ls dir/notes | wc -l'
try 'grep -r "" dir/notes/2024'

step 'Kill the daemon: the dead mount is cleared by the next mount, and nothing is lost'
try 'echo "written before the kill" > dir/survivor'
try 'kill -9 "$(sed -n "s/^pid //p" store/LOCK)"'
try 'cat dir/survivor 2>&1 || true'
try lsmfs mount store dir
try cat dir/survivor
try lsmfs umount dir
