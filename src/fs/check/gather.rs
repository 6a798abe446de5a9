//! One pass over a volume's records: what is kept of each for the comparison.

use super::{Field, Findings, Mend, Place, entry_place, has_contents};
use crate::fs::attr::{FileKind, Ino, ROOT};
use crate::fs::entry::{
    CHUNK_SIZE, Entry, PAGE_SIZE, Record, decode_counter, decode_orphan, decode_page_map, decode_parent,
    pages_of,
};
use crate::fs::import::block as import_block;
use crate::fs::keys;
use crate::fs::node::{Outcome, check_name};
use crate::fs::tally::of_record;
use crate::lsm::{self, Scan, Tally, Volume};
use std::collections::BTreeMap;
use std::ops::{Bound, Range};

/// A directory's entry.
#[derive(Debug, Clone)]
pub(super) struct Dir {
    pub parent: Ino,
    pub name: Box<[u8]>,
    pub links: u32,
    /// Directories in it.
    pub subdirectories: u32,
}

/// A file with a record of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct SharedFile {
    pub links: u32,
}

/// Pages in a chunk.
const CHUNK_PAGES: u64 = CHUNK_SIZE / PAGE_SIZE;

/// A file's chunks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunks {
    pub ino: Ino,
    pub count: u64,
    /// Pages stored in chunks that have a page map.
    mapped_pages: u64,
    /// Chunks that have one.
    mapped: u64,
    pub last: u32,
    /// The last chunk's page map.
    last_map: Option<u16>,
}

impl Chunks {
    /// The pages that are stored of a file of this size, which reaches into the last chunk.
    pub fn pages(&self, size: u64) -> u64 {
        let whole = (self.count - self.mapped) * CHUNK_PAGES;
        let lacks = CHUNK_PAGES - self.last_pages(size);
        self.mapped_pages + whole - if self.last_map.is_none() { lacks } else { 0 }
    }

    /// The pages that the file has in the last chunk.
    fn last_pages(&self, size: u64) -> u64 {
        pages_of(size).saturating_sub(u64::from(self.last) * CHUNK_PAGES).min(CHUNK_PAGES)
    }
}

/// A name in a directory, of a file.
pub(super) type Link = (Ino, Ino, Box<[u8]>);

/// What is kept of a volume's records. The lists are in order.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub findings: Findings,
    pub chunks: Vec<Chunks>,
    pub dirs: BTreeMap<Ino, Dir>,
    /// Directories that entries are in, whether or not they are there.
    pub holders: Vec<Ino>,
    /// Files whose record is in their entry.
    pub files: Vec<Ino>,
    /// Entries that only point to a file.
    pub links: Vec<Link>,
    pub shared: BTreeMap<Ino, SharedFile>,
    /// The names that files with a record of their own say they have.
    pub link_names: Vec<Link>,
    pub orphans: Vec<Ino>,
    pub parents: BTreeMap<Ino, (Ino, Box<[u8]>)>,
    /// Files that say they have extended attributes, and where they say so.
    pub flagged: Vec<(Ino, Vec<u8>)>,
    /// Files that have some.
    pub with_attributes: Vec<Ino>,
    pub counter: Option<u64>,
    pub largest: Ino,
    /// Inode numbers of imports that did not come to their end: the next open removes what has them.
    imports: Vec<Range<Ino>>,
    pub records: u64,
    pub tally: Tally,
}

impl Gathered {
    /// Reads all records of a volume.
    pub fn of(volume: &Volume, seen: &mut dyn FnMut()) -> Outcome<Gathered> {
        let mut gathered = Gathered { largest: ROOT, ..Gathered::default() };
        let mut scan = volume.scan(Bound::Unbounded, Bound::Unbounded)?;
        while scan.next()? {
            seen();
            gathered.records += 1;
            gathered.record(volume, &scan)?;
        }
        gathered.files.sort_unstable();
        gathered.links.sort_unstable();
        gathered.flagged.sort_unstable();
        Ok(gathered)
    }

    fn bad(&mut self, key: &[u8], what: &str) {
        self.findings.add(Place::Key(key.to_vec()), what, vec![Mend::Delete(key.to_vec())]);
    }

