//! `lsmfs check` and `lsmfs repair` as commands.

mod common;

use common::Place;
use std::fs;
use std::path::PathBuf;

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
    place.umount().ok();
    place.lsmfs("check", &[]).ok();
}
