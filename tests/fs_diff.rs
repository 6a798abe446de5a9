//! What differs between two volumes, held against walks over both of them.

mod fs_common;

use fs_common::{USER, size};
use lsmfs::disk::sim::SimDisk;
use lsmfs::fs::diff::{Difference, diff};
use lsmfs::fs::{
    Attr, Error, FileKind, FileSystem, FsOptions, Host, Ino, ROOT, RenameMode, SetAttr, SetTime, Timestamp,
    XattrMode, engine_options,
};
use lsmfs::lsm::options::Compression;
use lsmfs::lsm::{Options, Store, Volume};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn store(options: Options) -> Arc<Store> {
    Arc::new(Store::open(Arc::new(SimDisk::new(1)), options).unwrap())
}

fn open(store: &Arc<Store>, name: &str) -> FileSystem {
    FileSystem::open(store.clone(), name, FsOptions::default()).unwrap()
}

fn lines(a: &Arc<Volume>, b: &Arc<Volume>) -> Vec<String> {
    let mut lines = Vec::new();
    diff::<Error>(a, b, |difference, path| {
        let letter = match difference {
            Difference::Added => 'A',
            Difference::Removed => 'D',
            Difference::Changed => 'M',
        };
        lines.push(format!("{letter} {}", String::from_utf8(path.to_bytes()).unwrap()));
        Ok(())
    })
    .unwrap();
    lines
}

fn file(fs: &FileSystem, dir: Ino, name: &str, contents: &[u8]) -> Ino {
    let ino = fs.create(dir, name.as_bytes(), 0o644, USER).unwrap().ino;
    fs.write(ino, 0, contents).unwrap();
    ino
}

#[test]
fn paths_are_told_as_they_differ() {
    let store = store(engine_options());
    let fs = open(&store, "main");
    let dir = |parent, name: &str| fs.mkdir(parent, name.as_bytes(), 0o755, USER).unwrap().ino;
    let (d, e) = (dir(ROOT, "d"), dir(ROOT, "e"));
    let below = dir(d, "below");
    file(&fs, below, "deep", b"deep");
    let [plain, linked, noted, large] =
        ["plain", "linked", "noted", "large"].map(|name| file(&fs, e, name, name.as_bytes()));
    fs.write(large, 0, &[1; 200_000]).unwrap();
    fs.link(linked, ROOT, b"other").unwrap();
    file(&fs, ROOT, "gone", b"x");
    fs.mkdir(ROOT, b"kind", 0o755, USER).unwrap();
    fs.close().unwrap();
    let main = store.volume("main").unwrap();
    let fork = store.fork(&main, "fork").unwrap();
    assert_eq!(lines(&main, &fork), [""; 0]);
    let forked = open(&store, "fork");
    for (dir, name) in
        [(ROOT, "d"), (ROOT, "e"), (d, "below"), (e, "plain"), (e, "linked"), (e, "noted"), (e, "large")]
    {
        forked.lookup(dir, name.as_bytes()).unwrap().unwrap();
    }
    // Nothing that can be seen, but for when.
    forked.setattr(plain, &SetAttr { mode: Some(0o644), ..SetAttr::default() }, USER).unwrap();
    file(&forked, e, "brief", b"x");
    forked.unlink(e, b"brief").unwrap();
    assert_eq!(lines(&main, &fork), [""; 0]);
    forked.rename(ROOT, b"d", e, b"moved", RenameMode::Replace).unwrap();
    forked.setattr(plain, &SetAttr { mode: Some(0o600), ..SetAttr::default() }, USER).unwrap();
    forked.write(linked, 3, b"!").unwrap();
    forked.setxattr(noted, b"user.a", b"1", XattrMode::Set, USER).unwrap();
    // As it was, but for one byte.
    let before = forked.getattr(large).unwrap();
    forked.write(large, 150_000, b"2").unwrap();
    let mtime = Some(SetTime::At(before.mtime));
    forked.setattr(large, &SetAttr { mtime, ..SetAttr::default() }, USER).unwrap();
    forked.unlink(ROOT, b"gone").unwrap();
    forked.rmdir(ROOT, b"kind").unwrap();
    file(&forked, ROOT, "kind", b"");
    file(&forked, e, "new\n", b"");
    forked.setattr(ROOT, &SetAttr { mode: Some(0o700), ..SetAttr::default() }, USER).unwrap();
    let wanted = [
        "M /",
        "D d",
        "D d/below",
        "D d/below/deep",
        "M e/large",
        "M e/linked",
        "A e/moved",
        "A e/moved/below",
        "A e/moved/below/deep",
        "A e/new\n",
        "M e/noted",
        "M e/plain",
        "D gone",
        "M kind",
        "M other",
    ];
    assert_eq!(lines(&main, &fork), wanted);
    store.compact().unwrap();
    assert_eq!(lines(&main, &fork), wanted, "whatever they share");
    let back: Vec<String> = lines(&fork, &main);
    let turned: Vec<String> = wanted
        .iter()
        .map(|line| match line.split_at(1) {
            ("A", path) => format!("D{path}"),
            ("D", path) => format!("A{path}"),
            _ => line.to_string(),
        })
        .collect();
    assert_eq!(back, turned);
    let empty = store.create_volume("empty").unwrap();
    assert_eq!(lines(&main, &empty).iter().filter(|line| line.starts_with('D')).count(), 11);
}

