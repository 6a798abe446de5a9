#!/bin/sh
# Passes the tests on a fresh machine: installs what they need beyond Rust, if this is possible
# without a question (apt, as root), then runs them. Arguments go to `cargo test`.
set -eu
cd "$(dirname "$0")/.."

# Installs the package $2 if the program $1 is missing.
need() {
    command -v "$1" >/dev/null 2>&1 && return
    if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
        echo "test.sh: installing $2" >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$2" </dev/null >&2 || {
            DEBIAN_FRONTEND=noninteractive apt-get update </dev/null >&2
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$2" </dev/null >&2
        }
    else
        echo "test.sh: $1 is missing: install the package $2" >&2
        return 1
    fi
}

if ! command -v cargo >/dev/null 2>&1; then
    echo "test.sh: cargo is missing: install Rust, see https://www.rust-lang.org/tools/install" >&2
    exit 1
fi
need cc build-essential
# Root mounts without it.
need fusermount3 fuse3 || [ "$(id -u)" = 0 ]
# Tests that use these are left out without them.
need git git || true
need python3 python3 || true

if [ ! -e /dev/fuse ]; then
    modprobe fuse 2>/dev/null || true
fi

exec cargo test "$@" </dev/null
