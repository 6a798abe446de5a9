# rsync -aHAX there and back: nothing is left to transfer, and what came back is what went in.
. "$(dirname "$0")/lib.sh"

# Without the window it takes times of one second for the same, and leaves those that it finds there.
archive() { rsync -aHAX --modify-window=-1 "$@"; }

work() {
    need rsync rsync
    need setfacl acl
    need setfattr attr
    make_tree "$disk/tree"
    make_attributes "$disk/tree"
    archive --sparse "$disk/tree/" there/
    archive --sparse there/ "$disk/back/"
    # Once more over what is there, after a change.
    echo more >>"$disk/tree/large"
    rm "$disk/tree/small"
    archive --delete "$disk/tree/" there/
}

# What rsync would still transfer.
left() { archive -nci --delete "$1/" "$2/"; }

check() {
    [ -z "$(left "$disk/tree" there)" ] || fail "there: $(left "$disk/tree" there)"
    [ -z "$(left there "$disk/tree")" ] || fail "back: $(left there "$disk/tree")"
    same "$disk/tree" there
    diff <(attributes "$disk/tree") <(attributes there)
    rm -rf "$disk/back"
    archive --sparse there/ "$disk/back/"
    same "$disk/tree" "$disk/back"
}

"$1"
