//! `lsmfs batch` and versions, by the command line.

mod common;

use common::{LSMFS, Place, run};
use std::fs;
use std::process::Command;

impl Place {
    /// Runs a batch of these lines.
    fn batch(&self, lines: &str) -> common::Done {
        fs::write(self.join("lines"), lines).unwrap();
        let store = self.store();
        run(Command::new(LSMFS).arg("batch").arg(store).arg(self.join("lines")))
    }
}

#[test]
fn a_batch_makes_all_its_changes_and_prints_what_it_is_asked() {
    let place = Place::new();
    fs::write(place.join("file"), b"from a file\0\xff").unwrap();
    let file = place.join("file").display().to_string();
    let lines = format!(
        "# a store that is made\nput a/b one\\ntwo\nput \"with blanks\" < {file}\nmkdir d\nmv a/b d/c\nversion d/c\nversion a/b\n"
    );
    let said = place.batch(&lines).ok();
    let version = said.lines().next().unwrap().strip_prefix("d/c\t").unwrap().to_string();
    assert_eq!(said.lines().nth(1), Some("a/b\tabsent"));
    assert_eq!(place.lsmfs("scan", &[]).ok(), "d/c\tone\\ntwo\nwith blanks\tfrom a file\\x00\\xff\n");
    assert_eq!(place.lsmfs("get", &["--version", "d/c"]).ok().trim(), version);
    place.batch(&format!("expect d/c version {version}\nrm -r d\n")).ok();
    place.lsmfs("get", &["--version", "d/c"]).fails(1, &["d/c", "no such file"]);
}

#[test]
fn a_batch_that_fails_says_where_and_changes_nothing() {
    let place = Place::new();
    place.batch("put a 1\n").ok();
    for (lines, said) in [
        ("put a 2\n\nexpect a value 1\n", &["line 3", "a", "expected", "nothing was changed"][..]),
        ("put b 2\nexpect c present\n", &["line 2", "expected present, found absent"]),
        ("put b 2\nrm missing\n", &["line 2", "missing", "no such file"]),
        ("put b 2\nfrob\n", &["line 2", "frob"]),
        ("put b 2\nput c\n", &["line 2", "usage: put PATH VALUE"]),
    ] {
        place.batch(lines).fails(1, said);
        assert_eq!(place.lsmfs("scan", &[]).ok(), "a\t1\n");
    }
}
