# SQLite: every journal mode, two processes at once, a process killed within a transaction, VACUUM.
. "$(dirname "$0")/lib.sh"
rows=${EVERYDAY_ROWS:-1000}

work() {
    need python3 python3
    cat >"$disk/insert.py" <<'END'
"""usage: insert.py DATABASE FIRST COUNT: rows, each in a transaction of its own, then one that never ends."""
import os, sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
first, count = int(sys.argv[2]), int(sys.argv[3])
for n in range(first, first + count):
    base.execute("insert into rows values (?, ?)", (n, "x" * (n % 1000)))
base.execute("begin immediate")
base.execute("insert into rows values (-1 - ?, 'never')", (first,))
os.kill(os.getpid(), 9)
END
    for mode in delete truncate persist wal; do
        python3 -c "
import sqlite3
base = sqlite3.connect('$mode.db')
base.execute('pragma journal_mode=$mode')
base.execute('create table rows (n integer primary key, s text)')
base.commit()"
        python3 "$disk/insert.py" $mode.db 0 "$rows" & one=$!
        python3 "$disk/insert.py" $mode.db 1000000 "$rows" & two=$!
        wait $one || true
        wait $two || true
        python3 -c "
import sqlite3
base = sqlite3.connect('$mode.db')
base.execute('delete from rows where n % 2')
base.commit()
base.execute('vacuum')"
    done
}

check() {
    for mode in delete truncate persist wal; do
        found=$(python3 -c "
import sqlite3
base = sqlite3.connect('$mode.db')
print(base.execute('pragma integrity_check').fetchone()[0], *base.execute('select count(*), min(n) from rows').fetchone())")
        [ "$found" = "ok $rows 0" ] || fail "$mode: $found"
    done
}

"$1"
