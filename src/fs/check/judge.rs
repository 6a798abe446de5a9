//! The comparison of what was gathered.

use super::gather::{Chunks, Dir, Gathered, Link, chunk_len};
use super::{FOUND_PREFIX, Field, Finding, Mend, Place, Report};
use crate::fs::attr::{Caller, FileKind, Ino, ROOT, Timestamp};
use crate::fs::entry::{CHUNK_SIZE, Entry, Record, encode_counter, encode_link, encode_parent};
use crate::fs::keys;
use crate::fs::node::Outcome;
use crate::lsm::{Tally, Volume};
use std::collections::{BTreeMap, BTreeSet};

/// Directories deeper than this are taken for an endless loop.
const DEPTH_MAX: usize = 1 << 20;

/// What is made for what lost its record belongs to the superuser, and is closed to others.
const FOUND_OWNER: Caller = Caller { uid: 0, gid: 0, umask: 0 };
const FOUND_DIR_MODE: u32 = 0o700;
const FOUND_FILE_MODE: u32 = 0o600;

/// Compares what was gathered.
pub(super) fn judge(volume: &Volume, mut all: Gathered) -> Outcome<Report> {
    count_subdirectories(&mut all);
    root(&mut all);
    lost_directories(volume, &mut all)?;
    parents(&mut all);
    loops(&mut all);
    directory_links(&mut all);
    same_inode_twice(&mut all);
    links(volume, &mut all)?;
    contents_of_nobody(volume, &mut all)?;
    attributes(&mut all);
    counter(&mut all);
    tally(volume, &mut all);
    let findings = std::mem::take(&mut all.findings);
    let finding = |(place, what, mends)| Finding { place: readable(&all.dirs, &place), what, mends };
    Ok(Report {
        files: (all.files.len() + all.shared.len()) as u64,
        directories: all.dirs.len() as u64,
        orphans: all.orphans.len() as u64,
        findings: findings.list.into_iter().map(finding).collect(),
        more: findings.more,
    })
}

fn put(key: impl Into<Vec<u8>>, head: impl Into<Vec<u8>>) -> Mend {
    Mend::Put { key: key.into(), head: head.into() }
}

fn delete_range((from, to): (keys::Prefix, keys::Prefix)) -> Mend {
    Mend::DeleteRange(from.to_vec(), to.to_vec())
}

fn count_subdirectories(all: &mut Gathered) {
    let parents: Vec<Ino> = all.dirs.iter().filter(|(ino, _)| **ino != ROOT).map(|(_, d)| d.parent).collect();
    for parent in parents {
        if let Some(dir) = all.dirs.get_mut(&parent) {
            dir.subdirectories += 1;
        }
    }
}

fn root(all: &mut Gathered) {
    // Where nothing is yet, the first open makes it.
    if !all.dirs.contains_key(&ROOT) && all.records > 0 {
        let record = Record::new(FileKind::Directory, ROOT, 0o755, FOUND_OWNER, Timestamp::now());
        let mend = put(keys::entry(0, b""), record.encode());
        all.findings.add(Place::Inode(ROOT), "the root's entry is missing", vec![mend]);
    }
}

/// The entry and the parent record of a directory that lost its entry.
fn found_directory(ino: Ino, parent: Ino, name: &[u8]) -> Vec<Mend> {
    let record = Record::new(FileKind::Directory, ino, FOUND_DIR_MODE, FOUND_OWNER, Timestamp::now());
    vec![put(keys::entry(parent, name), record.encode()), put(keys::parent(ino), encode_parent(parent, name))]
}

fn found_name(ino: Ino) -> Vec<u8> {
    format!("{FOUND_PREFIX}{ino}").into_bytes()
}

