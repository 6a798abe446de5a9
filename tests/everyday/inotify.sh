# inotifywait hears of every change that is made on this mount, once each.
. "$(dirname "$0")/lib.sh"

check() {
    need inotifywait inotify-tools
    rm -rf watched "$disk/heard" "$disk/ready"
    mkdir watched
    inotifywait -m -r -e create -e close_write -e moved_from -e moved_to -e delete -e attrib \
        --format '%e %f' -o "$disk/heard" watched 2>"$disk/ready" &
    watcher=$!
    trap 'kill $watcher' EXIT
    for _ in $(seq 200); do
        if grep -q established "$disk/ready"; then break; fi
        sleep 0.05
    done
    echo one >watched/a
    chmod 600 watched/a
    mv watched/a watched/b
    mkdir watched/dir
    rm watched/b
    rmdir watched/dir
    touch watched/end
    for _ in $(seq 200); do
        if grep -q 'CLOSE_WRITE.*end' "$disk/heard"; then break; fi
        sleep 0.05
    done
    diff - <(grep -vE '^ATTRIB(,ISDIR)? (b|end)$' "$disk/heard" | sed 's/CLOSE_WRITE,CLOSE/CLOSE_WRITE/') <<'END'
CREATE a
CLOSE_WRITE a
ATTRIB a
MOVED_FROM a
MOVED_TO b
CREATE,ISDIR dir
DELETE b
DELETE,ISDIR dir
CREATE end
CLOSE_WRITE end
END
}

work() { check; }

"$1"
