#!/bin/sh
# fsx: random operations on one file, each read compared with what must be there. Small and large files, with
# and without mmap, side by side in one mount, while something else in it keeps flushes and compactions busy.
#
#   tests/judges/fsx.sh [OPERATIONS [SEED…]]
#
# OPERATIONS is how many each of the four runs of a seed makes.
# shellcheck source=tests/judges/lib.sh
. "$(dirname "$0")/lib.sh"

operations=${1:-2000}
[ $# = 0 ] || shift
[ $# -gt 0 ] || set -- 1 2 3
fsx=$(judge fsx 0.3.2)

# Fills memtables, removes what was written, and so on until it is told to stop.
churn() {
    while [ ! -e "$scratch/stop" ]; do
        head -c 12582912 /dev/urandom >"$scratch/dir/churn.new"
        mv "$scratch/dir/churn.new" "$scratch/dir/churn.$1"
        set -- $((($1 + 1) % 3))
        sleep 1
    done
}

stop_churn() {
    : >"$scratch/stop"
    wait "$churner" || true
}

# fsx never unmaps what it maps, and each truncation has the kernel look at all mappings of the file: a run of a
# million operations with mmap would take days on any file system. So many go into one run:
piece=50000

# A name, the file's size, an operation's size, the weight of mmap, a seed: all operations, in pieces with seeds of
# their own.
judged() {
    sed "s/SIZE/$2/; s/OPERATION/$3/; s/MAP/$4/" "$judges/fsx.toml" >"$scratch/$1.toml"
    left=$operations
    seed=$5
    while [ "$left" -gt 0 ]; do
        count=$((left < piece ? left : piece))
        left=$((left - count))
        mkdir "$scratch/$1-$seed"
        if ! "$fsx" -f "$scratch/$1.toml" -N "$count" -S "$seed" -P "$scratch/$1-$seed" "$scratch/dir/$1-$seed" \
            >"$scratch/$1-$seed.out" 2>&1; then
            tail -n 40 "$scratch/$1-$seed.out" >&2
            fail "$1, seed $seed: found faults in $count operations"
        fi
        rm -r "$scratch/dir/$1-$seed" "$scratch/$1-$seed"
        seed=$((seed + 1000))
    done
    echo "$1, seed $5: $operations operations, no fault"
}

start_mount
churn 0 &
churner=$!
clean_up=stop_churn
for seed in "$@"; do
    running=
    judged small-mapped 20000 4000 10 "$seed" & running="$running $!"
    judged small 20000 4000 0 "$seed" & running="$running $!"
    judged large-mapped 4000000 131072 10 "$seed" & running="$running $!"
    judged large 4000000 131072 0 "$seed" & running="$running $!"
    faults=
    for run in $running; do
        wait "$run" || faults=yes
    done
    [ -z "$faults" ] || fail "seed $seed found faults"
    mountpoint -q "$scratch/dir" || fail "the mount is gone"
done
clean_up=:
stop_churn
flushes=$(sed -n 's/^ *flushes: \([0-9]*\),.*/\1/p' "$scratch/dir/.lsmfs/stats")
[ "${flushes:-0}" -gt 0 ] || fail "nothing was flushed meanwhile"
echo "flushes meanwhile: $flushes"
