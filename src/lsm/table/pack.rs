//! Packs: files (`NNNNNN.pack`) in which small tables stand end to end, so that a thousand volumes which are
//! flushed or compacted together cost one file and one sync.
//!
//! ```text
//! pack    := table+ | list | trailer (40)
//! list    := of each table: number (8) | offset (8) | length (8)
//! trailer := offset of the list (8) | pack's number (8) | version (4) | zero (4)
//!            | XXH3-64 of the list and the bytes before this (8) | magic (8)
//! ```
//!
//! All numbers are little-endian. A table is what it would be in a file of its own, its offsets counted from its
//! own start; the manifest says where that is. The list is for those who have no manifest.
//!
//! A pack lives while one of its tables does ([`crate::lsm::levels`]); when few are left, a compaction
//! takes them out (`compaction/garbage.rs`).

use super::{Section, TableBuilder, TableFile, TableMeta, TableOptions, pack_name};
use crate::disk::{self, Disk, Object, ObjectWriter};
use crate::lsm::{Error, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const TRAILER_LEN: usize = 40;
const ENTRY_LEN: usize = 24;
/// The version that is written, and the newest that is read.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"lsmfsPCK";

/// Writes one pack, table by table. Dropped unfinished, it leaves no file behind.
pub(crate) struct PackBuilder {
    number: u64,
    out: Arc<Mutex<Out>>,
    tables: Vec<TableMeta>,
}

/// The file, shared with the table that is being built.
struct Out {
    writer: Box<dyn ObjectWriter>,
    /// Bytes so far, the buffered ones included.
    len: u64,
    /// Small tables, gathered.
    buffer: Vec<u8>,
}

/// Writes up to this length are gathered.
const BUFFER_LEN: usize = 256 << 10;

impl Out {
    fn write(&mut self, bytes: &[u8]) -> disk::Result<()> {
        if !self.buffer.is_empty() && self.buffer.len() + bytes.len() > BUFFER_LEN {
            self.writer.write(&self.buffer)?;
            self.buffer.clear();
        }
        if bytes.len() > BUFFER_LEN {
            self.writer.write(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }
}

impl PackBuilder {
    /// Starts the pack of this number. `writer` is the new object of the pack's name.
    pub fn new(writer: Box<dyn ObjectWriter>, number: u64) -> PackBuilder {
        let out = Out { writer, len: 0, buffer: Vec::new() };
        PackBuilder { number, out: Arc::new(Mutex::new(out)), tables: Vec::new() }
    }

    /// Starts a table, which stands behind those before. What it becomes is told to [`PackBuilder::add`] before the
    /// next one starts; one that is given up leaves a gap.
    pub fn table(&self, number: u64, options: &TableOptions) -> Result<TableBuilder> {
        TableBuilder::new(Box::new(SectionWriter(self.out.clone())), number, options)
    }

    /// The table that was finished last. Returns its place among the pack's tables.
    pub fn add(&mut self, mut table: TableMeta) -> usize {
        let offset = self.out.lock().len - table.size;
        table.section = Some(Section { pack: self.number, offset, pack_len: 0 });
        self.tables.push(table);
        self.tables.len() - 1
    }

    /// Tables so far.
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// Completes the file, which then exists under its name, and gives the tables in it; none, and no file, if
    /// there is none.
    pub fn finish(mut self) -> Result<Vec<TableMeta>> {
        if self.tables.is_empty() {
            return Ok(self.tables);
        }
        let Some(mut out) = Arc::into_inner(self.out).map(Mutex::into_inner) else {
            return Err(Error::Internal("a pack ends within a table".to_string()));
        };
        let mut end = Vec::with_capacity(self.tables.len() * ENTRY_LEN + TRAILER_LEN);
        for table in &self.tables {
            let offset = table.section.map_or(0, |section| section.offset);
            [table.number, offset, table.size].iter().for_each(|n| end.extend_from_slice(&n.to_le_bytes()));
        }
        end.extend_from_slice(&out.len.to_le_bytes());
        end.extend_from_slice(&self.number.to_le_bytes());
        end.extend_from_slice(&VERSION.to_le_bytes());
        end.extend_from_slice(&[0; 4]);
        let sum = xxh3_64(&end);
        end.extend_from_slice(&sum.to_le_bytes());
        end.extend_from_slice(MAGIC);
        out.write(&end)?;
        let Out { mut writer, len: pack_len, buffer } = out;
        if !buffer.is_empty() {
            writer.write(&buffer)?;
        }
        writer.finish()?;
        self.tables.iter_mut().filter_map(|t| t.section.as_mut()).for_each(|s| s.pack_len = pack_len);
        Ok(self.tables)
    }
}

/// The writer of one table in a pack.
struct SectionWriter(Arc<Mutex<Out>>);

impl ObjectWriter for SectionWriter {
    fn write(&mut self, bytes: &[u8]) -> disk::Result<()> {
        self.0.lock().write(bytes)
    }

    fn finish(self: Box<Self>) -> disk::Result<()> {
        Ok(())
    }
}

/// The tables of a pack, as it lists them itself: number, length and section.
///
/// # Errors
/// [`Error::Corruption`], [`Error::NewerFormat`], and those of the disk.
pub(crate) fn read_list(object: &dyn Object, number: u64) -> Result<Vec<(u64, u64, Section)>> {
    let len = object.len()?;
    let damaged = |offset, what: &str| Error::corruption(pack_name(number), offset, what);
    let trailer_at =
        len.checked_sub(TRAILER_LEN as u64).ok_or_else(|| damaged(0, "shorter than a trailer"))?;
    let trailer = object.read_at(trailer_at, TRAILER_LEN)?;
    let u64_at = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    if trailer[32..] != *MAGIC {
        return Err(damaged(trailer_at, "a pack's trailer is missing"));
    }
    let list_at = u64_at(&trailer, 0);
    let list_len = trailer_at.checked_sub(list_at).filter(|len| len % ENTRY_LEN as u64 == 0);
    let list_len = list_len.ok_or_else(|| damaged(trailer_at, "the list lies outside the pack"))?;
    let list = object.read_at(list_at, list_len as usize)?;
    let summed = [&list[..], &trailer[..24]].concat();
    if u64_at(&trailer, 24) != xxh3_64(&summed) {
        return Err(damaged(trailer_at, "the list's checksum does not match"));
    }
    let version = u64_at(&trailer, 16) as u32;
    if version > VERSION {
        return Err(Error::NewerFormat { file: pack_name(number), found: version, supported: VERSION });
    }
    if u64_at(&trailer, 8) != number {
        return Err(damaged(trailer_at, "this is another pack"));
    }
    let is_within =
        |entry: &[u8]| u64_at(entry, 8).checked_add(u64_at(entry, 16)).is_some_and(|end| end <= list_at);
    if !list.chunks_exact(ENTRY_LEN).all(is_within) {
        return Err(damaged(list_at, "a table outside the pack"));
    }
    let entry = |entry: &[u8]| {
        let section = Section { pack: number, offset: u64_at(entry, 8), pack_len: len };
        (u64_at(entry, 0), u64_at(entry, 16), section)
    };
    Ok(list.chunks_exact(ENTRY_LEN).map(entry).collect())
}

/// The tables that stand in a file, for those who have no manifest: of each its number, length and place.
///
/// # Errors
/// As [`read_list`].
pub(crate) fn tables_in(disk: &dyn Disk, file: TableFile) -> Result<Vec<TableMeta>> {
    let object = disk.open(&file.name())?;
    match file {
        TableFile::Single(number) => Ok(vec![TableMeta { size: object.len()?, ..TableMeta::empty(number) }]),
        TableFile::Pack(number) => {
            let listed = read_list(&*object, number)?.into_iter();
            let table = |(number, size, section)| TableMeta {
                size,
                section: Some(section),
                ..TableMeta::empty(number)
            };
            Ok(listed.map(table).collect())
        }
    }
}

/// A table's part of an open pack.
#[derive(Debug)]
pub(crate) struct SectionObject {
    pack: Arc<dyn Object>,
    offset: u64,
    len: u64,
}

impl SectionObject {
    pub fn new(pack: Arc<dyn Object>, section: Section, len: u64) -> SectionObject {
        SectionObject { pack, offset: section.offset, len }
    }
}

impl Object for SectionObject {
    /// Within the section, as readers see to.
    fn read_at(&self, offset: u64, len: usize) -> disk::Result<Bytes> {
        self.pack.read_at(self.offset.saturating_add(offset), len)
    }

    fn len(&self) -> disk::Result<u64> {
        Ok(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::lsm::cache::BlockCache;
    use crate::lsm::key::{KeyRef, Kind, MAX_SEQ};
    use crate::lsm::table::{Place, Table};

    fn packed(disk: &SimDisk) -> Vec<TableMeta> {
        let mut pack = PackBuilder::new(disk.create(&pack_name(7)).unwrap(), 7);
        for number in [8, 9, 10] {
            let mut table = pack.table(number, &TableOptions::default()).unwrap();
            for i in 0..number {
                table.add(KeyRef::new(&[i as u8], number, Kind::Put), b"head", &[number as u8; 500]).unwrap();
            }
            let place = pack.add(table.finish().unwrap());
            assert_eq!(place as u64, number - 8);
        }
        pack.finish().unwrap()
    }

    #[test]
    fn each_table_reads_back_and_the_pack_lists_them() {
        let disk = SimDisk::new(1);
        let metas = packed(&disk);
        let object = disk.open(&pack_name(7)).unwrap();
        let list = read_list(&*object, 7).unwrap();
        assert_eq!(list.len(), 3);
        for (meta, (number, size, section)) in metas.iter().zip(list) {
            assert_eq!((meta.number, meta.size, meta.section), (number, size, Some(section)));
            assert_eq!(section.pack_len, object.len().unwrap());
            let place = Place::new(number, Some(section));
            let object = Arc::new(SectionObject::new(object.clone(), section, size));
            let table = Arc::new(Table::open(object, place, size, Arc::new(BlockCache::new(0))).unwrap());
            let found = table.seek_key(&[7], MAX_SEQ).unwrap().unwrap();
            assert_eq!(crate::lsm::iter::InternalIterator::tail(&found).unwrap()[..], [number as u8; 500]);
        }
        assert!(read_list(&*object, 8).is_err());
    }

    #[test]
    fn a_flipped_bit_in_list_or_trailer_is_damage() {
        let disk = SimDisk::new(1);
        let metas = packed(&disk);
        let last = metas.last().unwrap();
        let end = (last.section.unwrap().offset + last.size) as usize;
        let object = disk.open(&pack_name(7)).unwrap();
        let whole = object.read_at(0, object.len().unwrap() as usize).unwrap();
        for bit in end * 8..whole.len() * 8 {
            let mut bytes = whole.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let damaged = SimDisk::new(1);
            let mut writer = damaged.create("damaged").unwrap();
            writer.write(&bytes).unwrap();
            writer.finish().unwrap();
            let read = read_list(&*damaged.open("damaged").unwrap(), 7);
            assert!(matches!(read, Err(Error::Corruption { .. })), "bit {bit}");
        }
    }

    #[test]
    fn an_empty_pack_leaves_no_file() {
        let disk = SimDisk::new(1);
        let pack = PackBuilder::new(disk.create(&pack_name(7)).unwrap(), 7);
        assert!(pack.finish().unwrap().is_empty());
        assert!(disk.list().unwrap().is_empty());
    }
}