    fn record(&mut self, volume: &Volume, scan: &Scan) -> Outcome<()> {
        let (key, head) = (scan.key(), scan.head());
        if key == keys::INODE_COUNTER {
            match decode_counter(head) {
                Ok(counter) => self.counter = Some(counter),
                Err(what) => self.bad(key, what),
            }
            return Ok(());
        }
        // These come before all others.
        if keys::import_ino(key).is_some() {
            match import_block(key, head) {
                Ok(block) => {
                    self.largest = self.largest.max(block.end - 1);
                    self.imports.push(block);
                }
                Err(_) => self.bad(key, "an import's record makes no sense"),
            }
            return Ok(());
        }
        let Some(ino) = keys::ino_of(key) else {
            self.bad(key, "not a key of files");
            return Ok(());
        };
        if self.imports.iter().any(|block| block.contains(&ino)) {
            return Ok(());
        }
        self.tally += of_record(key, head, || Ok(scan.tail()?.len()))?;
        self.largest = self.largest.max(ino);
        match key[0] {
            b'd' => self.chunk(ino, key, head),
            b'e' => self.entry(volume, scan)?,
            b'i' => self.shared(volume, scan, ino)?,
            b'o' if key.len() == keys::PREFIX_LEN => match decode_orphan(head) {
                Ok(_) => self.orphans.push(ino),
                Err(what) => self.bad(key, what),
            },
            b'p' if key.len() == keys::PREFIX_LEN => match decode_parent(head) {
                Ok(record) => _ = self.parents.insert(ino, (record.parent, record.name)),
                Err(what) => self.bad(key, what),
            },
            b'x' if key.len() > keys::PREFIX_LEN => {
                if self.with_attributes.last() != Some(&ino) {
                    self.with_attributes.push(ino);
                }
            }
            _ => self.bad(key, "not a key of files"),
        }
        Ok(())
    }

    fn chunk(&mut self, ino: Ino, key: &[u8], head: &[u8]) {
        if let Some(number) = keys::page_map_number(key) {
            return self.page_map(ino, number, key, head);
        }
        let Some(number) = keys::chunk_number(key) else { return self.bad(key, "not a chunk's key") };
        match self.chunks.last_mut().filter(|chunks| chunks.ino == ino) {
            Some(chunks) => {
                chunks.count += 1;
                (chunks.last, chunks.last_map) = (number, None);
            }
            None => self.chunks.push(Chunks {
                ino,
                count: 1,
                mapped_pages: 0,
                mapped: 0,
                last: number,
                last_map: None,
            }),
        }
    }

    /// A page map stands right behind its chunk.
    fn page_map(&mut self, ino: Ino, number: u32, key: &[u8], head: &[u8]) {
        let of = self.chunks.last_mut().filter(|chunks| chunks.ino == ino && chunks.last == number);
        match (of, decode_page_map(head)) {
            (Some(chunks), Ok(map)) if map != 0 && map != u16::MAX => {
                chunks.mapped += 1;
                chunks.mapped_pages += u64::from(map.count_ones());
                chunks.last_map = Some(map);
            }
            (None, _) => self.bad(key, "a page map of no chunk"),
            (_, Ok(_)) => self.bad(key, "a page map that says nothing"),
            (_, Err(what)) => self.bad(key, what),
        }
    }

    fn entry(&mut self, volume: &Volume, scan: &Scan) -> Outcome<()> {
        let key = scan.key();
        let Some((dir, name)) = entry_place(key) else {
            self.bad(key, "not an entry's key");
            return Ok(());
        };
        let is_root = dir == 0 && name.is_empty();
        if !is_root && (dir == 0 || check_name(name).is_err()) {
            self.bad(key, "not a name that a directory can hold");
            return Ok(());
        }
        let record = match Entry::decode(scan.head()) {
            Ok(Entry::File(record)) => record,
            Ok(Entry::Link(ino)) => {
                self.held_by(dir);
                self.largest = self.largest.max(ino);
                self.links.push((ino, dir, name.into()));
                return Ok(());
            }
            Err(what) => {
                self.bad(key, what);
                return Ok(());
            }
        };
        if is_root != (record.ino == ROOT) || (is_root && record.kind != FileKind::Directory) {
            self.bad(key, "only the root's entry is the root's");
            return Ok(());
        }
        if !is_root {
            self.held_by(dir);
        }
        if record.kind != FileKind::Directory {
            self.files.push(record.ino);
        } else if let Some(first) = self.dirs.get(&record.ino) {
            let what = format!("directory {} has another entry, in inode {}", record.ino, first.parent);
            let place = Place::Entry(dir, name.into());
            self.findings.add(place, what, vec![Mend::Delete(key.to_vec())]);
            return Ok(());
        } else {
            let entry = Dir { parent: dir, name: name.into(), links: record.nlink, subdirectories: 0 };
            self.dirs.insert(record.ino, entry);
        }
        self.check_record(volume, scan, &record, Place::Entry(dir, name.into()))
    }

