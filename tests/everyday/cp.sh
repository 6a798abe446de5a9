# cp -a with holes kept, made and filled, reflinks asked for; du tells what is stored.
. "$(dirname "$0")/lib.sh"

blocks() { du -k "$1" | cut -f1; }

work() {
    make_tree "$disk/tree"
    cp -a "$disk/tree" tree
    cp -a --sparse=always tree always
    head -c 20000000 /dev/zero >zeros
    cp --sparse=always zeros holes
    cp --sparse=never tree/large filled
    cp --reflink=auto tree/large copy
    cp -a tree/sparse "$disk/sparse"
}

check() {
    same "$disk/tree" tree
    same "$disk/tree" always
    cmp tree/sparse "$disk/sparse"
    cmp zeros holes
    cmp tree/large filled
    cmp tree/large copy
    for of in tree always; do
        [ "$(blocks $of/holes)" = 0 ] || fail "$of/holes takes $(blocks $of/holes) KiB"
        [ "$(blocks $of/sparse)" -le 8 ] || fail "$of/sparse takes $(blocks $of/sparse) KiB"
    done
    [ "$(blocks holes)" = 0 ] || fail "holes takes $(blocks holes) KiB"
    large=$(stat -c %s tree/large)
    [ "$(blocks filled)" -ge $((large / 1024)) ] || fail "filled takes $(blocks filled) KiB"
    [ "$(du -k --apparent-size tree/holes | cut -f1)" = 204800 ]
}

"$1"
