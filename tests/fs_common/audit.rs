//! What must hold in a store whatever happened: the records of a volume fit together.

use super::Fixture;
use lsmfs::fs::entry::{CHUNK_SIZE, PAGE_SIZE};
use lsmfs::fs::{Attr, FileKind, Ino, ROOT};
use std::collections::{BTreeMap, BTreeSet};

/// A file as [`tree`] shows it: what it is, its links, and its contents.
pub type Seen = (FileKind, u32, Vec<u8>);

/// Everything that can be reached by name: path to attributes and contents.
pub fn tree(f: &Fixture) -> BTreeMap<String, Seen> {
    walk(f).into_iter().map(|(path, (attr, contents))| (path, (attr.kind, attr.nlink, contents))).collect()
}

fn walk(f: &Fixture) -> BTreeMap<String, (Attr, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut ways = vec![(String::new(), f.fs.getattr(ROOT).unwrap())];
    while let Some((path, attr)) = ways.pop() {
        let mut contents = Vec::new();
        match attr.kind {
            FileKind::Directory => {
                let dir = f.fs.opendir(attr.ino).unwrap();
                f.fs.readdir_plus(&dir, 2, &mut |entry| {
                    let name = String::from_utf8_lossy(entry.name);
                    ways.push((format!("{path}/{name}"), entry.attr.unwrap()));
                    false
                })
                .unwrap();
            }
            FileKind::File => contents = super::contents(&f.fs, attr.ino),
            FileKind::Symlink => contents = f.fs.readlink(attr.ino).unwrap().to_vec(),
            _ => {}
        }
        found.insert(path, (attr, contents));
    }
    for (attr, _) in found.values() {
        f.fs.forget(attr.ino, 1);
    }
    found
}

/// Checks that a volume's records fit together. Nothing may be unlinked and referenced.
pub fn audit(f: &Fixture) {
    let checked = lsmfs::fs::check::check(&f.store.volume("main").unwrap(), &mut || ()).unwrap();
    assert_eq!(checked.findings, [], "what the check finds");
    let found = walk(f);
    let mut links: BTreeMap<Ino, u32> = BTreeMap::new();
    let mut subdirectories: BTreeMap<Ino, u32> = BTreeMap::new();
    let mut parents = BTreeSet::new();
    for (path, (attr, _)) in found.iter().filter(|(path, _)| !path.is_empty()) {
        *links.entry(attr.ino).or_default() += 1;
        if attr.kind == FileKind::Directory {
            let (parent, name) = path.rsplit_once('/').unwrap();
            let parent = found[parent].0.ino;
            *subdirectories.entry(parent).or_default() += 1;
            parents.insert((attr.ino, [&[1], &parent.to_be_bytes()[..], name.as_bytes()].concat()));
        }
    }
    for (path, (attr, contents)) in &found {
        let wanted = match attr.kind {
            FileKind::Directory => 2 + subdirectories.get(&attr.ino).copied().unwrap_or(0),
            _ => links[&attr.ino],
        };
        assert_eq!(attr.nlink, wanted, "links of {path}");
        assert!(attr.kind == FileKind::Directory || attr.size == contents.len() as u64, "size of {path}");
    }
    let volume = f.store.volume("main").unwrap();
    let recorded = f.keys(b'p').into_iter().map(|key| {
        let ino = Ino::from_be_bytes(key[1..].try_into().unwrap());
        (ino, volume.get_head(&key).unwrap().unwrap().to_vec())
    });
    assert_eq!(recorded.collect::<BTreeSet<_>>(), parents, "parent records");
    assert_eq!(f.keys(b'o'), [[0; 0]; 0], "orphan records");
    let inos: BTreeSet<Ino> = found.values().map(|(attr, _)| attr.ino).collect();
    for key in f.keys(b'x') {
        let ino = Ino::from_be_bytes(key[1..9].try_into().unwrap());
        assert!(inos.contains(&ino), "extended attribute of nobody, {ino}");
    }
    audit_links(f, &found);
    audit_chunks(f, &found.values().map(|(attr, contents)| (attr.ino, (*attr, contents.clone()))).collect());
}

/// Whoever has several names is kept at its own key, with all its names.
fn audit_links(f: &Fixture, found: &BTreeMap<String, (Attr, Vec<u8>)>) {
    let (records, names): (Vec<_>, Vec<_>) = f.keys(b'i').into_iter().partition(|key| key.len() == 9);
    let shared: BTreeSet<Ino> =
        records.iter().map(|key| Ino::from_be_bytes(key[1..].try_into().unwrap())).collect();
    let mut wanted = BTreeSet::new();
    for (path, (attr, _)) in found.iter().filter(|(_, (attr, _))| attr.kind != FileKind::Directory) {
        assert!(attr.nlink == 1 || shared.contains(&attr.ino), "{path} is not shared");
        if shared.contains(&attr.ino) {
            let (parent, name) = path.rsplit_once('/').unwrap();
            let parent = found[parent].0.ino.to_be_bytes();
            wanted.insert([b"i", &attr.ino.to_be_bytes()[..], &parent, name.as_bytes()].concat());
        }
    }
    assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), wanted, "names of shared files");
    assert!(shared.iter().all(|ino| found.values().any(|(attr, _)| attr.ino == *ino)), "shared by nobody");
}

/// Every chunk belongs to a file and lies below its size, its page map says which pages are stored, the
/// others are zeros, and the files' blocks count them.
pub fn audit_chunks(f: &Fixture, files: &BTreeMap<Ino, (Attr, Vec<u8>)>) {
    let volume = f.store.volume("main").unwrap();
    let mut stored: BTreeMap<Ino, u64> = BTreeMap::new();
    let (chunks, mut maps): (BTreeSet<_>, BTreeSet<_>) =
        f.keys(b'd').into_iter().partition(|key| key.len() == 13);
    for key in chunks {
        let (ino, number) = key[1..].split_at(8);
        let ino = Ino::from_be_bytes(ino.try_into().unwrap());
        let number = u64::from(u32::from_be_bytes(number.try_into().unwrap()));
        let (attr, contents) = files.get(&ino).unwrap_or_else(|| panic!("chunk {number} of nobody, {ino}"));
        assert!(number * CHUNK_SIZE < attr.size, "chunk {number} of {ino} past its size");
        let contents = &contents[(number * CHUNK_SIZE) as usize..];
        let contents = &contents[..contents.len().min(CHUNK_SIZE as usize)];
        let map = [&key[..], &[0]].concat();
        let bits = volume.get_head(&map).unwrap().map(|head| u16::from_be_bytes([head[1], head[2]]));
        assert_eq!(bits.is_some(), maps.remove(&map));
        let pages = contents.chunks(PAGE_SIZE as usize);
        let all = (1u32 << pages.len()) - 1;
        assert!(bits.is_none_or(|bits| bits > 0 && u32::from(bits) & !all == 0 && u32::from(bits) != all));
        let bits = bits.map_or(all, u32::from);
        for (page, contents) in pages.enumerate() {
            let hole = bits & (1 << page) == 0;
            assert!(!hole || contents.iter().all(|byte| *byte == 0), "page {page} of {number} of {ino}");
        }
        *stored.entry(ino).or_default() += u64::from(bits.count_ones());
    }
    assert!(maps.is_empty(), "page maps of no chunk: {maps:?}");
    for (ino, (attr, _)) in files.iter().filter(|(_, (attr, _))| attr.kind == FileKind::File) {
        let pages = stored.get(ino).copied().unwrap_or(0);
        assert!(attr.blocks == pages * 8 || pages == 0 && attr.blocks <= 8, "{attr:?}: {pages} pages");
    }
}
