#!/bin/sh
# A long run: soak.sh SECONDS [DIR]. Programs write, read, list, rename and remove files of all sizes in a mount, and
# take and drop snapshots and forks, while the daemon's memory is sampled; then the store is checked.
# LSMFS: the program (default: target/release/lsmfs). SOAK_RSS_MB: the most memory it may take (default 1024: memtables
# 256 MiB, block cache 128 MiB, indexes, a million known files, and what the allocator keeps). SOAK_REST: the seconds
# that each program rests after a round (default 0), for a machine that has other work. SOAK_SAMPLES: a file that gets
# each sample: seconds since the start, MiB, threads, open files.
set -eu
cd "$(dirname "$0")/.."
seconds=$1
base=$(mktemp -d "${2:-/tmp}/soak.XXXXXX")
lsmfs=${LSMFS:-$PWD/target/release/lsmfs}
limit=${SOAK_RSS_MB:-1024}
rest=${SOAK_REST:-0}
samples=${SOAK_SAMPLES:-/dev/null}
mkdir "$base/m"
"$lsmfs" mount "$base/store" "$base/m"
pid=$(sed -n 's/^pid //p' "$base/store/LOCK")
clean_up() {
    touch "$base/stop"
    wait
    if mountpoint -q "$base/m"; then "$lsmfs" umount "$base/m"; fi
    rm -rf "$base"
}
trap clean_up EXIT

head -c 3000000 /dev/urandom >"$base/noise"

# Small files, written anew, moved and removed.
small() {
    n=0
    while [ ! -e "$base/stop" ]; do
        d="$base/m/small$1/$((n % 20))"
        mkdir -p "$d"
        for i in 1 2 3 4 5 6 7 8 9 10; do
            tail -c +$((n * 37 % 2000000)) "$base/noise" | head -c $((n * i % 6000)) >"$d/f$i" || return 1
        done
        mv "$d/f1" "$d/moved"
        rm -f "$d/f2"
        n=$((n + 1))
        if [ $((n % 100)) = 0 ]; then rm -rf "$base/m/small$1"; fi
        sleep "$rest"
    done
    echo "small files: $n rounds"
}

# Large files, patched in the middle and synced.
large() {
    n=0
    while [ ! -e "$base/stop" ]; do
        f="$base/m/large$((n % 8))"
        cat "$base/noise" "$base/noise" >"$f"
        dd if="$base/noise" of="$f" bs=5000 count=20 seek=$((n % 500)) conv=notrunc,fsync status=none
        cmp -s -n 1000 "$f" "$base/noise" || [ $((n % 500)) = 0 ]
        n=$((n + 1))
        sleep "$rest"
    done
    echo "large files: $n rounds"
}

# Listings and reads of everything.
readers() {
    n=0
    while [ ! -e "$base/stop" ]; do
        find "$base/m" -type f -size -20k -exec cat {} + >/dev/null 2>&1 || true
        tar cf - -C "$base/m" . >/dev/null 2>&1 || true
        n=$((n + 1))
        sleep "$rest"
    done
    echo "readers: $n rounds"
}

# Snapshots that are read, and forks that are written to; each lives for some rounds.
volumes() {
    n=0
    while [ ! -e "$base/stop" ]; do
        "$lsmfs" snapshot create "$base/store" main "s$n" || return 1
        "$lsmfs" fork "$base/store" main "f$n" || return 1
        echo "$n" | "$lsmfs" put --volume "f$n" "$base/store" "small-a/round" || return 1
        ls -lR "$base/m/.lsmfs/snapshots/s$n" >/dev/null || return 1
        if [ "$n" -ge 3 ]; then
            "$lsmfs" snapshot delete "$base/store" main "s$((n - 3))" || return 1
            "$lsmfs" volume delete "$base/store" "f$((n - 3))" || return 1
        fi
        n=$((n + 1))
        sleep "$rest"
    done
    echo "snapshots and forks: $n rounds"
}

small a &
small b &
large &
readers &
volumes &
end=$(($(date +%s) + seconds))
most=0
while [ "$(date +%s)" -lt "$end" ]; do
    sleep 5
    rss=$(awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status")
    threads=$(awk '/^Threads/ {print $2}' "/proc/$pid/status")
    files=$(find "/proc/$pid/fd" -mindepth 1 | wc -l)
    echo "$(($(date +%s) - end + seconds)) $rss $threads $files" >>"$samples"
    if [ "$rss" -gt "$most" ]; then
        most=$rss
        echo "$(($(date +%s) - end + seconds)) s: $rss MiB"
    fi
    if [ "$rss" -gt "$limit" ]; then
        echo "the daemon has $rss MiB, more than $limit" >&2
        exit 1
    fi
done
touch "$base/stop"
wait
cat "$base/m/.lsmfs/stats" | sed -n '1,12p'
"$lsmfs" umount "$base/m"
"$lsmfs" check "$base/store"
echo "at most $most MiB in $seconds s"
