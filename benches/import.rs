//! Loads a tree of files in four ways and prints the times: `cp -a` onto the disk, `cp -a` into a mount, `lsmfs
//! import` into a store that is closed, and into one that is mounted. Each is timed until everything is on the
//! disk; for `cp -a` the time until it returned is shown too.
//!
//! `cargo bench --bench import -- DIR [FILES [ROUNDS]]`: in a directory of the disk; 200,000 files unless said
//! otherwise, 100 in each directory, of 200 bytes to 4 KiB. The source is in the page cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const LSMFS: &str = env!("CARGO_BIN_EXE_lsmfs");
const FILES_IN_A_DIRECTORY: usize = 100;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let Some(dir) = args.next() else {
        // Run by `cargo test`, or by somebody who wants to know.
        println!("usage: cargo bench --bench import -- DIR [FILES [ROUNDS]]");
        return;
    };
    let number = |arg: Option<String>, usual| arg.map_or(usual, |arg| arg.parse().expect("a number"));
    let (files, rounds) = (number(args.next(), 200_000), number(args.next(), 1));
    let dir = PathBuf::from(dir).join("lsmfs-import-bench");
    fs::create_dir_all(&dir).expect("make the directory");
    let dir = dir.canonicalize().expect("the directory");
    let tree = dir.join("tree");
    let bytes = make_tree(&tree, files);
    println!("{files} files, {:.1} MiB", bytes as f64 / (1 << 20) as f64);
    run(Command::new("tar").args(["-cf", "/dev/null", "--"]).arg(&tree));
    for round in 1..=rounds {
        println!("round {round}");
        let disk = copy_onto_disk(&dir, &tree);
        let ways = [
            ("cp -a into a mount", copy_into_mount(&dir, &tree)),
            ("lsmfs import", import(&dir, &tree, false)),
            ("lsmfs import, mounted", import(&dir, &tree, true)),
        ];
        print("cp -a onto the disk", disk, disk.1, files);
        ways.into_iter().for_each(|(way, times)| print(way, times, disk.1, files));
    }
    fs::remove_dir_all(&dir).expect("clean up");
}

/// Seconds until it returned, and until all was on the disk.
type Times = (f64, f64);

fn print(way: &str, (returned, durable): Times, disk: f64, files: usize) {
    println!(
        "{way:24} {returned:7.2} s  durable {durable:7.2} s  {:8.0} files/s  {:5.2} of cp -a onto the disk",
        files as f64 / durable,
        durable / disk
    );
}

fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn lsmfs(words: &[&str], paths: &[&Path]) {
    run(Command::new(LSMFS).args(words).args(paths));
}

/// Makes the source; bytes in its files.
fn make_tree(tree: &Path, files: usize) -> u64 {
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let mut bytes = 0;
    let mut contents = vec![0u8; 4096];
    for n in 0..files {
        let dir = tree.join(format!("{:03}/{:05}", n / FILES_IN_A_DIRECTORY / 50, n / FILES_IN_A_DIRECTORY));
        if n % FILES_IN_A_DIRECTORY == 0 {
            fs::create_dir_all(&dir).expect("make a directory");
        }
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let len = 200 + (random >> 33) as usize % 3896;
        // Half of it compresses.
        contents[..len].fill(b'a');
        for (at, byte) in contents[..len / 2].iter_mut().enumerate() {
            *byte = (random >> (at % 56)) as u8 ^ at as u8;
        }
        fs::write(dir.join(format!("file-{n:07}")), &contents[..len]).expect("write a file");
        bytes += len as u64;
    }
    bytes
}

fn copy_onto_disk(dir: &Path, tree: &Path) -> Times {
    let copy = dir.join("copy");
    let start = Instant::now();
    run(Command::new("cp").arg("-a").args([tree, &copy]));
    let returned = start.elapsed().as_secs_f64();
    run(Command::new("sync").arg("-f").arg(&copy));
    let durable = start.elapsed().as_secs_f64();
    fs::remove_dir_all(&copy).expect("remove the copy");
    (returned, durable)
}

fn copy_into_mount(dir: &Path, tree: &Path) -> Times {
    let (store, mount) = (dir.join("store"), dir.join("mount"));
    lsmfs(&["mount"], &[&store, &mount]);
    let start = Instant::now();
    run(Command::new("cp").arg("-a").arg(tree).arg(mount.join("copy")));
    let returned = start.elapsed().as_secs_f64();
    run(Command::new("sync").arg(&mount));
    let durable = start.elapsed().as_secs_f64();
    lsmfs(&["umount"], &[&mount]);
    fs::remove_dir_all(&store).expect("remove the store");
    (returned, durable)
}

fn import(dir: &Path, tree: &Path, mounted: bool) -> Times {
    let (store, mount) = (dir.join("store"), dir.join("mount"));
    lsmfs(&["volume", "create"], &[&store, Path::new("other")]);
    if mounted {
        lsmfs(&["mount"], &[&store, &mount]);
    }
    let start = Instant::now();
    run(Command::new(LSMFS).arg("import").args([&store, tree]).args(["--at", "copy"]));
    // When it returns, all is on the disk.
    let durable = start.elapsed().as_secs_f64();
    if mounted {
        lsmfs(&["umount"], &[&mount]);
    }
    fs::remove_dir_all(&store).expect("remove the store");
    (durable, durable)
}