/// Two volumes that have nothing in common but what is in them.
#[test]
fn volumes_that_were_filled_apart_are_compared_by_what_can_be_seen() {
    let store = store(engine_options());
    let fill = |name: &str, first: usize| {
        store.create_volume(name).unwrap();
        let fs = open(&store, name);
        // Other inode numbers.
        (0..first).for_each(|n| _ = file(&fs, ROOT, &format!("x{n}"), b""));
        (0..first).for_each(|n| fs.unlink(ROOT, format!("x{n}").as_bytes()).unwrap());
        let dir = fs.mkdir(ROOT, b"d", 0o755, USER).unwrap().ino;
        let time = Some(SetTime::At(Timestamp { secs: 5, nanos: 0 }));
        for (name, contents) in
            [("small", vec![1; 100]), ("large", vec![2; 100_000]), ("sparse", vec![3; 10])]
        {
            let ino = file(&fs, dir, name, &contents);
            if name == "sparse" {
                fs.setattr(ino, &size(1 << 20), USER).unwrap();
                fs.write(ino, 500_000, &[0; 10_000]).unwrap();
            }
            fs.setxattr(ino, b"user.a", b"1", XattrMode::Set, USER).unwrap();
            fs.setattr(ino, &SetAttr { mtime: time, ..SetAttr::default() }, USER).unwrap();
        }
        fs.close().unwrap();
        store.volume(name).unwrap()
    };
    let (a, b) = (fill("a", 0), fill("b", 7));
    assert_eq!(lines(&a, &b), [""; 0]);
    let fs = open(&store, "b");
    let dir = fs.lookup(ROOT, b"d").unwrap().unwrap().ino;
    let large = fs.lookup(dir, b"large").unwrap().unwrap();
    fs.write(large.ino, 90_000, b"x").unwrap();
    fs.setattr(large.ino, &SetAttr { mtime: Some(SetTime::At(large.mtime)), ..SetAttr::default() }, USER)
        .unwrap();
    assert_eq!(lines(&a, &b), ["M d/large"]);
}

/// With one changed file in a large tree only what changed is read.
#[test]
fn the_cost_is_that_of_the_difference() {
    let options = Options {
        memtable_size: 64 << 10,
        table_size: 32 << 10,
        bottom_compression: Compression::None,
        background: false,
        ..engine_options()
    };
    let store = store(options);
    let fs = open(&store, "main");
    for d in 0..40 {
        let dir = fs.mkdir(ROOT, format!("d{d}").as_bytes(), 0o755, USER).unwrap().ino;
        (0..100).for_each(|n| _ = file(&fs, dir, &format!("f{n}"), &[n as u8; 300]));
        while store.step().unwrap() {}
    }
    fs.close().unwrap();
    store.compact().unwrap();
    let main = store.volume("main").unwrap();
    let fork = store.fork(&main, "fork").unwrap();
    let forked = open(&store, "fork");
    let dir = forked.lookup(ROOT, b"d17").unwrap().unwrap().ino;
    let changed = forked.lookup(dir, b"f50").unwrap().unwrap().ino;
    forked.write(changed, 0, b"changed").unwrap();
    for flushed in [false, true] {
        if flushed {
            store.flush().unwrap();
        }
        let stats = store.stats();
        let tables: usize = stats.volumes[0].levels.iter().map(|level| level.len()).sum();
        assert!(tables > 15, "{tables}");
        let before = (stats.cache.hits + stats.cache.misses, stats.disk.table_reads);
        assert_eq!(lines(&main, &fork), ["M d17/f50"]);
        let stats = store.stats();
        let (blocks, reads) =
            (stats.cache.hits + stats.cache.misses - before.0, stats.disk.table_reads - before.1);
        assert!(
            blocks < 60 && reads < 20,
            "{blocks} blocks were looked at, {reads} read, flushed: {flushed}"
        );
    }
}

