//! `lsmfs shell`: sessions from a pipe, and one at a terminal.

mod common;

use common::{Done, LSMFS, Mount, PATIENCE, Place, lsmfs_fed};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

impl Place {
    /// A session that is fed from a pipe.
    fn shell(&self, script: &str) -> Done {
        self.shell_with(&[], script)
    }

    fn shell_with(&self, options: &[&str], script: &str) -> Done {
        let store = self.store();
        let args = [&["shell", store.to_str().unwrap()], options].concat();
        lsmfs_fed(args, script.as_bytes())
    }
}

#[test]
fn a_session_fills_reads_flushes_and_compacts() {
    let place = Place::new();
    let script =
        "fill 1000 3000\nget 2333\ndel 2333\nflush\nscan 2331 2335\ncompact\nget 3000\nquit\nget 1\n";
    let said = place.shell(script).ok();
    let wanted = "value2333\n2331\tvalue2331\n2332\tvalue2332\n2334\tvalue2334\n2335\tvalue2335\nvalue3000\n";
    assert_eq!(said, wanted);
    assert_eq!(place.lsmfs("get", &["1000"]).ok(), "value1000");
    assert_eq!(place.lsmfs("scan", &["--keys"]).ok().lines().count(), 2000);
    assert_eq!(place.shell("scan 2331 2333\nls\n").ok().lines().count(), 2002);
}

#[test]
fn paths_and_values_are_those_of_get_and_put() {
    let place = Place::new();
    place.lsmfs("put", &["dir/old", "--value", "before"]).ok();
    let script = r#"
# a comment, and an empty line

get dir/old
put dir/old "two words"
get dir/old
put "new dir/a\tb" "line\nnext\\\xff"
scan "new dir"
ls "new dir"
put empty ""
get empty
ls
exit
"#;
    let said = place.shell(script).ok();
    let wanted = "before\ntwo words\nnew dir/a\\tb\tline\\nnext\\\\\\xff\na\\tb\n\ndir/\nempty\nnew dir/\n";
    assert_eq!(said, wanted);
    assert_eq!(place.lsmfs("get", &["new dir/a\tb"]).out, b"line\nnext\\\xff");
    assert_eq!(place.lsmfs("get", &["dir/old"]).ok(), "two words");
}

#[test]
fn errors_name_their_line_and_the_session_goes_on() {
    let place = Place::new();
    let done = place.shell(
        "put a 1\nget nothing\nfrobnicate\n\nfill 2\nput b \"2\nget a\ndel nothing\nput dir/c 3\ndel dir\n",
    );
    assert_eq!(done.status, 1);
    assert_eq!(done.text(), "1\n");
    let errors: Vec<&str> = done.err.lines().collect();
    let wanted = [
        ("line 2", "nothing", "no such file"),
        ("line 3", "frobnicate", "no such command"),
        ("line 5", "usage", "fill A B"),
        ("line 6", "quote", "not closed"),
        ("line 8", "nothing", "no such file"),
        ("line 10", "dir", "is a directory"),
    ];
    assert_eq!(errors.len(), wanted.len(), "{errors:#?}");
    for (error, words) in errors.iter().zip(wanted) {
        assert!(error.starts_with(&format!("lsmfs: {}: ", words.0)), "{error}");
        assert!(error.contains(words.1) && error.contains(words.2), "{error}");
    }
    assert_eq!(place.shell("").ok(), "");
}

