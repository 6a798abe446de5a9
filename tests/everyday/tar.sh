# tar with extended attributes, access control lists, sparse files and hard links: in, out, and in again.
. "$(dirname "$0")/lib.sh"

archive() { tar --xattrs --xattrs-include='*' --acls --sparse --numeric-owner --format=posix "$@"; }

work() {
    need setfacl acl
    need setfattr attr
    make_tree "$disk/tree"
    make_attributes "$disk/tree"
    archive -C "$disk/tree" -cf "$disk/in.tar" .
    mkdir tree
    archive -C tree -xpf "$disk/in.tar"
    archive -C tree -cf out.tar .
}

check() {
    same "$disk/tree" tree
    diff <(attributes "$disk/tree") <(attributes tree)
    # tar itself finds no difference.
    archive -C tree -df "$disk/in.tar"
    rm -rf "$disk/out"
    mkdir "$disk/out"
    archive -C "$disk/out" -xpf out.tar
    same "$disk/tree" "$disk/out"
    diff <(attributes "$disk/tree") <(attributes "$disk/out")
    [ "$(du -k tree/sparse | cut -f1)" -le 128 ]
}

"$1"