#[derive(Debug, Clone)]
enum Op {
    File(usize, u8),
    Dir(usize, u8),
    Link((usize, u8), (usize, u8)),
    Unlink(usize, u8),
    Rename((usize, u8), (usize, u8), RenameMode),
    Write(usize, u8, u64, usize, u8),
    Resize(usize, u8, u64),
    Chmod(usize, u8, u32),
    Xattr(usize, u8, u8),
    Tree(usize),
    Flush,
    Step,
    Compact,
}

fn op() -> impl Strategy<Value = Op> {
    let at = || (0..9usize, 0..5u8);
    let mode = || prop_oneof![3 => Just(RenameMode::Replace), 1 => Just(RenameMode::Exchange)];
    prop_oneof![
        5 => at().prop_map(|(dir, name)| Op::File(dir, name)),
        4 => at().prop_map(|(dir, name)| Op::Dir(dir, name)),
        3 => (at(), at()).prop_map(|(from, to)| Op::Link(from, to)),
        3 => at().prop_map(|(dir, name)| Op::Unlink(dir, name)),
        5 => (at(), at(), mode()).prop_map(|(from, to, mode)| Op::Rename(from, to, mode)),
        4 => (at(), 0..150_000u64, 0..9000usize, 0..3u8)
            .prop_map(|((dir, name), offset, len, byte)| Op::Write(dir, name, offset, len, byte)),
        2 => (at(), 0..150_000u64).prop_map(|((dir, name), size)| Op::Resize(dir, name, size)),
        1 => (at(), 0..0o777u32).prop_map(|((dir, name), mode)| Op::Chmod(dir, name, mode)),
        2 => (at(), 0..3u8).prop_map(|((dir, name), value)| Op::Xattr(dir, name, value)),
        1 => (0..9usize).prop_map(Op::Tree),
        2 => Just(Op::Flush),
        2 => Just(Op::Step),
        1 => Just(Op::Compact),
    ]
}

fn name(n: u8) -> [u8; 1] {
    [b'a' + n]
}

/// The directories of a file system, in the order of their paths.
fn directories(fs: &FileSystem) -> Vec<Ino> {
    walk(fs).into_values().filter(|seen| seen.0.kind == FileKind::Directory).map(|seen| seen.0.ino).collect()
}

/// Does it if it can be done.
fn apply(store: &Store, fs: &FileSystem, op: &Op) {
    let dirs = directories(fs);
    let dir = |at: usize| dirs[at % dirs.len()];
    let find = |at: usize, n: u8| fs.lookup(dir(at), &name(n)).unwrap().map(|attr| attr.ino);
    let set = |set: SetAttr| move |ino| drop(fs.setattr(ino, &set, USER));
    // Which of them fail is another test's matter.
    match *op {
        Op::File(at, n) => drop(fs.create(dir(at), &name(n), 0o644, USER)),
        Op::Dir(at, n) => drop(fs.mkdir(dir(at), &name(n), 0o755, USER)),
        Op::Link(from, (at, n)) => drop(find(from.0, from.1).map(|ino| fs.link(ino, dir(at), &name(n)))),
        Op::Unlink(at, n) => drop(fs.unlink(dir(at), &name(n)).or_else(|_| fs.rmdir(dir(at), &name(n)))),
        Op::Rename((from, a), (to, b), mode) => drop(fs.rename(dir(from), &name(a), dir(to), &name(b), mode)),
        Op::Write(at, n, offset, len, byte) => {
            drop(find(at, n).map(|ino| fs.write(ino, offset, &vec![byte; len])));
        }
        Op::Resize(at, n, new) => _ = find(at, n).map(set(size(new))),
        Op::Chmod(at, n, mode) => {
            _ = find(at, n).map(set(SetAttr { mode: Some(mode), ..SetAttr::default() }))
        }
        Op::Xattr(at, n, value) => {
            drop(find(at, n).map(|ino| fs.setxattr(ino, b"user.a", &[value], XattrMode::Set, USER)));
        }
        // Much is removed at once: range tombstones.
        Op::Tree(at) => {
            let made = fs.mkdir(dir(at), b"many", 0o755, USER).map(|attr| attr.ino);
            let Ok(made) = made else { return };
            let ino = file(fs, made, "large", &[7; 1000]);
            (0..100).for_each(|n| _ = fs.write(ino, n * 65_536, b"x").unwrap());
            store.flush().unwrap();
            fs.unlink(made, b"large").unwrap();
            fs.forget(ino, u64::MAX >> 4);
            fs.rmdir(dir(at), b"many").unwrap();
        }
        Op::Flush => store.flush().unwrap(),
        Op::Step => drop(store.step().unwrap()),
        Op::Compact => store.compact().unwrap(),
    }
}

