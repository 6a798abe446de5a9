#!/bin/sh
# ZeroFS with a directory as its object store, mounted over 9P on a socket.
#
# Needs: zerofs (cargo install zerofs), or its path in $ZEROFS; a kernel with 9P (CONFIG_9P_FS); root.
. "${0%/*}/common.sh"
. "${0%/*}/zerofs-server.sh"

case $verb in
start)
    grep -qw 9p /proc/filesystems || modprobe 9p 2>/dev/null || fail "this kernel has no 9P; try zerofs-nbd.sh"
    serve_zerofs
    mount -t 9p -o trans=unix,version=9p2000.L,cache=mmap,access=user,msize=1048576 "$store/9p" "$mount"
    ;;
stop)
    unmounted "$mount"
    end zerofs
    ;;
esac
