//! Records: the bytes of the values.
//!
//! **A file record** describes one file. It stands in the file's entry (`e directory name`), or, once the
//! file got a second name, at `i inode`. Its head, integers big-endian:
//!
//! ```text
//!  0      format: 1
//!  1      kind: a FileKind's number
//!  2..4   mode: permissions, setuid, setgid, sticky
//!  4..6   flags: 1 if the file has extended attributes; the rest is 0
//!  6..8   length of the inline contents
//!  8..16  inode number, below 2^40
//! 16..20  owner
//! 20..24  group
//! 24..28  link count
//! 28..32  device number
//! 32..40  size
//! 40..48  pages that are stored in chunks
//! 48..60  last access: seconds since 1970 (8, signed), nanoseconds (4)
//! 60..72  last change of the contents
//! 72..84  last change of the attributes
//! ```
//!
//! Its tail is the inline contents: a symbolic link's target, or the first bytes of a small file. A small change
//! of a larger tail, or of the head above one, is a patch of the engine.
//! A regular file has chunks or inline contents, never both. What neither covers, up to the size, reads
//! as zeros: a file that was only extended has a size and nothing else.
//!
//! A **link** stands in each entry of a file that got a second name: format (1), 8 in the place of the
//! kind (1), the file's kind (1), inode number (8).
//!
//! A **chunk** (`d inode chunk`) holds [`CHUNK_SIZE`] bytes of a file, from chunk number times chunk size
//! on; what a stored chunk lacks of them reads as zeros. No stored byte stands at or past the file's size,
//! so that a file which shrinks and grows again shows zeros there.
//! A **page map** (`d inode chunk 0`) stands beside a chunk of which some pages are holes: format (1), the
//! pages that are stored (2): bit n for the page n. A chunk without one has all its pages up to the file's
//! end. See chunk.rs.
//!
//! An **extended attribute** (`x inode name`) has a format byte for its head; its tail is the value.
//!
//! A **parent record** (`p directory`) is: format (1), parent's inode number (8), name.
//! An **orphan record** (`o inode`) is: 2 in the place of the format, bytes that the file counts (8). Earlier
//! versions wrote the format (1) alone: they did not count.
//! A **counter** (`s name`) is: format (1), number (8).
//!
//! Decoding checks what it reads and never panics: a bad record is an error that says what is wrong.

use crate::fs::attr::{FileKind, INO_LIMIT, Ino, MODE_BITS, NAME_MAX, Timestamp};

/// The bytes of a file that one chunk holds.
pub const CHUNK_SIZE: u64 = 64 << 10;

/// Contents up to this length stand in the entry.
pub const INLINE_MAX: usize = 4096;

/// The largest size: as many chunks as their number can name.
pub const MAX_FILE_SIZE: u64 = CHUNK_SIZE << 32;

/// The format byte of every record.
const FORMAT: u8 = 1;

/// The format byte of an orphan record that says what the file counts.
const ORPHAN_FORMAT: u8 = 2;

/// What a link has in the place of the kind.
const LINK: u8 = 8;

/// The flag of a file with extended attributes.
const HAS_XATTRS: u16 = 1;

/// The length of a file record's head.
pub(super) const HEAD_LEN: usize = 84;

/// `stat` counts blocks of this size.
pub(super) const STAT_BLOCK: u64 = 512;

/// The unit in which chunks are stored or not, and in which holes are found.
pub const PAGE_SIZE: u64 = 4096;

/// What is wrong with a record.
pub(super) type Decoded<T> = Result<T, &'static str>;

/// What an entry's head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// The file itself.
    File(Record),
    /// Where the file is.
    Link(Ino),
}

impl Entry {
    /// Reads an entry's head.
    pub fn decode(bytes: &[u8]) -> Decoded<Entry> {
        if bytes.get(1) == Some(&LINK) {
            return decode_link(bytes).map(Entry::Link);
        }
        let record = Record::decode(bytes)?;
        if record.kind != FileKind::Directory && record.nlink != 1 {
            return Err("a file with other than one name in its entry");
        }
        Ok(Entry::File(record))
    }
}

/// The bytes of a link to a file.
pub(super) fn encode_link(file: &Record) -> [u8; 11] {
    let mut out = [FORMAT; 11];
    (out[1], out[2]) = (LINK, file.kind as u8);
    out[3..].copy_from_slice(&file.ino.to_be_bytes());
    out
}

