#!/bin/sh
# fuse-overlayfs: an overlay of directories by FUSE. All that is written goes into files of a directory in STORE.
#
# Needs: fuse-overlayfs (apt-get install fuse-overlayfs).
# An fsync is one of the file below.
. "${0%/*}/common.sh"

case $verb in
start)
    need fuse-overlayfs "apt-get install fuse-overlayfs"
    mkdir -p "$store/lower" "$store/upper" "$store/work"
    serve overlay fuse-overlayfs -f \
        -o "lowerdir=$store/lower,upperdir=$store/upper,workdir=$store/work" "$mount"
    mounted "$mount" overlay
    ;;
stop)
    unmounted "$mount"
    ended overlay
    ;;
esac
