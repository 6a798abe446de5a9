//! The commands for stores that are not mounted.

mod common;

use common::{LSMFS, Place, lsmfs, lsmfs_fed, run};
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

impl Place {
    /// `lsmfs put` from standard input.
    #[track_caller]
    fn put(&self, path: &str, value: &[u8]) {
        let store = self.store();
        lsmfs_fed(["put".as_ref(), store.as_os_str(), path.as_ref()], value).ok();
    }

    #[track_caller]
    fn get(&self, path: &str) -> Vec<u8> {
        let done = self.lsmfs("get", &[path]);
        assert_eq!(done.status, 0, "{done:?}");
        done.out
    }
}

#[test]
fn values_come_back_by_their_paths() {
    let place = Place::new();
    place.lsmfs("put", &["a/b/c", "--value", "one"]).ok();
    place.put("a/b/d", b"\0\xff\n");
    fs::write(place.join("file"), "from a file").unwrap();
    place.lsmfs("put", &["a/e", place.join("file").to_str().unwrap()]).ok();
    place.put("empty", b"");
    assert_eq!(place.get("a/b/c"), b"one");
    assert_eq!(place.get("/a//b/./d"), b"\0\xff\n");
    assert_eq!(place.get("a/e"), b"from a file");
    assert_eq!(place.get("empty"), b"");
}

#[test]
fn a_put_replaces_the_value_and_keeps_the_mode() {
    let place = Place::new();
    place.put("key", &vec![b'x'; 200_000]);
    place.put("key", b"short");
    assert_eq!(place.get("key"), b"short");
    assert!(place.lsmfs("ls", &["-l"]).ok().starts_with("-rw-r--r-- "));
    assert_eq!(place.lsmfs("ls", &[]).ok(), "key\n");
}

#[test]
fn a_put_that_fails_leaves_the_old_value() {
    let place = Place::new();
    place.put("key", b"old");
    place.lsmfs("put", &["key", place.join("").to_str().unwrap()]).fails(1, &["directory"]);
    place.lsmfs("put", &["key", "no such file"]).fails(1, &["no such file"]);
    assert_eq!(place.get("key"), b"old");
    assert_eq!(place.lsmfs("ls", &[]).ok(), "key\n");
}