fn decode_link(bytes: &[u8]) -> Decoded<Ino> {
    let mut from = Reader(bytes);
    from.format()?;
    let (link, kind, ino) = (from.u8()?, from.u8()?, from.u64()?);
    from.end()?;
    if link != LINK || FileKind::from_u8(kind).is_none_or(|kind| kind == FileKind::Directory) {
        return Err("a link to no kind of file");
    }
    if ino == 0 || ino >= INO_LIMIT {
        return Err("inode number out of range");
    }
    Ok(ino)
}

/// A file record's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the file is.
    pub(super) kind: FileKind,
    /// Permissions, setuid, setgid, sticky.
    pub(super) mode: u32,
    /// Has it extended attributes?
    pub(super) has_xattrs: bool,
    /// The length of the inline contents.
    pub(super) inline_len: u16,
    /// The inode number.
    pub(super) ino: Ino,
    /// The owner.
    pub(super) uid: u32,
    /// The group.
    pub(super) gid: u32,
    /// The link count.
    pub(super) nlink: u32,
    /// The device number.
    pub(super) rdev: u32,
    /// The size.
    pub(super) size: u64,
    /// Pages that are stored in chunks.
    pub(super) pages: u64,
    /// The last access.
    pub(super) atime: Timestamp,
    /// The last change of the contents.
    pub(super) mtime: Timestamp,
    /// The last change of the attributes.
    pub(super) ctime: Timestamp,
}

impl Record {
    /// The head's bytes.
    pub(super) fn encode(&self) -> [u8; HEAD_LEN] {
        let mut out = Writer { bytes: [0; HEAD_LEN], at: 0 };
        out.put(&[FORMAT, self.kind as u8]);
        out.put(&(self.mode as u16).to_be_bytes());
        out.put(&(if self.has_xattrs { HAS_XATTRS } else { 0 }).to_be_bytes());
        out.put(&self.inline_len.to_be_bytes());
        out.put(&self.ino.to_be_bytes());
        for field in [self.uid, self.gid, self.nlink, self.rdev] {
            out.put(&field.to_be_bytes());
        }
        out.put(&self.size.to_be_bytes());
        out.put(&self.pages.to_be_bytes());
        for time in [self.atime, self.mtime, self.ctime] {
            out.put(&time.secs.to_be_bytes());
            out.put(&time.nanos.to_be_bytes());
        }
        debug_assert_eq!(out.at, HEAD_LEN);
        out.bytes
    }

    /// Reads a head.
    pub(super) fn decode(bytes: &[u8]) -> Decoded<Record> {
        let mut from = Reader(bytes);
        from.format()?;
        let kind = FileKind::from_u8(from.u8()?).ok_or("unknown file kind")?;
        let mode = u32::from(from.u16()?);
        let flags = from.u16()?;
        if flags & !HAS_XATTRS != 0 {
            return Err("unknown flags");
        }
        let record = Record {
            kind,
            mode,
            has_xattrs: flags & HAS_XATTRS != 0,
            inline_len: from.u16()?,
            ino: from.u64()?,
            uid: from.u32()?,
            gid: from.u32()?,
            nlink: from.u32()?,
            rdev: from.u32()?,
            size: from.u64()?,
            pages: from.u64()?,
            atime: from.time()?,
            mtime: from.time()?,
            ctime: from.time()?,
        };
        from.end()?;
        record.check()?;
        Ok(record)
    }

    /// Refuses what no writer writes.
    fn check(&self) -> Decoded<()> {
        let checks = [
            (self.mode <= MODE_BITS, "mode out of range"),
            (self.ino > 0 && self.ino < INO_LIMIT, "inode number out of range"),
            (self.size <= MAX_FILE_SIZE, "size out of range"),
            (usize::from(self.inline_len) <= INLINE_MAX, "inline contents too long"),
            (u64::from(self.inline_len) <= self.size, "inline contents past the size"),
            (self.pages <= pages_of(self.size), "more pages than the size has"),
            (self.inline_len == 0 || self.pages == 0, "both inline contents and chunks"),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(what),
            None => Ok(()),
        }
    }

    /// What the contents take, in units of 512 bytes: the pages that are stored.
    pub(super) fn blocks(&self) -> u64 {
        if self.pages == 0 {
            return u64::from(self.inline_len).div_ceil(STAT_BLOCK);
        }
        self.pages * (PAGE_SIZE / STAT_BLOCK)
    }