    fn held_by(&mut self, dir: Ino) {
        if self.holders.last() != Some(&dir) {
            self.holders.push(dir);
        }
    }

    fn shared(&mut self, volume: &Volume, scan: &Scan, ino: Ino) -> Outcome<()> {
        let key = scan.key();
        if let Some((dir, name)) = keys::split_inode_name(key) {
            self.link_names.push((ino, dir, name.into()));
            return Ok(());
        }
        match Record::decode(scan.head()) {
            _ if key.len() != keys::PREFIX_LEN => self.bad(key, "not a key of files"),
            Ok(record) if record.ino != ino => self.bad(key, "it is another file's record"),
            Ok(record) if record.kind == FileKind::Directory => self.bad(key, "it is a directory's record"),
            Ok(record) => {
                self.shared.insert(ino, SharedFile { links: record.nlink });
                self.check_record(volume, scan, &record, Place::Inode(ino))?;
            }
            Err(what) => self.bad(key, what),
        }
        Ok(())
    }

    /// Compares a file's record to its contents.
    fn check_record(&mut self, volume: &Volume, scan: &Scan, record: &Record, place: Place) -> Outcome<()> {
        let key = scan.key().to_vec();
        self.largest = self.largest.max(record.ino);
        if record.has_xattrs {
            self.flagged.push((record.ino, key.clone()));
        }
        let stored = match scan.tail() {
            Err(lsm::Error::BadPatch { .. }) => None,
            tail => Some(tail?.len()),
        };
        if stored != Some(usize::from(record.inline_len)) {
            let what = "its inline contents have another length than it says";
            self.findings.add(place, what, vec![Mend::Delete(key)]);
            return Ok(());
        }
        let at = self.chunks.binary_search_by_key(&record.ino, |chunks| chunks.ino);
        let chunks = at.ok().map(|at| self.chunks[at]);
        let may_have = if has_contents(record.kind) && record.inline_len == 0 { record.size } else { 0 };
        let may_have = may_have.div_ceil(CHUNK_SIZE);
        if let Some(past) = chunks.filter(|chunks| u64::from(chunks.last) >= may_have) {
            let what = format!("chunk {} lies past its size of {} bytes", past.last, record.size);
            let first = u32::try_from(may_have).unwrap_or(u32::MAX);
            let (from, to) = (keys::chunk(record.ino, first).to_vec(), keys::chunks(record.ino).1.to_vec());
            self.findings.add(place, what, vec![Mend::DeleteRange(from, to)]);
            return Ok(());
        }
        if let Some(chunks) = chunks
            && let Some(map) = chunks.last_map
            && (u32::from(map) + 1) >> chunks.last_pages(record.size) != 0
        {
            let key = keys::page_map(record.ino, chunks.last).to_vec();
            let what = "the page map of its last chunk goes past its size, or has all its pages";
            self.findings.add(place, what, vec![Mend::Delete(key)]);
            return Ok(());
        }
        let pages = chunks.map_or(0, |chunks| chunks.pages(record.size));
        if record.pages != pages {
            let what = format!("it says that {} of its pages are stored; there are {pages}", record.pages);
            self.findings.add(place, what, vec![Mend::Change { key, field: Field::Pages(pages) }]);
            return Ok(());
        }
        let reaches_end = |chunks: &Chunks| u64::from(chunks.last) + 1 == record.size.div_ceil(CHUNK_SIZE);
        let Some(chunks) = chunks.filter(reaches_end) else { return Ok(()) };
        let end = u64::from(chunks.last) * CHUNK_SIZE + chunk_len(volume, record.ino, chunks.last)?;
        if end > record.size {
            let what = format!("its contents reach to byte {end}, its size is {}", record.size);
            self.findings.add(place, what, vec![Mend::Change { key, field: Field::Size(end) }]);
        }
        Ok(())
    }
}

/// The bytes of a stored chunk.
pub(super) fn chunk_len(volume: &Volume, ino: Ino, number: u32) -> Outcome<u64> {
    Ok(volume.get(&keys::chunk(ino, number))?.map_or(0, |value| value.tail.len() as u64))
}
