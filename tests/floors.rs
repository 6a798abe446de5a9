//! The floors of the house: who may use whom.

use std::path::{Path, PathBuf};

/// From the lowest to the highest.
const FLOORS: [&str; 4] = ["disk", "lsm", "fs", "cli"];

/// The only file that may name the crate that speaks FUSE.
const FUSE_FACE: &str = "src/fs/fuse.rs";

fn source_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The lines of a source file that are code, with their numbers.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line)).filter(|(_, line)| {
        let line = line.trim_start();
        !line.starts_with("//")
    })
}

/// The floors that a line of code names, as `crate::NAME`.
fn floors_named(line: &str) -> Vec<usize> {
    let after = line.split("crate::").skip(1);
    let names = after.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""));
    names.filter_map(|name| FLOORS.iter().position(|floor| *floor == name)).collect()
}

/// Does a line of code use the crate `name` (not a module of that name in a longer path)?
fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

/// The floor of a source file; `lib.rs` and `main.rs` stand on none.
fn floor_of(path: &Path) -> Option<usize> {
    let first = path.strip_prefix("src").unwrap().iter().next().unwrap().to_str().unwrap();
    FLOORS.iter().position(|floor| *floor == first.trim_end_matches(".rs"))
}

#[test]
fn each_floor_uses_only_those_below_it() {
    let mut wrong = Vec::new();
    let mut arrows = 0;
    for path in source_files(Path::new("src")) {
        let Some(own) = floor_of(&path) else { continue };
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in code_lines(&text) {
            for used in floors_named(line) {
                arrows += 1;
                if used > own {
                    wrong.push(format!("{}:{number}: {}", path.display(), line.trim()));
                }
            }
            // This test does not look into such a list: name each floor by itself.
            if line.contains("crate::{") {
                wrong.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(arrows > 20, "only {arrows} uses of a floor were found: does this test still see the code?");
    assert_eq!(wrong, Vec::<String>::new(), "these lines point upwards");
}

#[test]
fn only_the_fuse_face_knows_fuser() {
    let mut wrong = Vec::new();
    for path in source_files(Path::new("src")).into_iter().filter(|path| !path.starts_with(FUSE_FACE)) {
        if path.starts_with(FUSE_FACE.trim_end_matches(".rs")) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in code_lines(&text).filter(|(_, line)| names_crate(line, "fuser")) {
            wrong.push(format!("{}:{number}: {}", path.display(), line.trim()));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_checks_see_what_they_look_for() {
    assert_eq!(floors_named("use crate::lsm::{Batch, Store};"), [1]);
    assert_eq!(floors_named("fn f(a: crate::fs::A, b: crate::disk::B) {"), [2, 0]);
    assert_eq!(floors_named("use super::cli;"), []);
    assert_eq!(floor_of(Path::new("src/fs/mount/table.rs")), Some(2));
    assert_eq!(floor_of(Path::new("src/main.rs")), None);
    assert!(names_crate("use fuser::Session;", "fuser"));
    assert!(!names_crate("use my_fuser::Session;", "fuser"));
    assert_eq!(code_lines("a\n // crate::cli\nb").map(|(number, _)| number).collect::<Vec<_>>(), [1, 3]);
}
