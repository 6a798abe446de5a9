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
//! 6    add: id, level, table      a table joins a level (in L0: by its newest sequence number)
//! 7    remove: id, level, number  a table leaves a level
//! 8    log durable: position      the log was synced up to here
//! 9    store: id (8 bytes)        the store's id, the first edit of all
//! 10   ids: id                    volume ids below it were handed out
//! 11   absorbed: sequence         the log's volume edits up to here are in the manifest
//! 12   fork: from, to, owner, sequence, carried, name
//!                                 a volume starts as another one is; it is `owner`'s snapshot unless that is 0;
//!                                 in memtables are then no writes (carried is 0), only such that
//!                                 the other one was forked with (1), or its own as well (2)
//! 13   delete: id                 a volume goes
//! 14   owner: id, owner           a snapshot belongs to another volume now
//! 15   link: id, level, number    as 6, for a table that an edit 6 before, in the same record, names
//! 16   share: id, level, from     the volume's level is what that of volume `from` is
//! 17   inherits: id, from, sequence
//!                                 volume `from`'s writes up to here are the volume's too
//! 18   forked: id, lineage        the volume was forked there, and others from it (see `lineage.rs`)
//! 19   tally: id, files, bytes    so many more came with the volume's tables (zigzag)
//! 20   counted: id, 0 or 1        is the volume's tally all that it holds?
//! 21   quota: id, files, bytes    how much the volume may hold: 0 for no limit, or one more than the limit
//! ```
//!
//! Edits 4, 12 to 14 and 19 to 21 are what a log record about volumes holds, too.

use crate::lsm::SeqNo;
use crate::lsm::lineage::Lineage;
use crate::lsm::table::TableMeta;
use crate::lsm::tally::{Quota, Tally};
use crate::lsm::varint::{put, put_prefixed, take, take_prefixed, take_usize};
use std::sync::Arc;

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
        table: Arc<TableMeta>,
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
    /// Volume ids below this one were handed out.
    VolumeIds(VolumeId),
    /// The log's volume edits up to here are in the manifest.
    Absorbed(SeqNo),
    /// A volume starts as another one is.
    Fork {
        /// The other one.
        from: VolumeId,
        /// The new one's number.
        to: VolumeId,
        /// The volume that it is a snapshot of, if it is one.
        owner: Option<VolumeId>,
        /// The fork's place in the order of writes.
        seq: SeqNo,
        /// What memtables they share.
        carried: Carried,
        /// The new one's name.
        name: String,
    },
    /// A volume goes.
    Delete(VolumeId),
    /// A snapshot belongs to another volume now.
    Owner {
        /// The snapshot.
        id: VolumeId,
        /// The volume.
        owner: VolumeId,
    },
    /// As `AddTable`, for a table that one before in the same record names.
    LinkTable {
        /// The volume.
        volume: VolumeId,
        /// The level.
        level: usize,
        /// The table's number.
        number: u64,
    },
    /// A volume's level is what another's is.
    ShareLevel {
        /// The volume.
        volume: VolumeId,
        /// The level.
        level: usize,
        /// The other volume.
        from: VolumeId,
    },
    /// Another volume's writes up to a sequence number are this one's too.
    Inherits {
        /// The volume.
        volume: VolumeId,
        /// The other one, which may be gone.
        from: VolumeId,
        /// The sequence number.
        seq: SeqNo,
    },
    /// A volume was forked, or others were from it.
    Forked {
        /// The volume.
        volume: VolumeId,
        /// Where.
        lineage: Lineage,
    },
    /// So many more files and bytes came with a volume's tables.
    Tally {
        /// The volume.
        volume: VolumeId,
        /// How many more.
        tally: Tally,
    },
    /// Is a volume's tally all that it holds?
    Counted {
        /// The volume.
        volume: VolumeId,
        /// Is it?
        counted: bool,
    },
    /// How much a volume may hold.
    Quota {
        /// The volume.
        volume: VolumeId,
        /// How much.
        quota: Quota,
    },
}

/// What of a forked volume's writes is in memtables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Carried {
    /// Nothing.
    Nothing = 0,
    /// Only what it had itself when it was forked.
    Inherited = 1,
    /// Writes of its own, too.
    Own = 2,
}

impl Carried {
    fn from_u64(n: u64) -> Option<Carried> {
        [Carried::Nothing, Carried::Inherited, Carried::Own].into_iter().find(|c| *c as u64 == n)
    }
}

fn put_all(out: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| put(out, *number));
}

