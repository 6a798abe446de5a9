#!/bin/sh
# ZeroFS with a directory as its object store, mounted over 9P.
#
# Needs: zerofs (cargo install zerofs), or its path in $ZEROFS; a kernel with 9P (CONFIG_9P_FS); root. Its cache is
# beside its objects. It listens on a socket in STORE only.
. "${0%/*}/common.sh"

zerofs=${ZEROFS:-zerofs}

case $verb in
start)
    need "$zerofs" "cargo install zerofs"
    grep -qw 9p /proc/filesystems || modprobe 9p 2>/dev/null || fail "this kernel has no 9P"
    mkdir -p "$store/objects" "$store/cache"
    rm -f "$store/9p"
    cat >"$store/zerofs.toml" <<END
[cache]
dir = "$store/cache"
disk_size_gb = 4.0
memory_size_gb = 0.5
[storage]
url = "file://$store/objects"
encryption_password = "a password for a bench"
[servers.ninep]
unix_socket = "$store/9p"
END
    serve zerofs "$zerofs" run -c "$store/zerofs.toml"
    within 30 test -S "$store/9p" || fail "no server: $(tail -n 3 "$store/zerofs.log")"
    mount -t 9p -o trans=unix,version=9p2000.L,cache=mmap,access=user,msize=1048576 "$store/9p" "$mount"
    ;;
stop)
    unmounted "$mount"
    end zerofs
    ;;
esac
