# A C project of some size: its configure script, make -j, some of its own tests, and nothing to do afterwards.
. "$(dirname "$0")/lib.sh"

tests=(test/unit/rb test/unit/hash test/unit/bitmap)
targets=(build_lib_static "${tests[@]}")

work() {
    need cargo rustup
    need make build-essential
    need cc build-essential
    # The sources of jemalloc, as a crate brings them.
    mkdir -p "$disk/fetch/src"
    : >"$disk/fetch/src/lib.rs"
    printf '[package]\nname = "f"\nversion = "0.0.0"\n[dependencies]\ntikv-jemalloc-sys = "=0.6.0"\n[workspace]\n' \
        >"$disk/fetch/Cargo.toml"
    (cd "$disk/fetch" && HOME=$(getent passwd "$(id -u)" | cut -d: -f6) cargo vendor --quiet vendor >/dev/null)
    cp -a "$disk/fetch/vendor/tikv-jemalloc-sys/jemalloc" .
    cd jemalloc
    if [ -e "$disk/fetch/vendor/tikv-jemalloc-sys/configure" ]; then
        cp -a "$disk/fetch/vendor/tikv-jemalloc-sys/configure/." .
    fi
    CFLAGS=-O1 sh ./configure --quiet --with-version=5.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c
    make -j 4 "${targets[@]}"
}

check() {
    cd jemalloc
    make -q "${targets[@]}" || fail "make would build again: $(make -n "${targets[@]}")"
    for test in "${tests[@]}"; do "$test"; done
}

"$1"
