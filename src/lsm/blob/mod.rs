//! Blob files (`NNNNNN.blob`): large values, written once and apart from the tree, whose records hold only
//! pointers to them. So a large value is not rewritten by every compaction that passes its key.
//!
//! # When a value goes to a blob file
//! The *tail* of a put, from [`Options::blob_min`] bytes on; heads and patches stay in their records.
//!
//! - **A write** ([`writer`]) appends its large tails to the store's current blob file, then logs pointers.
//!   The log and the memtable never see the bytes: a large sequential write costs its own bytes once.
//! - **A flush or a compaction** ([`output`]) puts the large tails that it has to make (patches folded over
//!   a value), or meets inline (written before the option was set), into blob files of its own.
//!
//! A record with a pointer has the kind `blob pointer` or `first blob pointer` (a put, or a first-put, whose
//! tail is elsewhere), the value's head as its head, and the [`Pointer`] as its tail. Whoever needs the tail
//! loads it ([`reader`]): a get, the tail of a scan's record, the base of patches. Keys and heads never cost
//! a blob's bytes.
//!
//! # The file
//! ```text
//! offset  size
//! 0       8    magic "lsmfsblb"
//! 8       4    format version
//! 12      4    zero
//! 16      8    file number
//! 24      8    zero
//! 32      8    checksum (xxh3, seeded with the store's id) of bytes 0..32
//! 40      …    values, each:
//!              checksum (8) | length of the stored bytes (4) | compression (1) | zero (3) | stored bytes
//! ```
//!
//! Integers are big-endian. The stored bytes are the tail, or its compressed form as in table blocks
//! ([`crate::lsm::table`]). A value's checksum is xxh3 of the stored bytes, seeded with xxh3 of file number
//! (8), offset (8), length (4) and compression (1), and stands in its pointer too: a value in the wrong place
//! is noticed like a flipped bit. Values have no keys: what is alive is known from the tables. Between them
//! may be bytes that nothing points to, where a write failed.
//!
//! # Durability
//! 1. A write's blob bytes are the operating system's before its log record is written: what was answered
//!    survives the process.
//! 2. A sync of the log syncs, before that, every blob file that was written since the last one, and the
//!    directory if one is new ([`BlobWriter::sync`]). So below the log's synced position every pointer is
//!    good.
//! 3. Past that position recovery reads what each pointer points to; the log ends before the first record
//!    with one that does not check out. What is found good there is written once more and synced, as the log
//!    is, before the manifest says that the log's end is firm ([`recover`]).
//! 4. The files of flushes and compactions are objects: whole and synced before the manifest hears of them.
//!
//! # Which files live
//! A table's meta says how many bytes of which blob files its records point to ([`BlobUse`]), so the manifest
//! knows every file and its live bytes without a list of its own; a file's length is what the directory says.
//! Memtables count their own. Tables and memtables hold what they refer to ([`live`]): a file that nobody
//! holds is deleted, after one more commit of the manifest, like a table ([`crate::lsm::obsolete`]). One that
//! has much garbage is emptied by compactions of the tables that point to it ([`gc`]).
//!
//! # Locks
//! [`writer`] and [`live`] have one each; see there.
//!
//! [`Options::blob_min`]: crate::lsm::Options::blob_min
//! [`BlobWriter::sync`]: writer::BlobWriter::sync
//! [`recover`]: crate::lsm::recover
//! [`crate::lsm::obsolete`]: crate::lsm::obsolete

mod format;
pub(crate) mod found;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod gc;
pub(crate) mod live;
pub(crate) mod output;
mod pointer;
pub(crate) mod reader;
mod stored;
pub(crate) mod writer;

pub use format::{HEADER_LEN, VALUE_HEADER_LEN, VERSION};
pub(crate) use format::{check_file_header, file_header};
pub(crate) use live::{LiveBlob, LiveBlobs};
pub(crate) use output::BlobOutput;
pub use pointer::{BlobUse, Pointer};
pub(crate) use reader::BlobReader;
pub(crate) use writer::BlobWriter;

use crate::lsm::names;

/// The name of the blob file with this number.
pub fn file_name(number: u64) -> String {
    format!("{number:06}.blob")
}

/// The number in a blob file's name; `None` if the name is no blob file's.
pub fn parse_file_name(name: &str) -> Option<u64> {
    names::parse(name, "", ".blob")
}

#[cfg(test)]
mod tests;