/// Directories that hold entries, or say where they are, and have no entry themselves.
fn lost_directories(volume: &Volume, all: &mut Gathered) -> Outcome<()> {
    let known: BTreeSet<Ino> = all.holders.iter().chain(all.parents.keys()).copied().collect();
    for ino in known.into_iter().filter(|ino| !all.dirs.contains_key(ino) && *ino != ROOT) {
        let (mut parent, mut name) = (ROOT, found_name(ino));
        if let Some((said_parent, said_name)) = all.parents.get(&ino) {
            let comes_back = all.dirs.contains_key(said_parent) || all.parents.contains_key(said_parent);
            let taken = volume.get_head(&keys::entry(*said_parent, said_name))?.is_some();
            if comes_back && !taken {
                (parent, name) = (*said_parent, said_name.to_vec());
            }
        }
        let what = "a directory without an entry";
        all.findings.add(Place::Inode(ino), what, found_directory(ino, parent, &name));
    }
    Ok(())
}

/// Each directory's parent record says where its entry is.
fn parents(all: &mut Gathered) {
    for (ino, dir) in all.dirs.iter().filter(|(ino, _)| **ino != ROOT) {
        let Dir { parent, name, .. } = dir;
        if all.parents.get(ino).is_none_or(|said| said != &(*parent, name.clone())) {
            let mend = put(keys::parent(*ino), encode_parent(*parent, name));
            let place = Place::Entry(*parent, name.clone());
            all.findings.add(place, "the directory's parent record is missing or says otherwise", vec![mend]);
        }
    }
    if all.parents.contains_key(&ROOT) {
        let mend = Mend::Delete(keys::parent(ROOT).to_vec());
        all.findings.add(Place::Inode(ROOT), "the root has a parent record", vec![mend]);
    }
}

/// No directory lies in itself.
fn loops(all: &mut Gathered) {
    let mut good: BTreeSet<Ino> = BTreeSet::from([ROOT]);
    for start in all.dirs.keys() {
        let (mut way, mut at) = (BTreeSet::new(), *start);
        // What is in a directory that is not there is told of already.
        while let Some(dir) = all.dirs.get(&at).filter(|_| !good.contains(&at) && way.len() < DEPTH_MAX) {
            if !way.insert(at) {
                let entry = keys::entry(dir.parent, &dir.name);
                let mends = vec![Mend::Delete(entry), Mend::Delete(keys::parent(at).to_vec())];
                all.findings.add(Place::Inode(at), "a directory that lies in itself", mends);
                break;
            }
            at = dir.parent;
        }
        good.extend(way);
    }
}

fn directory_links(all: &mut Gathered) {
    for (ino, dir) in &all.dirs {
        let wanted = dir.subdirectories + 2;
        if dir.links != wanted {
            let key = if *ino == ROOT { keys::entry(0, b"") } else { keys::entry(dir.parent, &dir.name) };
            let what = format!("its link count is {} and should be {wanted}", dir.links);
            let mend = Mend::Change { key, field: Field::Links(wanted) };
            all.findings.add(Place::Entry(dir.parent, dir.name.clone()), what, vec![mend]);
        }
    }
}

fn same_inode_twice(all: &mut Gathered) {
    let twice = all.files.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    let both =
        all.files.iter().copied().filter(|ino| all.dirs.contains_key(ino) || all.shared.contains_key(ino));
    // Which of them is right nobody knows: neither is taken away.
    let inos: BTreeSet<Ino> = twice.chain(both).collect();
    for ino in inos {
        all.findings.add(Place::Inode(ino), "two entries hold a record of this inode", Vec::new());
    }
}

