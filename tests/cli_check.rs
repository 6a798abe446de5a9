//! `lsmfs check` and `lsmfs repair` as commands.

mod common;

use common::Place;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A store with some files in it, and one table.
fn store() -> Place {
    let place = Place::new();
    for i in 0..12 {
        place
            .lsmfs("put", &[&format!("dir/file{i}"), "--value", &format!("value {i} {}", "x".repeat(i * 10))])
            .ok();
    }
    place
}

fn files(place: &Place, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.store()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().ends_with(end)).collect()
}

fn flip(path: &PathBuf, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_sound_store_is_said_to_be_and_left_as_it_is() {
    let place = store();
    let listing = || {
        let mut all: Vec<_> = files(&place, "").into_iter().filter(|path| path.is_file()).collect();
        all.retain(|path| !path.ends_with("LOCK"));
        all.sort();
        all.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect::<Vec<_>>()
    };
    let before = listing();
    let done = place.lsmfs("check", &[]);
    assert_eq!(done.status, 0, "{done:?}");
    assert!(
        done.text().ends_with("sound\n") && done.text().contains("12 files, 2 directories"),
        "{}",
        done.text()
    );
    assert!(listing() == before);
}

#[test]
fn damage_is_named_with_file_and_offset() {
    let place = store();
    let table = files(&place, ".sst")[0].clone();
    flip(&table, 100);
    let done = place.lsmfs("check", &[]);
    assert_eq!(done.status, 1, "{done:?}");
    let name = table.file_name().unwrap().to_str().unwrap();
    assert!(done.text().contains(name) && done.text().contains("at byte"), "{}", done.text());
}

#[test]
fn a_mounted_store_is_not_checked() {
    let place = store();
    place.mount(&[]).ok();
    let done = place.lsmfs("check", &[]);
    assert_eq!(done.status, 1);
    assert!(done.err.contains("mounted at"), "{}", done.err);
    assert!(place.lsmfs("repair", &[]).err.contains("mounted at"));
    place.umount().ok();
    place.lsmfs("check", &[]).ok();
}

/// The values that are there, by path.
fn values(place: &Place) -> Vec<String> {
    place.lsmfs("scan", &[]).ok().lines().map(str::to_string).collect()
}

#[test]
fn a_sound_store_is_not_repaired() {
    let place = store();
    let done = place.lsmfs("repair", &[]);
    assert_eq!((done.status, done.text()), (0, "sound: there is nothing to repair\n"));
}

#[test]
fn a_lost_manifest_is_rebuilt() {
    let place = store();
    let before = values(&place);
    for manifest in files(&place, "").iter().filter(|path| path.to_string_lossy().contains("/manifest-")) {
        fs::remove_file(manifest).unwrap();
    }
    assert_eq!(place.lsmfs("get", &["dir/file1"]).status, 1);
    let done = place.lsmfs("repair", &[]);
    assert!(done.status == 0 && done.text().contains("rebuilt"), "{done:?}");
    assert_eq!(values(&place), before);
    place.lsmfs("check", &[]).ok();
    assert!(place.store().join("lost").is_dir());
}

#[test]
fn volumes_that_may_lack_files_are_named_when_the_manifests_copy_is_lost_too() {
    let place = store();
    let before = values(&place);
    place.lsmfs("fork", &["main", "twin"]).ok();
    place.lsmfs("put", &["--volume", "twin", "new", "--value", "twin's"]).ok();
    place.lsmfs("flush", &[]).ok();
    for file in files(&place, "") {
        let path = file.to_string_lossy();
        if path.contains("/manifest-") || path.contains("/copy-") {
            fs::remove_file(&file).unwrap();
        }
    }
    let done = place.lsmfs("repair", &[]);
    let told =
        |name: &str| done.text().lines().any(|line| line.starts_with(&format!("{name} may lack files")));
    assert!(done.status == 0 && told("twin") && !told("main"), "{done:?}");
    assert_eq!(values(&place), before);
    assert_eq!(place.lsmfs("get", &["--volume", "twin", "new"]).ok(), "twin's");
    place.lsmfs("check", &[]).ok();
}

#[test]
fn a_damaged_block_costs_the_files_in_it_and_they_are_told_of() {
    let place = Place::new();
    let lines: String = (0..400).map(|i| format!("put file{i:03} {i}{}\n", "x".repeat(100))).collect();
    let script = place.join("script");
    fs::write(&script, lines).unwrap();
    place.lsmfs("put", &["first", "--value", "x"]).ok();
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" shell \"$1\" < \"$2\"", common::LSMFS]).args([place.store(), script]);
    common::run(&mut shell).ok();
    let before = values(&place);
    let largest =
        files(&place, ".sst").into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    flip(&largest, largest.metadata().unwrap().len() as usize / 3);
    let done = place.lsmfs("repair", &[]);
    assert!(done.status == 0 && done.text().contains("lost: "), "{done:?}");
    let after = values(&place);
    assert!(
        after.len() < before.len() && after.len() > before.len() / 2,
        "{} of {}",
        after.len(),
        before.len()
    );
    assert!(after.iter().all(|line| before.contains(line)));
    place.lsmfs("check", &[]).ok();
}
