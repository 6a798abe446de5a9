#!/bin/bash
# Real programs at real work in a mounted store, each result checked by its own means:
#   1  a source tree of 10,000 files and more: unpacked with tar, compared, listed, copied, removed
#   2  git: 200 commits, a clone, fsck
#   3  cargo: a small project built, changed, built again and run
#   4  SQLite: 20,000 inserts in 2,000 transactions, with a rollback journal and with a WAL
#   5  a directory of 200,000 files: created, listed, every second one removed, listed again
#   6  kill -9 of the daemon in the middle of a loop that writes numbered files
# All of it in one mount. Everything is checked when it was done, after the kill and a remount, after an
# unmount and a remount, and after another kill and a remount; then everything is deleted.
#
# Prints the times beside those of the same work on the disk that the store lies on (by turns, in the
# same run), what the checks took, and what the daemon and the store took. Exit status 1 if a check failed.
#
# usage: benches/real-work.sh [--quick] [--keep]
#   --quick   a small version of all of it, without network, for a test
#   --keep    leave the store, the copies and the results where they are, and say where
#
# Needs bash 5, cargo, git, python3 with sqlite3; network and 4 GiB on a disk (not tmpfs) unless --quick.
# $LSMFS names a built program to use instead of building one; $TMPDIR (or /var/tmp) is where it works.
# shellcheck disable=SC2012  # ls is what is tried here
set -euo pipefail
export LC_ALL=C

usage() { sed -n '2,/^set -/s/^# \{0,1\}//p' "$0"; }

quick='' keep=''
for option; do
    case $option in
    --quick) quick=yes ;;
    --keep) keep=yes ;;
    --help | -h) usage && exit ;;
    *) usage >&2 && exit 2 ;;
    esac
done

cd "$(dirname "$0")/.."

files_min=10000 commits=200 parts=40 inserts=20000 many=200000 kill_after=5000 quiet_seconds=10
if [ -n "$quick" ]; then
    files_min=50 commits=10 parts=3 inserts=400 many=2000 kill_after=200 quiet_seconds=1
fi

fail() {
    echo "real-work.sh: $*" >&2
    exit 1
}

for tool in cargo git python3; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done