/// Files with several names: entries, names and records agree.
fn links(volume: &Volume, all: &mut Gathered) -> Outcome<()> {
    let mut counts: BTreeMap<Ino, u32> = BTreeMap::new();
    let names: BTreeSet<&Link> = all.link_names.iter().collect();
    for link in &all.links {
        let (ino, dir, name) = link;
        *counts.entry(*ino).or_default() += 1;
        let name_key = keys::inode_name(*ino, *dir, name);
        if !all.shared.contains_key(ino) {
            let mends = vec![Mend::Delete(keys::entry(*dir, name)), Mend::Delete(name_key)];
            let what = format!("it points to inode {ino}, whose record is missing");
            all.findings.add(Place::Entry(*dir, name.clone()), what, mends);
        } else if !names.contains(link) {
            let what = format!("inode {ino} does not have this name among its own");
            all.findings.add(Place::Entry(*dir, name.clone()), what, vec![put(name_key, [])]);
        }
    }
    for link in all.link_names.iter().filter(|link| all.links.binary_search(link).is_err()) {
        let (ino, dir, name) = link;
        let entry = keys::entry(*dir, name);
        let comes_back = all.shared.contains_key(ino) && all.dirs.contains_key(dir);
        let mends = match shared_record(volume, *ino)? {
            Some(record) if comes_back && volume.get_head(&entry)?.is_none() => {
                vec![put(entry, encode_link(&record))]
            }
            _ => vec![Mend::Delete(keys::inode_name(*ino, *dir, name))],
        };
        let what = format!("inode {ino} says that this is a name of it");
        all.findings.add(Place::Entry(*dir, name.clone()), what, mends);
    }
    let named: BTreeSet<Ino> = all.link_names.iter().map(|(ino, ..)| *ino).collect();
    for (ino, file) in &all.shared {
        let wanted = counts.get(ino).copied().unwrap_or(0);
        if wanted == 0 && !named.contains(ino) {
            let name = found_name(*ino);
            let link = shared_record(volume, *ino)?.map(|record| encode_link(&record));
            let mends = link.map(|link| {
                vec![put(keys::entry(ROOT, &name), link), put(keys::inode_name(*ino, ROOT, &name), [])]
            });
            all.findings.add(Place::Inode(*ino), "a file without a name", mends.unwrap_or_default());
        } else if file.links != wanted && wanted > 0 {
            let what = format!("its link count is {} and should be {wanted}", file.links);
            let mend = Mend::Change { key: keys::inode(*ino).to_vec(), field: Field::Links(wanted) };
            all.findings.add(Place::Inode(*ino), what, vec![mend]);
        }
    }
    Ok(())
}

fn shared_record(volume: &Volume, ino: Ino) -> Outcome<Option<Record>> {
    let head = volume.get_head(&keys::inode(ino))?;
    Ok(head.and_then(|head| Record::decode(&head).ok()))
}

/// Is there a record of a file, or of its removal?
fn has_owner(all: &Gathered, ino: Ino) -> bool {
    all.files.binary_search(&ino).is_ok()
        || all.shared.contains_key(&ino)
        || all.orphans.binary_search(&ino).is_ok()
}

/// Chunks that belong to no file become one.
fn contents_of_nobody(volume: &Volume, all: &mut Gathered) -> Outcome<()> {
    let lost = all.chunks.iter().filter(|chunks| !has_owner(all, chunks.ino)).copied();
    for chunks in lost.collect::<Vec<_>>() {
        let Chunks { ino, count, last, .. } = chunks;
        let mut record = Record::new(FileKind::File, ino, FOUND_FILE_MODE, FOUND_OWNER, Timestamp::now());
        record.size = u64::from(last) * CHUNK_SIZE + chunk_len(volume, ino, last)?.max(1);
        record.pages = chunks.pages(record.size);
        record.has_xattrs = all.with_attributes.binary_search(&ino).is_ok();
        let mends = match all.dirs.contains_key(&ino) {
            true => Vec::new(),
            false => vec![put(keys::entry(ROOT, &found_name(ino)), record.encode())],
        };
        let what = format!("{count} chunks of a file that has no record");
        all.findings.add(Place::Inode(ino), what, mends);
    }
    for ino in all.orphans.clone() {
        if all.files.binary_search(&ino).is_ok() || all.shared.contains_key(&ino) {
            let mend = Mend::Delete(keys::orphan(ino).to_vec());
            all.findings.add(Place::Inode(ino), "a file with a name counts as removed", vec![mend]);
        }
    }
    Ok(())
}

