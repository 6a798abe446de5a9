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

# fsx never unmaps what it maps, which is less than half of its operations.
max_maps=/proc/sys/vm/max_map_count
allowed_maps=$(cat "$max_maps")
needed_maps=$((operations / 2))
allow_maps() {
    [ "$allowed_maps" -ge "$needed_maps" ] || echo "$1" >"$max_maps" ||
        fail "$operations operations need more mappings than $max_maps allows: run it as root"
}

clean_all() {
    stop_churn
    allow_maps "$allowed_maps"
}

# One run: a name, the file's size, an operation's size, the weight of mmap, a seed.
judged() {
    sed "s/SIZE/$2/; s/OPERATION/$3/; s/MAP/$4/" "$judges/fsx.toml" >"$scratch/$1.toml"
    mkdir "$scratch/$1-$5"
    if "$fsx" -f "$scratch/$1.toml" -N "$operations" -S "$5" -P "$scratch/$1-$5" "$scratch/dir/$1-$5" \
        >"$scratch/$1-$5.out" 2>&1; then
        echo "$1, seed $5: $operations operations, no fault"
    else
        tail -n 40 "$scratch/$1-$5.out" >&2
        fail "$1, seed $5: found faults"
    fi
}

start_mount
churn 0 &
churner=$!
clean_up=clean_all
allow_maps "$needed_maps"
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
stop_churn
flushes=$(sed -n 's/^ *flushes: \([0-9]*\),.*/\1/p' "$scratch/dir/.lsmfs/stats")
[ "${flushes:-0}" -gt 0 ] || fail "nothing was flushed meanwhile"
echo "flushes meanwhile: $flushes"
