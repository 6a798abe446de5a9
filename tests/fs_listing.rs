//! Listings: what they show while names come and go, and where they go on.

mod fs_common;

use fs_common::{Fixture, USER, names_by};
use lsmfs::fs::{DirHandle, FileSystem, Ino, ROOT, RenameMode};
use proptest::collection::btree_set;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;

fn make(fs: &FileSystem, dir: Ino, names: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    for name in names {
        let ino = fs.create(dir, name.as_ref(), 0o644, USER).unwrap().ino;
        fs.forget(ino, 1);
    }
}

/// The entries, `.` and `..` among them, each with its cookie.
fn entries(fs: &FileSystem, dir: &DirHandle) -> Vec<(String, u64)> {
    let mut entries = Vec::new();
    fs.readdir(dir, 0, &mut |entry| {
        entries.push((String::from_utf8_lossy(entry.name).into_owned(), entry.cookie));
        false
    })
    .unwrap();
    entries
}

#[test]
fn listings_go_on_from_every_cookie() {
    let f = Fixture::new();
    let d = f.fs.mkdir(ROOT, b"d", 0o755, USER).unwrap().ino;
    let all: Vec<String> = (0..5000).map(|i| format!("{i:05}")).collect();
    make(&f.fs, d, &all);
    let handle = f.fs.opendir(d).unwrap();
    let told = entries(&f.fs, &handle);
    assert_eq!(told.len(), all.len() + 2);
    for at_once in [1000, 1024, 4999, 100_000] {
        assert_eq!(names_by(&f.fs, &handle, 0, at_once), all);
    }
    for read in [1, 2, 3, 1025, 1026, 1027, 2000, 4097, 4999, 5001, 5002] {
        let (cookie, rest) = (told[read - 1].1, &all[read.saturating_sub(2)..]);
        assert_eq!(names_by(&f.fs, &handle, cookie, 333), rest, "{read}");
        let other = f.fs.opendir(d).unwrap();
        assert_eq!(names_by(&f.fs, &other, cookie, 1000), rest, "{read}, by who was never at the start");
    }
    // Cookies that were never told do no harm.
    for cookie in [3, 1 << 27, 7 << 27, u64::MAX >> 1, u64::MAX] {
        names_by(&f.fs, &handle, cookie, 10_000);
    }
}

/// A name of a few, so that many come again.
fn name() -> impl Strategy<Value = String> {
    "[a-c]{1,5}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What the kernel kept of a listing it may drop half-way: then a handle is asked to go on behind a name that it
    /// never showed, in a directory that may have changed. So it is with who comes back after a long time.
    #[test]
    fn who_has_not_seen_what_was_read_goes_on_behind_it(
        before in btree_set(name(), 1..200),
        come in btree_set(name(), 0..200),
        go in btree_set(name(), 0..200),
        at in any::<Index>(),
        had_begun in any::<bool>(),
        knows_the_name in any::<bool>(),
    ) {
        let f = Fixture::new();
        let d = f.fs.mkdir(ROOT, b"d", 0o755, USER).unwrap().ino;
        make(&f.fs, d, &before);
        let began = f.fs.opendir(d).unwrap();
        let told = entries(&f.fs, &began);
        let (last, cookie) = at.get(&told[2..]);
        for name in go.intersection(&before) {
            f.fs.unlink(d, name.as_bytes()).unwrap();
        }
        make(&f.fs, d, come.difference(&before));
        let now: BTreeSet<&String> = before.difference(&go).chain(come.difference(&before)).collect();
        let handle = if had_begun { &began } else { &f.fs.opendir(d).unwrap() };
        if knows_the_name {
            handle.stopped_behind(*cookie, last.as_bytes());
        }
        let shown = names_by(&f.fs, handle, *cookie, 7);
        if had_begun {
            // It goes on in the moment that it has shown: what was removed since it leaves out or shows.
            prop_assert!(shown.iter().all(|name| name > last), "what was read is not shown again");
            let stays: Vec<&String> = before.difference(&go).filter(|name| *name > last).collect();
            let shown: Vec<&String> = shown.iter().filter(|name| stays.contains(name)).collect();
            prop_assert_eq!(shown, stays);
        } else {
            let behind: Vec<&String> = match knows_the_name || now.contains(last) {
                true => now.iter().copied().filter(|name| *name > last).collect(),
                false => now.iter().copied().collect(),
            };
            prop_assert_eq!(shown.iter().collect::<Vec<_>>(), behind);
        }
    }
}

#[test]
fn a_name_is_found_where_many_others_have_come_and_gone() {
    let f = Fixture::small_memtables();
    let d = f.fs.mkdir(ROOT, b"d", 0o755, USER).unwrap().ino;
    let named = |i: u32| format!("{i:06}");
    make(&f.fs, d, (0..10_000).map(named));
    let told = entries(&f.fs, &f.fs.opendir(d).unwrap());
    // Programs of 32 bits take no larger ones.
    assert!(told[..8000].iter().all(|(_, cookie)| i32::try_from(*cookie).is_ok()));
    for i in (0..3000).filter(|i| i % 100 != 1) {
        f.fs.unlink(d, named(i).as_bytes()).unwrap();
    }
    make(&f.fs, d, (0..1500).map(|i| format!("{:06}-new", 3000 + i)));
    let now = f.fs.opendir(d).unwrap();
    let now = names_by(&f.fs, &now, 0, 10_000);
    for (last, cookie) in told.iter().filter(|(name, _)| now.contains(name)).step_by(700) {
        let behind: Vec<&String> = now.iter().filter(|name| *name > last).collect();
        // Each of them finds it anew, and goes on.
        for at_once in [10_000, 2000] {
            let handle = f.fs.opendir(d).unwrap();
            assert!(names_by(&f.fs, &handle, *cookie, at_once).iter().eq(behind.iter().copied()), "{last}");
        }
    }
}

