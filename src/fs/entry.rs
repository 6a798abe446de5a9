//! Records: the bytes of the values.
//!
//! **An entry** (`e directory name`) describes one file. Its head, integers big-endian:
//!
//! ```text
//!  0      format: 1
//!  1      kind: a FileKind's number (8 is taken: "the attributes stand at `i inode`", for hard links)
//!  2..4   mode: permissions, setuid, setgid, sticky
//!  4..6   flags: 0 (room: has extended attributes)
//!  6..8   length of the inline contents
//!  8..16  inode number, below 2^40
//! 16..20  owner
//! 20..24  group
//! 24..28  link count
//! 28..32  device number
//! 32..40  size
//! 40..48  chunks that exist
//! 48..60  last access: seconds since 1970 (8, signed), nanoseconds (4)
//! 60..72  last change of the contents
//! 72..84  last change of the attributes
//! ```
//!
//! Its tail is the inline contents: a symbolic link's target, or the first bytes of a small file.
//! A regular file has chunks or inline contents, never both. What neither covers, up to the size, reads
//! as zeros: a file that was only extended has a size and nothing else.
//!
//! A **chunk** (`d inode chunk`) holds [`CHUNK_SIZE`] bytes of a file, from chunk number times chunk size
//! on; what a stored chunk lacks of them reads as zeros. No stored byte stands at or past the file's size,
//! so that a file which shrinks and grows again shows zeros there.
//!
//! A **parent record** (`p directory`) is: format (1), parent's inode number (8), name.
//! An **orphan record** (`o inode`) is: format (1).
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

/// The length of an entry's head.
pub(super) const HEAD_LEN: usize = 84;

/// `stat` counts blocks of this size.
const STAT_BLOCK: u64 = 512;

/// The unit in which a file that has no holes is said to be allocated.
const PAGE: u64 = 4096;

/// What is wrong with a record.
pub(super) type Decoded<T> = Result<T, &'static str>;

/// An entry's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the file is.
    pub(super) kind: FileKind,
    /// Permissions, setuid, setgid, sticky.
    pub(super) mode: u32,
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
    /// Chunks that exist.
    pub(super) chunks: u64,
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
        out.put(&0u16.to_be_bytes());
        out.put(&self.inline_len.to_be_bytes());
        out.put(&self.ino.to_be_bytes());
        for field in [self.uid, self.gid, self.nlink, self.rdev] {
            out.put(&field.to_be_bytes());
        }
        out.put(&self.size.to_be_bytes());
        out.put(&self.chunks.to_be_bytes());
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
        if from.u16()? != 0 {
            return Err("unknown flags");
        }
        let record = Record {
            kind,
            mode,
            inline_len: from.u16()?,
            ino: from.u64()?,
            uid: from.u32()?,
            gid: from.u32()?,
            nlink: from.u32()?,
            rdev: from.u32()?,
            size: from.u64()?,
            chunks: from.u64()?,
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
            (self.chunks <= chunks_of(self.size), "more chunks than the size has"),
            (self.inline_len == 0 || self.chunks == 0, "both inline contents and chunks"),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(what),
            None => Ok(()),
        }
    }

    /// What the contents take, in units of 512 bytes. An existing chunk counts in full, but no more
    /// than the file has up to the end of its last page.
    pub(super) fn blocks(&self) -> u64 {
        if self.chunks == 0 {
            return u64::from(self.inline_len).div_ceil(STAT_BLOCK);
        }
        let full = self.size.next_multiple_of(PAGE);
        (self.chunks * CHUNK_SIZE).min(full) / STAT_BLOCK
    }

    /// Does every chunk up to the size exist?
    pub(super) fn is_dense(&self) -> bool {
        self.chunks == chunks_of(self.size)
    }
}

