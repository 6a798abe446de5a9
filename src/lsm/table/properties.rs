//! The properties block: a table's own account of itself.
//!
//! ```text
//! block := the table's meta (see [`TableMeta`]), its size 0: unknown when the block is written
//!          | varint length of the rest | varint compression | varint block size | varint value threshold
//!          | varint partitions | varint data blocks | varint value blocks | varint prefix rule
//!          | [store's id (8, little-endian)
//!             | [varint number of homes | (varint volume | varint its owner, or 0 | varint len, name) of each
//!                | varint number of replaced tables | (varint number) of each]]
//!          | more, from later versions
//! ```
//!
//! It holds no time and nothing else that changes from one run to the next: the same records and
//! options give the same bytes.

use crate::lsm::manifest::VolumeId;
use crate::lsm::table::TableMeta;
use crate::lsm::varint;

/// A volume that a table was made for: what a repair without a manifest knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Its number.
    pub id: VolumeId,
    /// The volume that it is a snapshot of, if it is one.
    pub owner: Option<VolumeId>,
    /// Its name.
    pub name: String,
}

/// A table's account of itself, for tools and tests; reads do not need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    /// Counts, key range and sequence range.
    pub meta: TableMeta,
    /// How its blocks are compressed: 0 not, 1 lz4, 2 zstd.
    pub compression: u64,
    /// The size at which data blocks were cut.
    pub block_size: u64,
    /// The length from which tails went to value blocks.
    pub value_threshold: u64,
    /// Index partitions.
    pub partitions: u64,
    /// Data blocks.
    pub data_blocks: u64,
    /// Value blocks.
    pub value_blocks: u64,
    /// The [`crate::lsm::table::PrefixRule`] of the filters; 0 if none.
    pub prefix_rule: u64,
    /// The id of the store that the table belongs to; 0 if it does not say.
    pub store: u64,
    /// The volumes that it was made for, the first of them if they are many.
    pub homes: Vec<Home>,
    /// The tables in whose place it stands: those that it was merged from, and those that these stood for, as far as
    /// they were still there then.
    pub replaces: Vec<u64>,
}

impl Properties {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for n in [
            self.compression,
            self.block_size,
            self.value_threshold,
            self.partitions,
            self.data_blocks,
            self.value_blocks,
            self.prefix_rule,
        ] {
            varint::put(&mut body, n);
        }
        if self.store != 0 {
            body.extend_from_slice(&self.store.to_le_bytes());
            if !self.homes.is_empty() || !self.replaces.is_empty() {
                varint::put(&mut body, self.homes.len() as u64);
                self.homes.iter().for_each(|home| home.encode(&mut body));
                varint::put(&mut body, self.replaces.len() as u64);
                self.replaces.iter().for_each(|number| varint::put(&mut body, *number));
            }
        }
        let mut out = Vec::new();
        self.meta.encode(&mut out);
        varint::put_prefixed(&mut out, &body);
        out
    }

    /// Reads the block of a table of `size` bytes.
    pub(crate) fn decode(mut input: &[u8], size: u64) -> Option<Properties> {
        let meta = Some(TableMeta { size, ..TableMeta::decode(&mut input)? }).filter(TableMeta::fits)?;
        let mut body = varint::take_prefixed(&mut input)?;
        let mut number = || varint::take(&mut body);
        let mut properties = Properties {
            meta,
            compression: number()?,
            block_size: number()?,
            value_threshold: number()?,
            partitions: number()?,
            data_blocks: number()?,
            value_blocks: number()?,
            prefix_rule: number()?,
            store: 0,
            homes: Vec::new(),
            replaces: Vec::new(),
        };
        if let Some(id) = varint::take_bytes(&mut body, size_of::<u64>()) {
            properties.store = u64::from_le_bytes(*id.first_chunk()?);
        }
        if !body.is_empty() {
            for _ in 0..varint::take(&mut body)? {
                properties.homes.push(Home::decode(&mut body)?);
            }
            for _ in 0..varint::take(&mut body)? {
                properties.replaces.push(varint::take(&mut body)?);
            }
        }
        Some(properties)
    }
}

impl Home {
    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.id.into());
        varint::put(out, self.owner.unwrap_or(0).into());
        varint::put_prefixed(out, self.name.as_bytes());
    }

    fn decode(input: &mut &[u8]) -> Option<Home> {
        let (id, owner) = (varint::take_u32(input)?, varint::take_u32(input)?);
        let name = String::from_utf8(varint::take_prefixed(input)?.to_vec()).ok()?;
        Some(Home { id, owner: Some(owner).filter(|owner| *owner > 0), name })
    }
}
