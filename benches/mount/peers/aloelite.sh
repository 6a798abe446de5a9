#!/bin/sh
# Aloelite: a file system in one SQLite file, in Python, by FUSE.
#
# Needs: aloelite-fuse (apt-get install libfuse3-dev pkg-config; pip install 'aloelite[fuse,bundled-sqlite]'), or its
# path in $ALOELITE_FUSE. It has no hard links.
. "${0%/*}/common.sh"
program=${ALOELITE_FUSE:-aloelite-fuse}

case $verb in
start)
    need "$program" "pip install 'aloelite[fuse,bundled-sqlite]', after apt-get install libfuse3-dev pkg-config"
    serve aloelite "$program" --file "$store/files.sqlite" --volume main --create "$mount"
    mounted "$mount" aloelite
    ;;
stop)
    unmounted "$mount"
    ended aloelite
    ;;
esac
