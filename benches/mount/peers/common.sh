# What the peers' scripts share; sourced by them. What they have to do stands in ../peer.rs.
#
# A peer's daemon runs in the foreground of a job of its own, and its number is kept beside the store.

set -eu

verb=${1-} store=${2-} mount=${3-}
case $verb in
start | stop) [ -n "$mount" ] || verb= ;;
*) verb= ;;
esac
[ -n "$verb" ] || {
    echo "usage: ${0##*/} start|stop STORE MOUNT" >&2
    exit 2
}

fail() {
    echo "$*" >&2
    exit 1
}

# need PROGRAM HOW: PROGRAM is there, or is to be installed like this.
need() {
    command -v "$1" >/dev/null || fail "$1 is missing: $2"
}

# within SECONDS COMMAND...: until COMMAND succeeds.
within() {
    left=$(($1 * 50))
    shift
    until "$@"; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 0.02
    done
}

# serve NAME COMMAND...: starts a daemon.
serve() {
    name=$1
    shift
    "$@" </dev/null >"$store/$name.log" 2>&1 &
    echo $! >"$store/$name.pid"
}

is_over() {
    ! kill -0 "$1" 2>/dev/null
}

# ended NAME: waits until a daemon that is done has ended.
ended() {
    [ -e "$store/$1.pid" ] || return 0
    pid=$(cat "$store/$1.pid")
    within 60 is_over "$pid" || {
        kill -KILL "$pid"
        fail "$1 did not end: killed"
    }
    rm "$store/$1.pid"
}

# end NAME: tells a daemon to end, and waits until it has.
end() {
    [ ! -e "$store/$1.pid" ] || kill "$(cat "$store/$1.pid")" 2>/dev/null || true
    ended "$1"
}

# mounted DIR NAME: waits until the daemon NAME has mounted something there.
mounted() {
    within 30 is_mounted_or_over "$@" || true
    mountpoint -q "$1" || fail "$2 did not mount: $(tail -n 3 "$store/$2.log")"
}

is_mounted_or_over() {
    mountpoint -q "$1" || is_over "$(cat "$store/$2.pid")"
}

# unmounted DIR: nothing is mounted there any more, whatever it takes. A daemon that died leaves a mount that
# cannot be asked.
unmounted() {
    ! grep -qF " $(realpath -m "$1" | sed 's/ /\\040/g') " /proc/self/mountinfo || umount "$1" || umount -l "$1"
}