#[test]
fn big_values_stream() {
    let place = Place::new();
    let big: Vec<u8> = (0..5_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    place.put("big", &big);
    assert!(place.get("big") == big);
}

#[test]
fn ls_lists_in_byte_order_and_shows_attributes() {
    let place = Place::new();
    for path in ["b", "a/x", "a.b", "B", "ä"] {
        place.put(path, path.as_bytes());
    }
    assert_eq!(place.lsmfs("ls", &[]).ok(), "B\na/\na.b\nb\nä\n");
    assert_eq!(place.lsmfs("ls", &["a"]).ok(), "x\n");
    assert_eq!(place.lsmfs("ls", &["a/x"]).ok(), "a/x\n");
    let long = place.lsmfs("ls", &["-l"]).ok();
    let lines: Vec<Vec<&str>> = long.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!((lines[1][0], *lines[1].last().unwrap()), ("drwxr-xr-x", "a/"));
    assert_eq!((lines[3][0], lines[3][4]), ("-rw-r--r--", "1"));
}

#[test]
fn scan_prints_a_range_of_keys_in_order() {
    let place = Place::new();
    for path in ["b/2", "a", "c", "b/1", "b.x", "b/1a/deep", "d"] {
        place.put(path, format!("value of {path}").as_bytes());
    }
    let keys = |args: &[&str]| place.lsmfs("scan", &[args, &["--keys"]].concat()).ok();
    // A directory's files stand where the directory does, whatever follows its name.
    assert_eq!(keys(&[]), "a\nb/1\nb/1a/deep\nb/2\nb.x\nc\nd\n");
    assert_eq!(keys(&["b/1", "c"]), "b/1\nb/1a/deep\nb/2\nb.x\nc\n");
    assert_eq!(keys(&["b", "b"]), "b/1\nb/1a/deep\nb/2\n");
    assert_eq!(keys(&["b/1a", "b/1a/deep"]), "b/1a/deep\n");
    assert_eq!(keys(&["b/3"]), "b.x\nc\nd\n");
    assert_eq!(keys(&["x", "z"]), "");
    assert_eq!(keys(&["c", "b"]), "");
    assert_eq!(place.lsmfs("scan", &["c", "d"]).ok(), "c\tvalue of c\nd\tvalue of d\n");
}

#[test]
fn scan_escapes_what_would_break_a_line() {
    let place = Place::new();
    place.put("tab\there", b"line\nnext\\\xff");
    assert_eq!(place.lsmfs("scan", &[]).ok(), "tab\\there\tline\\nnext\\\\\\xff\n");
    assert_eq!(place.lsmfs("ls", &[]).ok(), "tab\\there\n");
}

#[test]
fn rm_removes_files_and_whole_trees() {
    let place = Place::new();
    for path in ["a/b/c", "a/d", "e", "f"] {
        place.put(path, b"x");
    }
    place.lsmfs("rm", &["e", "f"]).ok();
    place.lsmfs("rm", &["a"]).fails(1, &["a", "directory", "-r"]);
    place.lsmfs("rm", &["gone"]).fails(1, &["gone", "no such file"]);
    place.lsmfs("rm", &["-f", "gone", "a/d"]).ok();
    assert_eq!(place.lsmfs("scan", &["--keys"]).ok(), "a/b/c\n");
    place.lsmfs("rm", &["-r", "a"]).ok();
    assert_eq!(place.lsmfs("ls", &[]).ok(), "");
    place.lsmfs("rm", &["-r", "/"]).fails(1, &["root"]);
}

#[test]
fn rm_goes_on_after_a_failure_and_reports_it() {
    let place = Place::new();
    place.put("a", b"x");
    place.lsmfs("rm", &["gone", "a"]).fails(1, &["gone"]);
    assert_eq!(place.lsmfs("ls", &[]).ok(), "");
}

#[test]
fn bad_paths_are_refused_with_their_reason() {
    let place = Place::new();
    place.put("dir/file", b"x");
    place.lsmfs("get", &["dir/../dir/file"]).fails(1, &["..", "dir/../dir/file"]);
    place.lsmfs("get", &["nothing"]).fails(1, &["nothing", "no such file"]);
    place.lsmfs("get", &["dir"]).fails(1, &["dir", "is a directory", "lsmfs ls"]);
    place.lsmfs("get", &["dir/file/x"]).fails(1, &["dir/file/x", "not a directory"]);
    place.lsmfs("put", &["dir/file/x", "--value", "y"]).fails(1, &["not a directory"]);
    place.lsmfs("put", &["dir", "--value", "y"]).fails(1, &["is a directory"]);
    place.lsmfs("put", &["/", "--value", "y"]).fails(1, &["root"]);
    place.lsmfs("put", &[&"n".repeat(256), "--value", "y"]).fails(1, &["too long", "255"]);
    place.lsmfs("ls", &["nothing"]).fails(1, &["nothing", "no such file"]);
    assert_eq!(place.lsmfs("scan", &[]).ok(), "dir/file\tx\n");
}

#[test]
fn stats_shows_volumes_files_tables_and_log() {
    let place = Place::new();
    for number in 0..50 {
        place.put(&format!("dir/{number:02}"), b"x");
    }
    let stats = place.lsmfs("stats", &[]).ok();
    for word in ["volume main", "files 50", "level 0", "table", "log"] {
        assert!(stats.contains(word), "no {word:?} in:\n{stats}");
    }
    assert!(!stats.contains(char::is_control) || stats.chars().all(|c| c == '\n' || !c.is_control()));
}

#[test]
fn stats_are_there_for_programs_too() {
    let place = Place::new();
    for path in ["dir/a", "dir/b", "c"] {
        place.put(path, b"x");
    }
    let json: serde_json::Value = serde_json::from_str(&place.lsmfs("stats", &["--json"]).ok()).unwrap();
    assert_eq!((&json["files"], &json["directories"], &json["others"]), (&3.into(), &1.into(), &0.into()));
    assert_eq!(json["store"], place.store().to_str().unwrap());
    assert_eq!(json["volumes"][0]["name"], "main");
    assert!(json["amplification"]["space"].as_f64().unwrap() >= 1.0);
    assert!(json["volumes"][0]["levels"][0][0]["bytes"].as_u64().unwrap() > 0);
}

#[test]
fn only_mount_put_and_shell_make_a_store() {
    let place = Place::new();
    for command in ["ls", "scan", "stats"] {
        place.lsmfs(command, &[]).fails(1, &["no such directory", place.store().to_str().unwrap()]);
    }
    place.lsmfs("get", &["a"]).fails(1, &["no such directory"]);
    assert!(!place.store().exists());
    fs::create_dir(place.store()).unwrap();
    place.lsmfs("ls", &[]).fails(1, &["not an lsmfs store"]);
    assert_eq!(fs::read_dir(place.store()).unwrap().count(), 0);
    place.put("a", b"one");
    assert_eq!(place.get("a"), b"one");
}

#[test]
fn a_directory_of_other_files_stays_untouched() {
    let place = Place::new();
    fs::create_dir(place.store()).unwrap();
    fs::write(place.store().join("letter.txt"), "mine").unwrap();
    place.lsmfs("ls", &[]).fails(1, &["not an lsmfs store"]);
    place.lsmfs("put", &["a", "--value", "x"]).fails(1, &["not an lsmfs store"]);
    let left: Vec<_> = fs::read_dir(place.store()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["letter.txt"]);
}

/// Changes the store's manifest.
#[track_caller]
fn change_manifest(place: &Place, change: impl Fn(&mut Vec<u8>)) {
    let files = fs::read_dir(place.store()).unwrap().map(|entry| entry.unwrap().path());
    let manifests = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("manifest-"));
    let mut changed = 0;
    for path in manifests {
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        changed += 1;
    }
    assert!(changed > 0, "no manifest was found");
}