    /// Does the file have keys of its own beside this record?
    pub(super) fn has_more(&self) -> bool {
        self.pages > 0 || self.has_xattrs
    }

    /// Is every page up to the size stored?
    pub(super) fn is_full(&self) -> bool {
        self.pages == pages_of(self.size)
    }
}

/// The number of pages that a size has room for.
pub(super) fn pages_of(size: u64) -> u64 {
    size.div_ceil(PAGE_SIZE)
}

/// The bytes of a page map.
pub(super) fn encode_page_map(pages: u16) -> [u8; 3] {
    let [high, low] = pages.to_be_bytes();
    [FORMAT, high, low]
}

/// Reads a page map.
pub(super) fn decode_page_map(bytes: &[u8]) -> Decoded<u16> {
    let mut from = Reader(bytes);
    from.format()?;
    let pages = from.u16()?;
    from.end()?;
    Ok(pages)
}

/// A directory's parent record: where the directory's entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParentRecord {
    /// The directory that holds the entry.
    pub parent: Ino,
    /// The entry's name.
    pub name: Box<[u8]>,
}

/// The bytes of a parent record.
pub(super) fn encode_parent(parent: Ino, name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + name.len());
    out.push(FORMAT);
    out.extend_from_slice(&parent.to_be_bytes());
    out.extend_from_slice(name);
    out
}

/// Reads a parent record.
pub(super) fn decode_parent(bytes: &[u8]) -> Decoded<ParentRecord> {
    let mut from = Reader(bytes);
    from.format()?;
    let parent = from.u64()?;
    if parent == 0 || parent >= INO_LIMIT {
        return Err("inode number out of range");
    }
    if from.0.is_empty() || from.0.len() > NAME_MAX {
        return Err("name length out of range");
    }
    Ok(ParentRecord { parent, name: from.0.into() })
}

/// The bytes of an extended attribute's head.
pub(super) fn encode_xattr_head() -> [u8; 1] {
    [FORMAT]
}

/// The bytes of an orphan record.
pub(super) fn encode_orphan(bytes: u64) -> [u8; 9] {
    let mut out = [ORPHAN_FORMAT; 9];
    out[1..].copy_from_slice(&bytes.to_be_bytes());
    out
}

/// Reads an orphan record: bytes that the file counts.
pub(super) fn decode_orphan(bytes: &[u8]) -> Decoded<u64> {
    let mut from = Reader(bytes);
    let bytes = match from.u8()? {
        FORMAT => 0,
        ORPHAN_FORMAT => from.u64()?,
        _ => return Err("unknown format"),
    };
    from.end()?;
    Ok(bytes)
}

/// The bytes of a counter.
pub(super) fn encode_counter(number: u64) -> [u8; 9] {
    let mut out = [FORMAT; 9];
    out[1..].copy_from_slice(&number.to_be_bytes());
    out
}

/// Reads a counter.
pub(super) fn decode_counter(bytes: &[u8]) -> Decoded<u64> {
    let mut from = Reader(bytes);
    from.format()?;
    let number = from.u64()?;
    from.end()?;
    Ok(number)
}

/// Fills a head from its start.
struct Writer {
    bytes: [u8; HEAD_LEN],
    at: usize,
}

impl Writer {
    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }
}

/// Takes fields from the start of a record.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or("record too short")?;
        self.0 = rest;
        Ok(*field)
    }

    fn format(&mut self) -> Decoded<()> {
        if self.u8()? == FORMAT { Ok(()) } else { Err("unknown format") }
    }

    fn u8(&mut self) -> Decoded<u8> {
        Ok(u8::from_be_bytes(self.take()?))
    }

    fn u16(&mut self) -> Decoded<u16> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    fn u32(&mut self) -> Decoded<u32> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn u64(&mut self) -> Decoded<u64> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    fn time(&mut self) -> Decoded<Timestamp> {
        let time = Timestamp { secs: i64::from_be_bytes(self.take()?), nanos: self.u32()? };
        if time.nanos < 1_000_000_000 { Ok(time) } else { Err("nanoseconds out of range") }
    }

    fn end(&self) -> Decoded<()> {
        if self.0.is_empty() { Ok(()) } else { Err("record too long") }
    }
}

#[cfg(test)]
mod tests;
