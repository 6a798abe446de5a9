# mv within a mount, between two mounts, and from and to the disk below, with all that the files are.
. "$(dirname "$0")/lib.sh"

work() {
    make_tree "$disk/original"
    cp -a "$disk/original" tree
    mv tree within
    mv within "$other/tree"
    [ ! -e within ]
    mv "$other/tree" "$disk/tree"
    [ ! -e "$other/tree" ]
    mv "$disk/tree" back
    [ ! -e "$disk/tree" ]
    cp -a back "$other/kept"
    # Over files that are there.
    echo old >target
    echo new >"$other/source"
    mv "$other/source" target
}

check() {
    same "$disk/original" back
    same "$disk/original" "$other/kept"
    [ "$(cat target)" = new ]
    [ ! -e "$other/source" ]
}

"$1"
