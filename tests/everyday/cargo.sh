# cargo: vendored crates, a debug and a release build, the program's run, and all fresh afterwards.
. "$(dirname "$0")/lib.sh"
HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
export CARGO_TARGET_DIR=$here/target

work() {
    need cargo rustup
    mkdir -p project/src project/.cargo
    cd project
    cat >Cargo.toml <<'END'
[package]
name = "project"
version = "0.0.0"
edition = "2021"
[dependencies]
regex = "1"
serde = { version = "1", features = ["derive"] }
serde_json = "1"
[workspace]
END
    cat >src/main.rs <<'END'
#[derive(serde::Serialize)]
struct Found { words: usize }
fn main() {
    let words = regex::Regex::new(r"\w+").unwrap().find_iter("one two three").count();
    println!("{}", serde_json::to_string(&Found { words }).unwrap());
}
END
    cargo vendor --quiet vendor >.cargo/config.toml
    cargo build --offline
    echo '// changed' >>src/main.rs
    cargo build --offline
}

check() {
    cd project
    [ "$("$CARGO_TARGET_DIR/debug/project")" = '{"words":3}' ]
    # Times and checksums are as they were: nothing is built again.
    cargo build --offline 2>&1 | tee "$disk/again"
    if grep -q Compiling "$disk/again"; then fail "built again"; fi
}

"$1"
