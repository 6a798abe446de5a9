#!/bin/sh
# Runs every fuzz target (or those named) for SECONDS: run.sh SECONDS [TARGET…]. Prints a line each; exit status 1
# if one found something (see README.md).
set -eu
cd "$(dirname "$0")/.."
seconds=$1
shift
[ $# -gt 0 ] || set -- $(ls fuzz/seeds)
export RUSTC_BOOTSTRAP=1
cargo fuzz build -s none
triple=$(rustc -vV | sed -n 's/^host: //p')
found=0
for target; do
    log=$(mktemp)
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    status=0
    "fuzz/target/$triple/release/$target" "fuzz/corpus/$target" "fuzz/seeds/$target" \
        -artifact_prefix="fuzz/artifacts/$target/" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
        -print_final_stats=1 >"$log" 2>&1 || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
    echo "$target: ${runs:-0} executions, ${covered:-0} edges$([ $status -eq 0 ] || echo ", FOUND SOMETHING: $log")"
    [ $status -eq 0 ] && rm -f "$log" || found=1
done
exit $found
