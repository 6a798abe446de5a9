//! Manifest edits: the smallest changes of a store's shape, and how they are encoded.
//!
//! ```text
//! edit:  tag (1) | length of the rest (varint) | the rest
//!
//! tag  rest (integers are varints, names are length-prefixed)
//! 1    files: number              file numbers below it may be in use; those not listed may be deleted
//! 2    log start: number, base    the oldest log segment that is needed, and its log position
//! 3    sealed: number, length     that log segment is durable up to here, and ends here
//! 4    volume: id, name           a volume exists
//! 5    flushed: id, sequence      the volume's writes up to here are in tables
//! 6    add: id, level, table      a table joins a level (in L0: as its newest)
//! 7    remove: id, level, number  a table leaves a level
//! 8    log durable: position      the log was synced up to here
//! 9    store: id (8 bytes)        the store's id, the first edit of all
//! ```

use crate::lsm::SeqNo;
use crate::lsm::table::TableMeta;
use crate::lsm::varint::{put, put_prefixed, take, take_prefixed, take_usize};

/// The number of a volume. Never used again.
pub type VolumeId = u32;

/// One change of a store's shape.
#[derive(Debug, Clone)]
pub enum Edit {
    /// File numbers below this one may be in use.
    Files(u64),
    /// The oldest log segment that is needed, and its base.
    LogStart {
        /// Its number.
        number: u64,
        /// The log position of its first byte.
        base: u64,
    },
    /// A segment of an earlier session is durable up to `len`, and ends there.
    Sealed {
        /// Its number.
        number: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// A volume exists.
    Volume {
        /// Its number.
        id: VolumeId,
        /// Its name.
        name: String,
    },
    /// A volume's writes up to a sequence number are in tables.
    Flushed {
        /// The volume.
        volume: VolumeId,
        /// The sequence number.
        seq: SeqNo,
    },
    /// A table joins a level.
    AddTable {
        /// The volume.
        volume: VolumeId,
        /// The level.
        level: usize,
        /// The table.
        table: TableMeta,
    },
    /// A table leaves a level.
    RemoveTable {
        /// The volume.
        volume: VolumeId,
        /// The level.
        level: usize,
        /// The table's number.
        number: u64,
    },
    /// The log was synced up to this position: one that ends before is damaged.
    LogDurable(u64),
    /// The store's id.
    Store(u64),
}

impl Edit {
    /// Appends the encoded edit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut rest = Vec::new();
        let tag = match self {
            Edit::Files(number) => {
                put(&mut rest, *number);
                1
            }
            Edit::LogStart { number, base } => {
                put(&mut rest, *number);
                put(&mut rest, *base);
                2
            }
            Edit::Sealed { number, len } => {
                put(&mut rest, *number);
                put(&mut rest, *len);
                3
            }
            Edit::Volume { id, name } => {
                put(&mut rest, u64::from(*id));
                put_prefixed(&mut rest, name.as_bytes());
                4
            }
            Edit::Flushed { volume, seq } => {
                put(&mut rest, u64::from(*volume));
                put(&mut rest, *seq);
                5
            }
            Edit::AddTable { volume, level, table } => {
                put(&mut rest, u64::from(*volume));
                put(&mut rest, *level as u64);
                table.encode(&mut rest);
                6
            }
            Edit::RemoveTable { volume, level, number } => {
                put(&mut rest, u64::from(*volume));
                put(&mut rest, *level as u64);
                put(&mut rest, *number);
                7
            }
            Edit::LogDurable(position) => {
                put(&mut rest, *position);
                8
            }
            Edit::Store(id) => {
                rest.extend_from_slice(&id.to_be_bytes());
                9
            }
        };
        out.push(tag);
        put_prefixed(out, &rest);
    }

    /// Takes an edit off the front of `input`; `None` if it is malformed or unknown.
    pub fn decode(input: &mut &[u8]) -> Option<Edit> {
        let (&tag, after) = input.split_first()?;
        *input = after;
        let rest = &mut take_prefixed(input)?;
        let edit = match tag {
            1 => Edit::Files(take(rest)?),
            2 => Edit::LogStart { number: take(rest)?, base: take(rest)? },
            3 => Edit::Sealed { number: take(rest)?, len: take(rest)? },
            4 => {
                let id = take(rest)?.try_into().ok()?;
                Edit::Volume { id, name: String::from_utf8(take_prefixed(rest)?.to_vec()).ok()? }
            }
            5 => Edit::Flushed { volume: take(rest)?.try_into().ok()?, seq: take(rest)? },
            6 => {
                let (volume, level) = (take(rest)?.try_into().ok()?, take_usize(rest)?);
                Edit::AddTable { volume, level, table: TableMeta::decode(rest)? }
            }
            7 => {
                let (volume, level) = (take(rest)?.try_into().ok()?, take_usize(rest)?);
                Edit::RemoveTable { volume, level, number: take(rest)? }
            }
            8 => Edit::LogDurable(take(rest)?),
            9 => Edit::Store(u64::from_be_bytes(*rest.first_chunk()?)),
            _ => return None,
        };
        Some(edit)
    }

    /// The edits that `payload` holds; `None` if it is malformed.
    pub fn decode_all(mut payload: &[u8]) -> Option<Vec<Edit>> {
        let mut edits = Vec::new();
        while !payload.is_empty() {
            edits.push(Edit::decode(&mut payload)?);
        }
        Some(edits)
    }
}