#[test]
fn a_mounted_store_is_looked_into_through_its_daemon() {
    let mount = Mount::new();
    let place = &mount.place;
    std::fs::write(mount.dir().join("by-mount"), b"seen").unwrap();
    assert!(!mount.dir().join("7").exists());
    let said = place.shell("get by-mount\nfill 1 9\nget 7\nflush\ndump\nget nothing\ndump keys\n");
    assert_eq!(said.status, 1);
    assert!(said.text().starts_with("seen\nvalue7\n"), "{}", said.text());
    assert!(said.text().contains("level 0: 1 tables") && said.text().contains(r#"e 1 "by-mount""#));
    assert!(said.err.starts_with("lsmfs: line 6: ") && said.err.contains("no such file"), "{}", said.err);
    assert_eq!(std::fs::read(mount.dir().join("7")).unwrap(), b"value7");
    place.shell_with(&["--compaction", "tiered"], "flush\n").fails(1, &["mounted"]);
    place.umount().ok();
    assert_eq!(place.shell("get 9\n").ok(), "value9\n");
}

#[test]
fn dump_shows_where_everything_stands() {
    let place = Place::new();
    let script = "fill 1 100\ndump\nflush\nfill 50 60\ndel 70\nflush\ndump\ncompact\ndump\n";
    let said = place.shell_with(&["--compaction", "none"], script).ok();
    let levels: Vec<&str> = said.lines().filter(|line| line.contains("level 0:")).collect();
    assert!(levels[0].contains("level 0: 0 tables"), "{said}");
    assert!(levels[1].contains("level 0: 2 tables"), "{said}");
    assert!(levels[2].contains("level 0: 0 tables"), "{said}");
    assert!(said.contains("keys ") && said.contains(" to "), "{said}");
}

#[test]
fn dump_keys_shows_every_record() {
    let place = Place::new();
    let script =
        "put a one\nput b two\ndump keys\nflush\nput a three\ndel b\ndump keys\ncompact\ndump keys\n";
    let said = place.shell(script).ok();
    let of = |words: &str| said.lines().filter(|line| line.contains(words)).collect::<Vec<_>>();
    assert_eq!(of("memtable").len(), 2, "nothing is left in memory after the compaction:\n{said}");
    assert_eq!(of("level 0, table").len(), 1, "{said}");
    assert_eq!(of("level 1, table").len() + of("level 6, table").len(), 1, "{said}");
    assert_eq!(of(r#"e 1 "a""#).iter().filter(|line| line.contains("tail 3 B: one")).count(), 2, "{said}");
    assert_eq!(of(r#"e 1 "a""#).iter().filter(|line| line.contains("tail 5 B: three")).count(), 2, "{said}");
    assert_eq!(of(r#"e 1 "b""#).iter().filter(|line| line.contains("tombstone")).count(), 1, "{said}");
    assert_eq!(of(r#"e 1 "b""#).iter().filter(|line| line.contains("first put")).count(), 2, "{said}");
}

#[test]
fn a_range_tombstone_shows_its_end() {
    let place = Place::new();
    // So many chunks are removed with one record.
    std::fs::write(place.join("big"), vec![b'x'; 70 << 16]).unwrap();
    place.lsmfs("put", &["big", place.join("big").to_str().unwrap()]).ok();
    let said = place.shell_with(&["--compaction", "none"], "del big\ndump keys\nflush\ndump keys\n").ok();
    let ranges: Vec<&str> = said.lines().filter(|line| line.contains("range tombstone up to d ")).collect();
    assert_eq!(ranges.len(), 2, "{said}");
    let of = |line: &str| line.split("range tombstone").last().unwrap().to_string();
    assert_eq!(of(ranges[0]), of(ranges[1]));
}

#[test]
fn stats_and_help_are_there() {
    let place = Place::new();
    let said = place.shell("fill 1 10\nget 5\nstats\nhelp\n").ok();
    for words in ["volume main", "latency", "amplification: write", "fill A B", "dump keys"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    let json = place.shell("fill 1 10\nstats json\n").ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["writes"]["batches"].as_u64().unwrap() >= 10);
}

#[test]
fn without_compaction_tables_stay_as_they_were_flushed() {
    let place = Place::new();
    let script = "fill 1 10\nflush\n".repeat(30) + "dump\n";
    let said = place.shell_with(&["--compaction", "none"], &script).ok();
    assert!(said.contains("level 0: 30 tables"), "{said}");
    let said = place.shell_with(&["--compaction=tiered"], "compact\ndump\nget 7\n").ok();
    assert!(said.contains("level 0: 0 tables") && said.ends_with("value7\n"), "{said}");
    assert_eq!(place.shell_with(&["--compaction", "best"], "").status, 2);
}

#[test]
fn a_reader_that_stops_early_ends_the_session_without_a_word() {
    let place = Place::new();
    place.shell("fill 1 20000\n").ok();
    let mut command = Command::new(LSMFS);
    command
        .arg("shell")
        .arg(place.store())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"scan\nscan\nscan\n").unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
}

#[test]
fn at_a_terminal_there_is_a_prompt_and_a_history() {
    let place = Place::new();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let side = || {
        let side = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        Stdio::from(side)
    };
    let mut command = Command::new(LSMFS);
    command.arg("shell").arg(place.store()).env("TERM", "xterm");
    let mut child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
    drop(command);
    let mut terminal = File::from(terminal);
    let mut ask = |typed: &str, answer: &str| {
        terminal.write_all(typed.as_bytes()).unwrap();
        let mut shown = String::new();
        // The prompt comes after the answer, and what follows it places the cursor.
        while !shown.find(answer).is_some_and(|at| shown[at + answer.len()..].contains("lsmfs> ")) {
            let patience = Timespec::try_from(PATIENCE).unwrap();
            let ready = poll(&mut [PollFd::new(&terminal, PollFlags::IN)], Some(&patience)).unwrap();
            assert_eq!(ready, 1, "no {answer:?} in {shown:?}");
            let mut piece = [0; 1000];
            let len = terminal.read(&mut piece).unwrap();
            shown.push_str(&String::from_utf8_lossy(&piece[..len]));
        }
    };
    ask("", "");
    ask("fill 1 10\r", "10 values in ");
    ask("get 7\r", "value7");
    // Arrow up: the last line again.
    ask("\x1b[A\r", "value7");
    ask("get nothing\r", "no such file");
    ask("flush\r", "level 0: 1 tables");
    terminal.write_all(b"\x04").unwrap();
    assert!(child.wait().unwrap().success(), "an error at a terminal was seen: it is no failure");
}
