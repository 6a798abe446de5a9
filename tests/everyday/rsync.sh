# rsync -aHAX there and back: nothing is left to transfer, and what came back is what went in.
. "$(dirname "$0")/lib.sh"

work() {
    need rsync rsync
    need setfacl acl
    need setfattr attr
    make_tree "$disk/tree"
    make_attributes "$disk/tree"
    rsync -aHAX --sparse "$disk/tree/" there/
    rsync -aHAX --sparse there/ "$disk/back/"
    # Once more over what is there, after a change.
    echo more >>"$disk/tree/large"
    rm "$disk/tree/small"
    rsync -aHAX --delete "$disk/tree/" there/
}

# What rsync would still transfer.
left() { rsync -aHAXnci --delete "$1/" "$2/"; }

check() {
    [ -z "$(left "$disk/tree" there)" ] || fail "there: $(left "$disk/tree" there)"
    [ -z "$(left there "$disk/tree")" ] || fail "back: $(left there "$disk/tree")"
    same "$disk/tree" there
    diff <(attributes "$disk/tree") <(attributes there)
    rm -rf "$disk/back"
    rsync -aHAX --sparse there/ "$disk/back/"
    same "$disk/tree" "$disk/back"
}

"$1"
