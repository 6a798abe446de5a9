# ZeroFS's server, for those that mount what it serves; sourced by them behind common.sh.
#
# Needs: zerofs (cargo install zerofs), or its path in $ZEROFS. Its object store is a directory in STORE, its cache
# another. It listens on sockets in STORE only.
zerofs=${ZEROFS:-zerofs}

# serve_zerofs: starts the server, and waits until it listens.
serve_zerofs() {
    need "$zerofs" "cargo install zerofs"
    mkdir -p "$store/objects" "$store/cache"
    rm -f "$store/9p" "$store/nbd"
    cat >"$store/zerofs.toml" <<END
[cache]
dir = "$store/cache"
disk_size_gb = 4.0
memory_size_gb = 0.5
[storage]
url = "file://$store/objects"
encryption_password = "a password for a bench"
[servers.ninep]
unix_socket = "$store/9p"
[servers.nbd]
unix_socket = "$store/nbd"
END
    serve zerofs "$zerofs" run -c "$store/zerofs.toml"
    within 30 test -S "$store/9p" -a -S "$store/nbd" || fail "no server: $(tail -n 3 "$store/zerofs.log")"
}