fn take_id(input: &mut &[u8]) -> Option<VolumeId> {
    take(input)?.try_into().ok()
}

fn take_name(input: &mut &[u8]) -> Option<String> {
    String::from_utf8(take_prefixed(input)?.to_vec()).ok()
}

impl Edit {
    /// May a log record about volumes hold it?
    pub fn is_of_log(&self) -> bool {
        let is_of_volumes =
            matches!(self, Edit::Volume { .. } | Edit::Fork { .. } | Edit::Delete(_) | Edit::Owner { .. });
        is_of_volumes || matches!(self, Edit::Tally { .. } | Edit::Counted { .. } | Edit::Quota { .. })
    }

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
            Edit::VolumeIds(id) => {
                put(&mut rest, u64::from(*id));
                10
            }
            Edit::Absorbed(seq) => {
                put(&mut rest, *seq);
                11
            }
            Edit::Fork { from, to, owner, seq, carried, name } => {
                put_all(
                    &mut rest,
                    &[(*from).into(), (*to).into(), owner.unwrap_or(0).into(), *seq, *carried as u64],
                );
                put_prefixed(&mut rest, name.as_bytes());
                12
            }
            Edit::Delete(id) => {
                put(&mut rest, u64::from(*id));
                13
            }
            Edit::Owner { id, owner } => {
                put_all(&mut rest, &[(*id).into(), (*owner).into()]);
                14
            }
            Edit::LinkTable { volume, level, number } => {
                put_all(&mut rest, &[(*volume).into(), *level as u64, *number]);
                15
            }
            Edit::ShareLevel { volume, level, from } => {
                put_all(&mut rest, &[(*volume).into(), *level as u64, (*from).into()]);
                16
            }
            Edit::Inherits { volume, from, seq } => {
                put_all(&mut rest, &[(*volume).into(), (*from).into(), *seq]);
                17
            }
            Edit::Forked { volume, lineage } => {
                put(&mut rest, u64::from(*volume));
                lineage.encode(&mut rest);
                18
            }
            Edit::Tally { volume, tally } => {
                put(&mut rest, u64::from(*volume));
                tally.put(&mut rest);
                19
            }
            Edit::Counted { volume, counted } => {
                put_all(&mut rest, &[(*volume).into(), (*counted).into()]);
                20
            }
            Edit::Quota { volume, quota } => {
                put(&mut rest, u64::from(*volume));
                quota.put(&mut rest);
                21
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
            4 => Edit::Volume { id: take_id(rest)?, name: take_name(rest)? },
            5 => Edit::Flushed { volume: take_id(rest)?, seq: take(rest)? },
            6 => {
                let (volume, level) = (take_id(rest)?, take_usize(rest)?);
                Edit::AddTable { volume, level, table: Arc::new(TableMeta::decode(rest)?) }
            }
            7 => Edit::RemoveTable { volume: take_id(rest)?, level: take_usize(rest)?, number: take(rest)? },
            8 => Edit::LogDurable(take(rest)?),
            9 => Edit::Store(u64::from_be_bytes(*rest.first_chunk()?)),
            10 => Edit::VolumeIds(take_id(rest)?),
            11 => Edit::Absorbed(take(rest)?),
            12 => {
                let (from, to, owner) = (take_id(rest)?, take_id(rest)?, take_id(rest)?);
                let owner = Some(owner).filter(|owner| *owner > 0);
                let (seq, carried) = (take(rest)?, Carried::from_u64(take(rest)?)?);
                Edit::Fork { from, to, owner, seq, carried, name: take_name(rest)? }
            }
            13 => Edit::Delete(take_id(rest)?),
            14 => Edit::Owner { id: take_id(rest)?, owner: take_id(rest)? },
            15 => {
                let (volume, level) = (take_id(rest)?, take_usize(rest)?);
                Edit::LinkTable { volume, level, number: take(rest)? }
            }
            16 => {
                let (volume, level) = (take_id(rest)?, take_usize(rest)?);
                Edit::ShareLevel { volume, level, from: take_id(rest)? }
            }
            17 => Edit::Inherits { volume: take_id(rest)?, from: take_id(rest)?, seq: take(rest)? },
            18 => Edit::Forked { volume: take_id(rest)?, lineage: Lineage::take(rest)? },
            19 => Edit::Tally { volume: take_id(rest)?, tally: Tally::take(rest)? },
            20 => Edit::Counted { volume: take_id(rest)?, counted: take(rest)? > 0 },
            21 => Edit::Quota { volume: take_id(rest)?, quota: Quota::take(rest)? },
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