#[test]
fn a_damaged_manifest_is_named_and_nothing_is_changed() {
    let place = Place::new();
    place.put("a", b"x");
    let flip = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 0x10;
    change_manifest(&place, flip);
    let words = [place.store().to_str().unwrap(), "manifest-", "damaged at byte"].map(str::to_string);
    let words = words.each_ref().map(String::as_str);
    place.lsmfs("get", &["a"]).fails(1, &words);
    place.lsmfs("put", &["a", "--value", "y"]).fails(1, &words);
    if fs::exists("/dev/fuse").unwrap() {
        place.mount(&[]).fails(1, &words);
        assert!(!place.is_mounted());
    }
    change_manifest(&place, flip);
    assert_eq!(place.get("a"), b"x");
}

#[test]
fn a_store_of_a_newer_format_is_left_alone() {
    let place = Place::new();
    place.put("a", b"x");
    // See lsm/manifest: the version, and the checksum of all but itself.
    change_manifest(&place, |bytes| {
        bytes[8..12].copy_from_slice(&(lsmfs::lsm::manifest::VERSION + 1).to_be_bytes());
        let checksum = xxhash_rust::xxh3::xxh3_64(&[&bytes[..32], &bytes[40..]].concat());
        bytes[32..40].copy_from_slice(&checksum.to_be_bytes());
    });
    let words = ["manifest-", "format version", "use a newer lsmfs"];
    place.lsmfs("get", &["a"]).fails(1, &words);
    place.lsmfs("put", &["a", "--value", "y"]).fails(1, &words);
}

#[test]
fn a_reader_that_stops_early_is_no_failure() {
    let place = Place::new();
    place.put("big", &vec![b'x'; 3_000_000]);
    for args in [["get", "big"], ["scan", "big"]] {
        let mut command = Command::new(LSMFS);
        command.arg(args[0]).arg(place.store()).arg(args[1]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 10]).unwrap();
        drop(stdout);
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{done:?}");
        assert_eq!(String::from_utf8_lossy(&done.stderr), "");
    }
}

#[test]
fn help_is_there_at_every_level() {
    let top = lsmfs(["--help"]).ok();
    for command in ["mount", "umount", "get", "put", "rm", "ls", "scan", "stats", "shell"] {
        assert!(top.contains(&format!("\n  {command} ")), "{command} is missing in:\n{top}");
        let help = lsmfs([command, "--help"]).ok();
        assert!(help.contains("Usage: lsmfs") && help.len() > 200, "{help}");
    }
    assert!(lsmfs(["--version"]).ok().starts_with("lsmfs "));
}

#[test]
fn wrong_usage_exits_with_2() {
    for args in [&["mount"][..], &["mount", "store"], &["get", "store"], &["nonsense"], &[]] {
        let done = lsmfs(args);
        assert_eq!(done.status, 2, "{args:?}: {done:?}");
        assert!(done.err.contains("Usage") || done.err.contains("usage"), "{done:?}");
    }
    let place = Place::new();
    let both = place.lsmfs("put", &["a", "file", "--value", "x"]);
    assert_eq!(both.status, 2, "{both:?}");
}

#[test]
fn a_store_that_may_not_be_opened_is_named() {
    let place = Place::new();
    place.put("a", b"x");
    let store = place.store();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", LSMFS, "ls"]).arg(&store);
    let done = run(&mut command);
    if !rustix::process::geteuid().is_root() || done.err.contains("setpriv") {
        eprintln!("needs root, and a binary that others may run: {}", done.err);
        return;
    }
    done.fails(1, &["denied", store.to_str().unwrap()]);
}