#[test]
fn who_comes_back_after_a_long_time_goes_on_where_he_stopped() {
    let f = Fixture::new();
    let d = f.fs.mkdir(ROOT, b"d", 0o755, USER).unwrap().ino;
    make(&f.fs, d, (0..5000).map(|i| format!("{i:04}")));
    let (mut seen, mut cookie) = (Vec::<String>::new(), 0);
    let mut read = |until: usize| {
        // What was under way is not there any more.
        let handle = f.fs.opendir(d).unwrap();
        if let Some(last) = seen.last() {
            handle.stopped_behind(cookie, last.as_bytes());
        }
        f.fs.readdir_plus(&handle, cookie, &mut |entry| {
            let full = seen.len() == until;
            if !full {
                cookie = entry.cookie;
                seen.extend((entry.attr.is_some()).then(|| String::from_utf8(entry.name.to_vec()).unwrap()));
            }
            full
        })
        .unwrap();
    };
    read(1500);
    // The one that was shown last goes, and others before and behind it.
    for i in (0..3000).step_by(7).chain([1499, 2500]) {
        let _ = f.fs.unlink(d, format!("{i:04}").as_bytes());
    }
    make(&f.fs, d, ["0000-new", "2999-new"]);
    read(3000);
    read(usize::MAX);
    assert!(seen.is_sorted(), "nothing is shown again");
    let left = |i: &u32| *i < 1500 || !i.is_multiple_of(7) && *i != 2500 || *i >= 3000;
    let expected: BTreeSet<String> = (0..5000).filter(left).map(|i| format!("{i:04}")).collect();
    let seen: BTreeSet<String> = seen.into_iter().filter(|name| name != "2999-new").collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_listing_shows_what_stays_exactly_once() {
    let f = Fixture::small_memtables();
    for i in 0..3000 {
        f.fs.create(ROOT, format!("{i:04}").as_bytes(), 0o644, USER).unwrap();
    }
    let dir = f.fs.opendir(ROOT).unwrap();
    let (mut seen, mut cookie, mut round) = (Vec::new(), 0, 0);
    loop {
        let before = seen.len();
        let mut left = 100;
        f.fs.readdir_plus(&dir, cookie, &mut |entry| {
            left -= 1;
            if left < 0 {
                return true;
            }
            cookie = entry.cookie;
            seen.push(String::from_utf8(entry.name.to_vec()).unwrap());
            false
        })
        .unwrap();
        if seen.len() == before {
            break;
        }
        // Odd names go, others come, before and behind what was read.
        for i in (round..3000).step_by(30).filter(|i| i % 2 == 1) {
            f.fs.unlink(ROOT, format!("{i:04}").as_bytes()).unwrap();
            f.fs.create(ROOT, format!("{i:04}-new").as_bytes(), 0o644, USER).unwrap();
        }
        round += 1;
    }
    let even: Vec<String> = (0..3000).step_by(2).map(|i| format!("{i:04}")).collect();
    let stayed: Vec<String> = seen.iter().filter(|n| even.contains(n)).cloned().collect();
    assert_eq!(stayed, even);
    let mut once = seen.clone();
    once.dedup();
    assert_eq!(once, seen);
}

#[test]
fn a_listing_with_attributes_shows_the_present_ones() {
    let f = Fixture::new();
    let d = f.fs.mkdir(ROOT, b"d", 0o755, USER).unwrap().ino;
    let make = |name: &str| f.fs.create(d, name.as_bytes(), 0o644, USER).unwrap().ino;
    let (gone, grown, replaced, still) = (make("gone"), make("grown"), make("replaced"), make("still"));
    let dir = f.fs.opendir(d).unwrap();
    // The snapshot is taken with the first entry.
    f.fs.readdir_plus(&dir, 0, &mut |entry| entry.name == b"gone").unwrap();
    f.fs.unlink(d, b"gone").unwrap();
    f.fs.write(grown, 0, b"12345").unwrap();
    let new = make("new");
    f.fs.rename(d, b"new", d, b"replaced", RenameMode::Replace).unwrap();
    let mut seen = Vec::new();
    f.fs.readdir_plus(&dir, 2, &mut |entry| {
        seen.push((entry.name.to_vec(), entry.ino, entry.attr.unwrap().size));
        false
    })
    .unwrap();
    let want = [(b"grown".to_vec(), grown, 5), (b"replaced".to_vec(), new, 0), (b"still".to_vec(), still, 0)];
    assert_eq!(seen, want);
    // Each is referenced once more.
    for ino in [gone, replaced, grown, still, new, d] {
        f.fs.forget(ino, 1);
    }
    for (ino, left) in [(gone, false), (replaced, false), (grown, true), (still, true), (new, true)] {
        assert_eq!(f.fs.getattr(ino).is_ok(), left, "{ino}");
    }
    for ino in [grown, still, new] {
        f.fs.forget(ino, 1);
    }
    assert_eq!(f.fs.referenced(), 0);
}