type Seen = (Attr, Vec<u8>, Option<Vec<u8>>);

/// Everything in a file system, in the order of paths.
fn walk(fs: &FileSystem) -> BTreeMap<Vec<String>, Seen> {
    let mut found = BTreeMap::new();
    let mut ways = vec![(Vec::new(), fs.getattr(ROOT).unwrap())];
    while let Some((path, attr)) = ways.pop() {
        let mut contents = Vec::new();
        if attr.kind == FileKind::Directory {
            let dir = fs.opendir(attr.ino).unwrap();
            fs.readdir_plus(&dir, 2, &mut |entry| {
                let mut below: Vec<String> = path.clone();
                below.push(String::from_utf8_lossy(entry.name).into_owned());
                ways.push((below, entry.attr.unwrap()));
                false
            })
            .unwrap();
        } else {
            contents = fs.read(attr.ino, 0, attr.size as usize).unwrap().to_vec();
        }
        let xattr = fs.getxattr(attr.ino, b"user.a").unwrap().map(|value| value.to_vec());
        found.insert(path, (attr, contents, xattr));
    }
    found
}

/// The difference, from two walks.
fn compare(a: &BTreeMap<Vec<String>, Seen>, b: &BTreeMap<Vec<String>, Seen>) -> Vec<String> {
    let seen = |(attr, contents, xattr): &Seen| {
        let times = (attr.kind != FileKind::Directory).then_some((attr.size, attr.mtime));
        (attr.kind, attr.mode, attr.uid, attr.gid, times, contents.clone(), xattr.clone())
    };
    let mut paths: Vec<_> = a.keys().chain(b.keys()).collect();
    paths.sort();
    paths.dedup();
    let line = |path: &Vec<String>| {
        let letter = match (a.get(path), b.get(path)) {
            (Some(a), Some(b)) if seen(a) == seen(b) => return None,
            (Some(_), Some(_)) => 'M',
            (None, _) => 'A',
            (_, None) => 'D',
        };
        Some(format!("{letter} {}", if path.is_empty() { "/".to_string() } else { path.join("/") }))
    };
    paths.into_iter().filter_map(line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_difference_is_what_two_walks_show(
        before in prop::collection::vec(op(), 0..40),
        on_main in prop::collection::vec(op(), 0..12),
        on_fork in prop::collection::vec(op(), 0..12),
        restored: bool,
    ) {
        let options = Options {
            memtable_size: 8 << 10,
            table_size: 8 << 10,
            block_size: 512,
            l0_compaction_trigger: 2,
            background: false,
            ..engine_options()
        };
        let store = store(options);
        let fs = open(&store, "main");
        before.iter().for_each(|op| apply(&store, &fs, op));
        fs.close().unwrap();
        let main = store.volume("main").unwrap();
        store.create_snapshot(&main, "s").unwrap();
        store.fork(&main, "fork").unwrap();
        let at_fork = walk(&fs);
        let (fs, forked) = (open(&store, "main"), open(&store, "fork"));
        on_main.iter().for_each(|op| apply(&store, &fs, op));
        on_fork.iter().for_each(|op| apply(&store, &forked, op));
        let fork = store.volume("fork").unwrap();
        let snapshot = store.snapshot(&main, "s").unwrap();
        prop_assert_eq!(lines(&main, &fork), compare(&walk(&fs), &walk(&forked)));
        prop_assert_eq!(lines(&snapshot, &fork), compare(&at_fork, &walk(&forked)));
        prop_assert_eq!(lines(&main, &snapshot), compare(&walk(&fs), &at_fork));
        prop_assert_eq!(lines(&main, &main), [""; 0]);
        if restored {
            let main = Host::new(store.clone(), FsOptions::default()).restore("main", "s").unwrap();
            prop_assert_eq!(lines(&main, &snapshot), [""; 0]);
            prop_assert_eq!(lines(&main, &fork), compare(&at_fork, &walk(&forked)));
        }
    }
}
