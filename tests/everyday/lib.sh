# shellcheck shell=bash disable=SC2034
# What the scripts share; sourced. A script defines `work`, which is called once, and `check`, which is called
# again and again, and ends with `"$1"`. They start in a directory of their own on the mount. $disk is one on the
# disk below, $other one in the mount of a second store.
name=$(basename "$0" .sh)
here=$DIR/$name other=$OTHER/$name disk=$DISK/$name
cd "$here"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$disk

fail() {
    echo "$*" >&2
    exit 1
}

# What failed is seen in the last lines.
set -x

# need PROGRAM PACKAGE
need() {
    command -v "$1" >/dev/null || fail "$1 is missing: install the package $2"
}

# A tree with everything that a file can be.
make_tree() {
    mkdir -p "$1/deep/a/b/c" "$1/empty"
    (
        cd "$1"
        cp -a /usr/include/linux deep/a/ 2>/dev/null || seq 1000 >deep/a/numbers
        printf x >"$(printf 'tab\tnewline\nbyte\377')"
        : >zero
        seq 200000 >large
        head -c 3000 /dev/urandom >small
        ln small linked
        ln large deep/a/b/c/linked
        ln -s ../zero deep/link
        ln -s nowhere dangling
        mkfifo fifo
        truncate -s 50M sparse
        printf middle | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
        truncate -s 200M holes
        chmod 4751 zero
        chmod 3770 empty
        touch -d '2001-02-03 04:05:06.789012345' large deep
        touch -d '1960-01-02 03:04:05.25' small
        touch -d '2100-01-02 03:04:05' zero
        # rsync leaves times of these alone that differ by less than a second.
        touch -h -d '1999-12-31 23:59:59.5' dangling fifo deep/link
        if [ "$(id -u)" = 0 ]; then
            mknod device c 1 3
            touch -d '1999-12-31 23:59:59.5' device
            chown 12:34 large
            chown -h 56:78 dangling
        fi
    )
}

# Adds access control lists and extended attributes to such a tree.
make_attributes() {
    (
        cd "$1"
        setfacl -m u:12:rw,g:34:r small
        setfacl -m d:u:12:rwx,d:o::- deep
        setfattr -n user.short -v value small
        setfattr -n user.long -v "$(head -c 3000 /dev/zero | tr '\0' v)" large
        if [ "$(id -u)" = 0 ]; then setfattr -n trusted.t -v t zero; fi
    )
}

# Everything that a directory's tree shows but the contents: what is compared between two.
listed() {
    (cd "$1" && find . -mindepth 1 \( -type d -printf '%P %y %m %U %G %T@\n' -o \
        -printf '%P %y %m %n %U %G %s %l %T@\n' \) | sort)
}

attributes() {
    (
        cd "$1"
        find . ! -type l -print0 | sort -z | xargs -0 getfacl -n -p
        find . -print0 | sort -z | xargs -0 getfattr -h -d -m -
    )
}

same() {
    diff <(listed "$1") <(listed "$2")
    # Devices and pipes are not read.
    diff -r --no-dereference -x fifo -x device "$1" "$2"
}
