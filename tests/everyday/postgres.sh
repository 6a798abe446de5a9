# A PostgreSQL cluster: initdb with checksums, pgbench, stops of all sorts, recovery, and its own checkers.
# As root, the cluster is the user postgres's.
. "$(dirname "$0")/lib.sh"
PATH=$PATH:$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
clients=4 transactions=${EVERYDAY_TRANSACTIONS:-500}

as_owner() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- env PATH="$PATH" "$@"; else "$@"; fi
}

start() { as_owner pg_ctl -D "$here/cluster" -l "$here/log" -w -t 120 start; }
stop() { as_owner pg_ctl -D "$here/cluster" -w -m "$1" stop; }
ask() { as_owner psql -h "$disk" -At -c "$1" postgres; }
bench() { as_owner pgbench -h "$disk" "$@" postgres; }

work() {
    need initdb postgresql
    trap 'stop immediate || true' EXIT
    if [ "$(id -u)" = 0 ]; then chown postgres . "$disk"; fi
    as_owner initdb -D "$here/cluster" --data-checksums -E UTF8 --no-instructions
    echo "listen_addresses = ''
unix_socket_directories = '$disk'
wal_recycle = on
checkpoint_timeout = 30s" >>cluster/postgresql.conf
    start
    bench -i -q -s 5
    bench -n -c $clients -t "$transactions"
    ask "create table made as select g as n, repeat(md5(g::text), 50) as s from generate_series(1, 20000) g"
    ask "create index on made (s)"
    ask checkpoint
    bench -n -c $clients -t "$transactions"
    # As if it had crashed: what was committed is in its log.
    stop immediate
    start
    ask "vacuum full made"
    stop fast
    trap - EXIT
}

check() {
    trap 'stop immediate || true' EXIT
    start
    sums=$(ask "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history),
        (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history),
        (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history),
        (select count(*) from pgbench_history), (select count(*) from pgbench_accounts)")
    history=$((2 * clients * transactions))
    [ "$sums" = "t|t|t|$history|500000" ] || fail "$sums"
    [ "$(ask "select count(*), min(length(s)), max(length(s)) from made")" = '20000|1600|1600' ]
    as_owner pg_amcheck -h "$disk" --install-missing --all --heapallindexed --rootdescend
    as_owner pg_dump -h "$disk" postgres | grep -c 'dump complete'
    stop fast
    trap - EXIT
    as_owner pg_checksums --check -D "$here/cluster"
}

"$1"
