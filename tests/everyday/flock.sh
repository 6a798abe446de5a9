# Locks between processes: flock(1), and POSIX record locks through Python.
. "$(dirname "$0")/lib.sh"

check() {
    need flock util-linux
    need python3 python3
    echo 0 >counter
    add() {
        for _ in $(seq 100); do
            flock lock sh -c 'n=$(cat counter); echo $((n + 1)) >counter'
        done
    }
    for _ in 1 2 3 4; do add & done
    wait
    [ "$(cat counter)" = 400 ]
    # Who does not want to wait is told.
    exec 9>lock
    flock 9
    if flock -n lock true; then fail "locked twice"; fi
    flock -u 9
    flock -n lock true
    python3 - <<'END'
import fcntl, os
count = 200
file = os.open("records", os.O_RDWR | os.O_CREAT)
os.pwrite(file, (0).to_bytes(8, "little"), 0)
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        mine = os.open("records", os.O_RDWR)
        for _ in range(count):
            fcntl.lockf(mine, fcntl.LOCK_EX, 8, 0)
            n = int.from_bytes(os.pread(mine, 8, 0), "little")
            os.pwrite(mine, (n + 1).to_bytes(8, "little"), 0)
            fcntl.lockf(mine, fcntl.LOCK_UN, 8, 0)
        os._exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
assert int.from_bytes(os.pread(file, 8, 0), "little") == 4 * count
# Other bytes are free, the same are not, a process that ends lets go.
fcntl.lockf(file, fcntl.LOCK_EX, 8, 0)
child = os.fork()
if child == 0:
    mine = os.open("records", os.O_RDWR)
    fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 8, 8)
    try:
        fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 8, 0)
    except OSError:
        os._exit(0)
    os._exit(1)
assert os.waitpid(child, 0)[1] == 0
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 8, 8)
END
}

work() { check; }

"$1"