/// The number of chunks that a size has room for.
pub(super) fn chunks_of(size: u64) -> u64 {
    size.div_ceil(CHUNK_SIZE)
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

/// The bytes of an orphan record.
pub(super) fn encode_orphan() -> [u8; 1] {
    [FORMAT]
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn times() -> impl Strategy<Value = Timestamp> {
        (any::<i64>(), 0u32..1_000_000_000).prop_map(|(secs, nanos)| Timestamp { secs, nanos })
    }

    prop_compose! {
        fn records()(
            kind in 1u8..=7, mode in 0..=MODE_BITS, ino in 1..INO_LIMIT, ids: (u32, u32, u32, u32),
            size in 0..=MAX_FILE_SIZE, chunks: u64, inline in 0..=INLINE_MAX as u64, has_chunks: bool,
            times in (times(), times(), times()),
        ) -> Record {
            Record {
                kind: FileKind::from_u8(kind).unwrap(),
                mode,
                inline_len: if has_chunks { 0 } else { inline.min(size) as u16 },
                ino,
                uid: ids.0,
                gid: ids.1,
                nlink: ids.2,
                rdev: ids.3,
                size,
                chunks: if has_chunks { chunks % (chunks_of(size) + 1) } else { 0 },
                atime: times.0,
                mtime: times.1,
                ctime: times.2,
            }
        }
    }

    proptest! {
        #[test]
        fn entries_read_back(record in records()) {
            prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
        }

        #[test]
        fn damaged_entries_are_refused_or_differ(record in records(), at in 0..HEAD_LEN, flip in 1u8..) {
            let mut bytes = record.encode();
            bytes[at] ^= flip;
            prop_assert_ne!(Record::decode(&bytes), Ok(record));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Record::decode(&bytes), decode_parent(&bytes), decode_counter(&bytes));
        }

        #[test]
        fn cut_and_extended_entries_are_refused(record in records(), len in 0..HEAD_LEN) {
            let bytes = record.encode();
            prop_assert!(Record::decode(&bytes[..len]).is_err());
            prop_assert!(Record::decode(&[&bytes[..], b"x"].concat()).is_err());
        }

        #[test]
        fn parents_and_counters_read_back(
            parent in 1..INO_LIMIT, name in prop::collection::vec(any::<u8>(), 1..=NAME_MAX), number: u64,
        ) {
            let read = decode_parent(&encode_parent(parent, &name));
            prop_assert_eq!(read, Ok(ParentRecord { parent, name: name.into() }));
            prop_assert_eq!(decode_counter(&encode_counter(number)), Ok(number));
        }
    }

    /// The layout is on disks: it must not move.
    #[test]
    fn an_entrys_bytes_are_fixed() {
        let record = Record {
            kind: FileKind::File,
            mode: 0o4755,
            inline_len: 5,
            ino: 0x1234,
            uid: 1000,
            gid: 100,
            nlink: 1,
            rdev: 0,
            size: 5,
            chunks: 0,
            atime: Timestamp { secs: -1, nanos: 500 },
            mtime: Timestamp { secs: 1 << 33, nanos: 0 },
            ctime: Timestamp { secs: 0, nanos: 1 },
        };
        let hex: String = record.encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "010109ed00000005\
             0000000000001234\
             000003e800000064\
             0000000100000000\
             0000000000000005\
             0000000000000000\
             ffffffffffffffff000001f4\
             000000020000000000000000\
             000000000000000000000001"
        );
    }

    #[test]
    fn blocks_count_what_exists() {
        let mut record = Record::decode(&{
            let mut bytes = [0; HEAD_LEN];
            (bytes[0], bytes[1], bytes[15]) = (FORMAT, FileKind::File as u8, 2);
            bytes
        })
        .unwrap();
        assert_eq!(record.blocks(), 0);
        (record.size, record.inline_len) = (5, 5);
        assert_eq!(record.blocks(), 1);
        (record.size, record.inline_len) = (1 << 40, 0);
        assert_eq!(record.blocks(), 0);
        record.chunks = 3;
        assert_eq!(record.blocks(), 3 * 128);
        (record.size, record.chunks) = (5000, 1);
        assert_eq!(record.blocks(), 16);
    }
}