/// Extended attributes belong to a file that says that it has some.
fn attributes(all: &mut Gathered) {
    for ino in all.with_attributes.clone() {
        if !has_owner(all, ino) && !all.dirs.contains_key(&ino) {
            // Chunks of nobody, or a directory without an entry, become a file that has them.
            let comes_back = all.chunks.binary_search_by_key(&ino, |chunks| chunks.ino).is_ok()
                || all.parents.contains_key(&ino)
                || all.holders.contains(&ino);
            let mends = if comes_back { Vec::new() } else { vec![delete_range(keys::xattrs(ino))] };
            all.findings.add(Place::Inode(ino), "extended attributes of no file", mends);
        } else if all.flagged.binary_search_by_key(&ino, |(flagged, _)| *flagged).is_err()
            && all.orphans.binary_search(&ino).is_err()
        {
            let what = "it has extended attributes and does not say so";
            all.findings.add(Place::Inode(ino), what, vec![Mend::SayAttributes(ino)]);
        }
    }
    for (ino, key) in all.flagged.clone() {
        if all.with_attributes.binary_search(&ino).is_err() {
            let what = "it says that it has extended attributes, and there are none";
            let mend = Mend::Change { key, field: Field::HasXattrs(false) };
            all.findings.add(Place::Inode(ino), what, vec![mend]);
        }
    }
}

/// Inode numbers are handed out once.
fn counter(all: &mut Gathered) {
    let is_new = all.counter.is_none() && all.largest == ROOT;
    if !is_new && all.counter.is_none_or(|counter| counter <= all.largest) {
        let what = format!("the counter of inode numbers is not past {}", all.largest);
        let mend = put(keys::INODE_COUNTER, encode_counter(all.largest + 1));
        all.findings.add(Place::Key(keys::INODE_COUNTER.to_vec()), what, vec![mend]);
    }
}

/// The volume's tally is what its records count. Where they do not fit together it is not looked at: what
/// mends them changes it.
fn tally(volume: &Volume, all: &mut Gathered) {
    let Some(said) = volume.tally().filter(|said| *said != all.tally && all.findings.list.is_empty()) else {
        return;
    };
    let Tally { files, bytes } = all.tally;
    let what = format!(
        "its tally is {} files and {} bytes and should be {files} files and {bytes} bytes",
        said.files, said.bytes
    );
    all.findings.add(Place::Volume, what, vec![Mend::Count(all.tally)]);
}

/// A place for people: its path, if the directories lead there.
fn readable(dirs: &BTreeMap<Ino, Dir>, place: &Place) -> String {
    match place {
        Place::Volume => "the volume".to_string(),
        Place::Key(key) => format!("record {}", keys::readable(key)),
        Place::Inode(ino) if dirs.contains_key(ino) => path(dirs, *ino, b""),
        Place::Inode(ino) => format!("inode {ino}"),
        Place::Entry(0, _) => "/".to_string(),
        Place::Entry(dir, name) => path(dirs, *dir, name),
    }
}

fn path(dirs: &BTreeMap<Ino, Dir>, dir: Ino, name: &[u8]) -> String {
    let mut parts = if name.is_empty() { Vec::new() } else { vec![name.escape_ascii().to_string()] };
    let mut at = dir;
    while at != ROOT {
        match dirs.get(&at).filter(|_| parts.len() < DEPTH_MAX.min(4096)) {
            Some(dir) => {
                parts.push(dir.name.escape_ascii().to_string());
                at = dir.parent;
            }
            None => return format!("inode {at}/…/{}", parts.into_iter().rev().collect::<Vec<_>>().join("/")),
        }
    }
    format!("/{}", parts.into_iter().rev().collect::<Vec<_>>().join("/"))
}

/// The record in an entry, if it holds one.
pub(super) fn record_in(head: &[u8], is_entry: bool) -> Option<Record> {
    match is_entry {
        true => match Entry::decode(head).ok()? {
            Entry::File(record) => Some(record),
            Entry::Link(_) => None,
        },
        false => Record::decode(head).ok(),
    }
}