if [ -z "${LSMFS:-}" ]; then
    echo "Building lsmfs ..." >&2
    cargo build --release --quiet </dev/null
    LSMFS=$(cargo metadata --format-version 1 --no-deps --offline </dev/null |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/lsmfs
fi

## The place: a store, its mount point, and a directory on the disk for the same work

place=$(mktemp -d "${TMPDIR:-/var/tmp}/lsmfs-real-work.XXXXXX")
store=$place/store
writer='' # the process that writes numbered files, while there is one

mounted() { grep -q " $place/mount fuse.lsmfs " /proc/self/mounts; }

daemon() { sed -n 's/^pid //p' "$store/LOCK"; }

# Takes away a mount that is in use or dead, and its daemon.
detach() {
    local pid
    pid=$(daemon)
    umount -l "$place/mount" 2>/dev/null || fusermount3 -uz "$place/mount" || true
    for _ in {1..100}; do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -9 "$pid"
}

clean_up() {
    status=$?
    trap - EXIT
    cd /
    if [ -n "$writer" ]; then kill "$writer" 2>/dev/null || true; fi
    if mounted && ! "$LSMFS" umount "$place/mount" 2>/dev/null; then detach; fi
    if [ -n "$keep" ]; then
        echo "kept: $place" >&2
    elif ! mounted; then
        rm -rf --one-file-system "$place"
    fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

if [ -z "$quick" ]; then
    case $(stat -f -c %T "$place") in
    tmpfs | ramfs) fail "$place is in memory: set TMPDIR to a directory on a disk" ;;
    esac
    [ "$(df --output=avail -k "$place" | tail -1)" -ge $((4 << 20)) ] || fail "$place: 4 GiB are needed"
fi
mkdir "$place/disk"

mount_store() {
    local start=$EPOCHREALTIME
    "$LSMFS" mount "$store" "$place/mount"
    mounted || fail "the mount is not there"
    mount_seconds+=("$(since "$start")")
}
mount_seconds=()

since() { awk "BEGIN { printf \"%.2f\", $EPOCHREALTIME - $1 }"; }

## Timing and the table

declare -A seconds           # label|column → seconds, or FAILED
declare -A memory store_size # label → MiB resident in the daemon, MiB on the disk
works=() checks=()           # labels in order
failures=0
mount_first='' # by turns

# run COLUMN SIDE LABEL COMMAND...: runs a command in a side's directory and notes the time it took.
run() {
    local column=$1 side=$2 label=$3 start status
    shift 3
    # So that nobody pays for what another one left to be written.
    if [ -z "$quick" ]; then sync -f "$place/disk"; fi
    start=$EPOCHREALTIME
    set +e
    (
        set -e
        cd "$place/$side"
        "$@"
    ) >"$place/output" 2>&1 </dev/null
    status=$?
    set -e
    # Without its mount, the directory below it would be tested.
    if [ "$side" = mount ] && ! { mounted && [ -e "/proc/$(daemon)" ]; }; then
        tail -n 20 "$store/daemon.log" >&2
        fail "the mount or its daemon is gone: $label ($column)"
    fi
    seconds["$label|$column"]=$(since "$start")
    if [ "$status" != 0 ]; then
        failures=$((failures + 1))
        seconds["$label|$column"]=FAILED
        echo "FAILED: $label ($column): status $status" >&2
        tail -n 20 "$place/output" | cut -c 1-300 | sed 's/^/    /' >&2
    fi
    printf '%-10s %-44s %8s\n' "$column" "$label" "${seconds["$label|$column"]}" >&2
}

# both LABEL COMMAND...: the same on both sides, by turns the one or the other first.
both() {
    local order=(disk mount) side
    if [ -n "$mount_first" ]; then order=(mount disk) mount_first=''; else mount_first=yes; fi
    for side in "${order[@]}"; do run "$side" "$side" "$@"; done
}

work() {
    works+=("$1")
    both "$@"
    memory["$1"]=$(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$(daemon)/status")
    store_size["$1"]=$(mebibytes "$store")
}

# Files come and go meanwhile: du says so, and counts the others.
mebibytes() { du -sm "$1" 2>/dev/null | cut -f 1 || true; }

# What the daemon holds now and held at most.
daemon_memory() {
    awk '/^VmRSS/ { now = $2 } /^VmHWM/ { most = $2 }
        END { printf "%d MiB resident, at most %d MiB\n", now / 1024, most / 1024 }' "/proc/$(daemon)/status"
}

## 1: a source tree

sources=$place/sources/tree
archive=$place/sources/tree.tar

# Well-known crates with many files, and all that they depend on.
fetch_sources() {
    mkdir -p "$place/sources/src"
    : >"$place/sources/src/lib.rs"
    cat >"$place/sources/Cargo.toml" <<'END'
[package]
name = "sources"
version = "0.0.0"
edition = "2021"

[dependencies]
chrono = "0.4"
clap = "4"
hyper = "1"
libgit2-sys = "0.18"
librocksdb-sys = "0.17"
nix = "0.30"
openssl-src = "300"
rayon = "1"
regex = "1"
rustix = "1"
sqlx-core = "0.8"
syn = "2"
tokio = "1"
zerocopy = { version = "0.8", features = ["derive"] }
END
    echo "Fetching crates from crates.io ..." >&2
    (cd "$place/sources" && cargo vendor --quiet --versioned-dirs tree >vendor.out) ||
        fail "the crates could not be fetched"
}

make_sources() {
    if [ -n "$quick" ]; then
        mkdir -p "$sources"
        cp -R src tests Cargo.toml Cargo.lock "$sources/"
    else
        fetch_sources
    fi
    ln -s Cargo.lock "$sources/a-link"
    mkdir "$sources/an-empty-directory"
    tar --format=posix -C "$place/sources" -cf "$archive" tree
    file_count=$(find "$sources" -type f | wc -l)
    [ "$file_count" -ge "$files_min" ] || fail "only $file_count files to work with"
    cd "$place/sources"
    found >"$place/found"
    listed >"$place/listed"
    cd - >/dev/null
}

# A directory's own size and link count are each file system's affair.
found() {
    find tree -type d -printf '%y %m %U:%G %T@ %p\n' -o -printf '%y %m %U:%G %T@ %n %s %p %l\n' | sort
}

listed() {
    ls -lR --time-style=full-iso tree | tr -s ' ' |
        sed -E -e '/^total [0-9]+$/d' -e 's/^(d[^ ]+) [0-9]+ ([^ ]+ [^ ]+) [0-9]+ /\1 \2 /'
}

unpack() { tar -xf "$archive"; }
compare_tree() { diff -r --no-dereference "$sources" tree; }
find_tree() { found | cmp - "$place/found"; }
list_tree() { listed | cmp - "$place/listed"; }
copy_tree() { cp -a tree copy; }
remove_copy() {
    rm -rf copy
    [ ! -e copy ]
}

## 2: git

export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_CONFIG_COUNT=2
export GIT_CONFIG_KEY_0=gc.autoDetach GIT_CONFIG_VALUE_0=false
export GIT_CONFIG_KEY_1=init.defaultBranch GIT_CONFIG_VALUE_1=main
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org

# The dates are fixed, so all runs make the same commits.
commit_all() {
    git init -q repository
    cd repository
    local n
    for n in $(seq "$commits"); do
        mkdir -p "part-$((n % 10))"
        seq "$n" $((n * 20)) >"part-$((n % 10))/file-$n"
        echo "change $n" >>changes
        git add --all
        GIT_AUTHOR_DATE="$((1000000000 + n)) +0000" GIT_COMMITTER_DATE="$((1000000000 + n)) +0000" \
            git commit -qm "commit $n"
    done
}

clone() { git clone -q repository clone; }

check_git() {
    local of head
    head=$(git -C "$place/disk/repository" rev-parse HEAD)
    for of in repository clone; do
        git -C "$of" fsck --full --strict --no-progress
        [ "$(git -C "$of" rev-parse HEAD)" = "$head" ]
        [ "$(git -C "$of" rev-list --count HEAD)" = "$commits" ]
        [ -z "$(git -C "$of" status --porcelain)" ]
    done
}

## 3: cargo

make_project() {
    mkdir -p project/src
    printf '[package]\nname = "small"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >project/Cargo.toml
    local n
    for n in $(seq "$parts"); do
        cat >"project/src/part$n.rs" <<END
use std::collections::BTreeMap;
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part { pub name: String, pub number: u64 }
pub fn count(to: u64) -> u64 {
    let parts: BTreeMap<u64, Part> =
        (0..to).map(|n| (n, Part { name: format!("{n}"), number: n * $n })).collect();
    parts.values().map(|part| part.number).sum()
}
END
    done
    {
        for n in $(seq "$parts"); do echo "mod part$n;"; done
        echo 'fn main() {'
        echo '    let mut sum = 0;'
        for n in $(seq "$parts"); do echo "    sum += part$n::count(100);"; done
        # shellcheck disable=SC2016
        echo '    println!("{sum}");'
        echo '}'
    } >project/src/main.rs
}

build() { CARGO_TARGET_DIR=$PWD/project/target cargo build --offline --manifest-path project/Cargo.toml; }

first_build() {
    make_project
    build
}

second_build() {
    echo 'pub fn more() -> u64 { count(1) }' >>project/src/part2.rs
    build
}

check_build() {
    # 0 + 1 + ... + 99, times 1 + 2 + ... + the number of parts.
    [ "$(project/target/debug/small)" = $((4950 * parts * (parts + 1) / 2)) ]
    # The times of all files are as they were, so nothing is built again.
    build 2>&1 | tee build.out
    if grep -q Compiling build.out; then return 1; fi
}

## 4: SQLite

cat >"$place/sqlite.py" <<'END'
"""usage: sqlite.py fill|check JOURNAL-MODE INSERTS: a database of rows that their numbers determine."""
import hashlib, sqlite3, sys

task, mode, inserts = sys.argv[1], sys.argv[2], int(sys.argv[3])
PER_TRANSACTION = 10

def row(number):
    digest = hashlib.sha256(b"%d" % number).digest()
    return number, digest.hex(), digest * (number % 30)

def checksum(rows):
    digest = hashlib.sha256()
    for values in rows:
        digest.update(repr(values).encode())
    return digest.hexdigest()

base = sqlite3.connect(f"{mode}.sqlite", isolation_level=None)
if task == "fill":
    assert base.execute(f"pragma journal_mode = {mode}").fetchone() == (mode,)
    base.execute("create table rows (number integer primary key, name text unique, bytes blob)")
    # Spread over the tree: inserts is no multiple of this prime.
    order = [n * 7919 % inserts for n in range(inserts)]
    for start in range(0, inserts, PER_TRANSACTION):
        base.execute("begin")
        for number in order[start:start + PER_TRANSACTION]:
            base.execute("insert into rows values (?, ?, ?)", row(number))
        base.execute("commit")
else:
    expect = "wal" if mode == "wal" else "delete"
    assert base.execute("pragma journal_mode").fetchone() == (expect,)
    assert base.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert base.execute("select count(*) from rows").fetchone() == (inserts,)
    found = base.execute("select number, name, bytes from rows order by number")
    assert checksum(found) == checksum(map(row, range(inserts)))
base.close()
END

sqlite() { python3 "$place/sqlite.py" "$1" "$2" "$inserts"; }

check_sqlite() {
    sqlite check delete
    sqlite check wal
}

## 5: a large directory

cat >"$place/many.py" <<'END'
"""usage: many.py COUNT: makes COUNT files in the directory `many`, each holding its number."""
import os, sys

os.mkdir("many")
for number in range(1, int(sys.argv[1]) + 1):
    file = os.open(f"many/file-{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    os.write(file, b"%d\n" % number)
    os.close(file)
END

names() { seq -f 'file-%.0f' "$@"; }
create_many() { python3 "$place/many.py" "$many"; }
list_all() { names 1 "$many" | sort | cmp - <(ls many); }
list_all_long() { [ "$(ls -l many | tail -n +2 | wc -l)" = "$many" ]; }
remove_half() { (cd many && names 2 2 "$many" | xargs rm); }
count_half() { [ "$(find many -type f | wc -l)" = $((many / 2)) ]; }
list_half() { names 1 2 "$many" | sort | cmp - <(ls many); }
read_half() { find many -type f -exec cat {} + | sort -n | cmp - <(seq 1 2 "$many"); }

## 6: kill -9 among writes

cat >"$place/numbered.py" <<'END'
"""usage: numbered.py write|check DIRECTORY LOG COUNT: files whose numbers determine their contents.

write: makes files until it gets an error (COUNT 0) or has made COUNT; each is noted in LOG, which lies
elsewhere, when its close has returned.  check: all that are noted are there and complete, and besides
them at most the one that was being written, as far as it went."""
import os, sys

task, directory, log, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

def contents(number):
    size = (0, 100, 1000, 5000, 30_000, 70_000, 200_000)[number * 7919 % 7] + number % 97
    return (b"%d " % number * (size // 2 + 1))[:size]

def write():
    os.mkdir(directory)
    noted = os.open(log, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    number = 0
    while count == 0 or number < count:
        number += 1
        try:
            with open(f"{directory}/{number}", "xb") as file:
                file.write(contents(number))
        except OSError as error:
            print(f"ended at file {number}: {error}")
            return
        os.write(noted, b"%d\n" % number)

def check():
    noted = [int(line) for line in open(log)]
    assert noted == list(range(1, len(noted) + 1)) and len(noted) >= count
    found = sorted(map(int, os.listdir(directory)))
    assert found in (noted, noted + [len(noted) + 1]), (noted[-1], found[-3:])
    for number in noted:
        with open(f"{directory}/{number}", "rb") as file:
            assert file.read() == contents(number), number
    for number in found[len(noted):]:
        with open(f"{directory}/{number}", "rb") as file:
            assert contents(number).startswith(file.read()), number

write() if task == "write" else check()
END

numbered() { python3 "$place/numbered.py" "$@"; }

write_numbered() { numbered write numbered-0 "$place/noted-0-${PWD##*/}" "$kill_after"; }

# kill_among_writes N: kills the daemon while files are written into numbered-N, and mounts again.
kill_among_writes() {
    local noted=$place/noted-$1 deadline=$((SECONDS + 600))
    (cd "$place/mount" && exec python3 "$place/numbered.py" write "numbered-$1" "$noted" 0) \
        >"$place/writer" 2>&1 &
    writer=$!
    until [ "$(tail -n 1 "$noted" 2>/dev/null || echo 0)" -ge "$kill_after" ]; do
        if ! kill -0 "$writer" 2>/dev/null || [ $SECONDS -gt $deadline ]; then
            cat "$place/writer" >&2
            fail "the loop that writes files ended or hangs"
        fi
        sleep 0.0$((RANDOM % 90 + 10))
    done
    kill -9 "$(daemon)"
    wait "$writer" || fail "$(cat "$place/writer")"
    writer=''
    echo "kill -9: $(cat "$place/writer")" >&2
    mount_store
}

check_numbered() {
    local n
    for n in 1 2; do
        if [ -e "$place/noted-$n" ]; then numbered check "numbered-$n" "$place/noted-$n" "$kill_after"; fi
    done
}

## The checks of everything

check() {
    local column=$1 label=$2
    shift 2
    if [ "$column" = now ]; then
        checks+=("$label")
        both "$label" "$@"
    else
        run "$column" mount "$label" "$@"
    fi
}

check_all() {
    echo "-- checking everything: $1" >&2
    check "$1" '1 diff -r with the original' compare_tree
    check "$1" '1 find, all attributes' find_tree
    check "$1" '1 ls -lR' list_tree
    check "$1" '2 git fsck --full, status, both clones' check_git
    check "$1" '3 run the program, cargo build: all fresh' check_build
    check "$1" '4 integrity_check, count, rows: both' check_sqlite
    check "$1" "5 find, count $((many / 2)) files" count_half
    check "$1" '5 ls, the exact half' list_half
    check "$1" "5 read them all" read_half
    if [ "$1" != now ]; then check "$1" '6 all that was closed is complete' check_numbered; fi
}

## The run

make_sources
about="$file_count files in $(find "$sources" -type d | wc -l) directories, $(mebibytes "$sources") MiB;
$("$LSMFS" --version) beside $(stat -f -c %T "$place"), Linux $(uname -r), $(nproc) processors, $(date -I), load"
load() { cut -d ' ' -f 1 /proc/loadavg; }
about+=" $(load)"
echo "$about" >&2
mount_store

work "1 tar: unpack $file_count files" unpack
work '1 cp -a the tree' copy_tree
work '1 rm -rf the copy' remove_copy
work "2 git: init, $commits commits" commit_all
work '2 git clone' clone
work '3 cargo build' first_build
work '3 cargo build after a change' second_build
work "4 SQLite: $inserts inserts, rollback journal" sqlite fill delete
work "4 SQLite: $inserts inserts, WAL" sqlite fill wal
work "5 create $many files" create_many
work '5 ls, the exact set' list_all
work '5 ls -l' list_all_long
work '5 rm every second one' remove_half
work "6 write $kill_after numbered files" write_numbered

check_all now
live=$(mebibytes "$place/disk")
before_kill=$(daemon_memory)
kill_among_writes 1
check_all killed
before_unmount=$(daemon_memory)
start=$EPOCHREALTIME
"$LSMFS" umount "$place/mount"
umount_seconds=$(since "$start")
mount_store
check_all remounted
kill_among_writes 2
check_all killed-2

remove_all() {
    find . -mindepth 1 -maxdepth 1 -exec rm -rf {} +
    [ -z "$(ls -A)" ]
}
full=$(mebibytes "$store")
work 'rm -rf everything' remove_all

# Idle: no change of the store's size for some seconds.
echo "-- waiting until the store is quiet" >&2
size=$(mebibytes "$store") quiet=0
for ((second = 0; second < 120 && quiet < quiet_seconds; second++)); do
    sleep 1
    now=$(mebibytes "$store")
    if [ "$now" = "$size" ]; then quiet=$((quiet + 1)); else size=$now quiet=0; fi
done
emptied=$(daemon_memory)
"$LSMFS" umount "$place/mount"

## What came out

ratio() {
    awk -v disk="$1" -v mount="$2" 'BEGIN {
        if (disk + 0 == 0 || mount + 0 == 0) print "-"; else printf "%.1f", mount / disk
    }'
}

{
    echo
    echo "$about at the start and $(load) at the end"
    printf '\n%-44s %8s %8s %7s %11s %10s\n' seconds disk lsmfs times 'daemon MiB' 'store MiB'
    for label in "${works[@]}"; do
        disk=${seconds["$label|disk"]} mount=${seconds["$label|mount"]}
        printf '%-44s %8s %8s %7s %11s %10s\n' "$label" "$disk" "$mount" "$(ratio "$disk" "$mount")" \
            "${memory["$label"]}" "${store_size["$label"]}"
    done
    printf '\n%-44s %8s %8s %7s %9s %9s %9s\n' 'checks, seconds' disk lsmfs times killed remounted killed
    printf '%-44s %8s %8s %7s %9s %9s %9s\n' 'mount the store' - "${mount_seconds[0]}" - "${mount_seconds[@]:1}"
    for label in "${checks[@]}" '6 all that was closed is complete'; do
        disk=${seconds["$label|disk"]:--} mount=${seconds["$label|mount"]:--}
        printf '%-44s %8s %8s %7s %9s %9s %9s\n' "$label" "$disk" "$mount" "$(ratio "$disk" "$mount")" \
            "${seconds["$label|killed"]}" "${seconds["$label|remounted"]}" "${seconds["$label|killed-2"]}"
    done
    echo
    echo "unmount: $umount_seconds s"
    echo "files closed before the kills: $(tail -n 1 "$place/noted-1"), $(tail -n 1 "$place/noted-2")"
    echo "daemon: $before_kill (before the first kill); $before_unmount (before the unmount);" \
        "$emptied (when all was deleted)"
    echo "store: $full MiB for $live MiB on the disk; after all was deleted $size MiB," \
        "after the unmount $(mebibytes "$store") MiB"
    "$LSMFS" stats "$store" | sed 's/^/  /'
    echo "warnings and errors in the daemon's log: $(grep -cE 'WARN|ERROR|panicked' "$store/daemon.log" || true)"
    grep -E 'WARN|ERROR|panicked' "$store/daemon.log" | head -20 || true
    echo "failed: $failures"
} | tee "$place/results"

[ "$failures" = 0 ]
