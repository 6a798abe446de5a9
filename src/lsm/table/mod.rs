//! Tables (SSTs): immutable files of records in internal key order.
//!
//! ```text
//! file      := partition* | [range tombstones] | properties | top index | footer (64)
//! partition := value block* | data block+ | filter | index
//! ```
//!
//! - A **data block** holds records: internal key, the value's head, and its tail or where that is.
//!   All versions of a key are in the order of the keys; they may span blocks and partitions.
//! - A **value block** holds tails of [`TableOptions::value_threshold`] bytes or more, several small
//!   ones or one large one, of one data block's records. Scans of keys and heads never read it, and
//!   a partition's data blocks stand side by side, so such scans read the file in long runs.
//! - An **index** names a partition's data blocks, the **top index** names the partitions. An open
//!   table keeps only the top index; everything else is read when needed, through the block cache.
//! - **Range tombstones** are records like others, and stand once more in a block of their own,
//!   which is read when the table is opened.
//! - A **filter** tells which user keys and which prefixes are not in the partition.
//!
//! So a point read costs the filter, the index partition and one data block, and a value block if
//! the tail is asked for. A partition ends after about 1 MiB of data blocks, or
//! when its index or filter grows large.
//!
//! The bytes: `frame.rs` (every block's checksum and compression), `data.rs`, `index.rs`,
//! `filter.rs`, `ranges.rs`, `properties.rs` and `footer.rs`; a value block is its tails, one after the other.
//! Formats grow without a break: blocks carry a format byte, the meta and the properties a length,
//! the footer a version. Any damage gives [`Error::Corruption`] with the file and the block's offset.
//!
//! Small tables may stand in one file together ([`pack`]).
//!
//! A table is immutable and has no lock of its own; everything here may be used from any thread.
//!
//! [`Error::Corruption`]: crate::lsm::Error::Corruption

pub mod builder;
pub mod cache;
pub(crate) mod compress;
mod data;
mod data_cursor;
pub mod filter;
mod footer;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod index;
pub mod iter;
pub mod meta;
pub(crate) mod pack;
mod place;
pub mod properties;
mod ranges;
pub mod reader;
pub(crate) mod walk;

pub use builder::TableBuilder;
pub use cache::TableCache;
pub use filter::PrefixRule;
pub use iter::TableIter;
pub use meta::TableMeta;
pub(crate) use place::Place;
pub use place::{Section, TableFile};
pub use properties::{Home, Properties};
pub use reader::Table;

use crate::lsm::SeqNo;
use crate::lsm::names;
use crate::lsm::options::{Compression, Options};

/// The name of the table file with this number.
pub fn file_name(number: u64) -> String {
    format!("{number:06}.sst")
}

/// The number in a table file's name; `None` if the name is no table's.
pub fn parse_file_name(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".sst")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// The name of the pack with this number.
pub fn pack_name(number: u64) -> String {
    format!("{number:06}.pack")
}

/// The file that a name is that of; `None` if it is neither a table's nor a pack's.
pub fn parse_name(name: &str) -> Option<TableFile> {
    let pack = || names::parse(name, "", ".pack").map(TableFile::Pack);
    parse_file_name(name).map(TableFile::Single).or_else(pack)
}

/// How tables are built.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// Data blocks are cut at about this size, before compression.
    pub block_size: usize,
    /// How blocks are compressed.
    pub compression: Compression,
    /// Tails at least this long stand in value blocks, others beside their heads.
    pub value_threshold: usize,
    /// Prefixes that the filters answer for, besides whole keys.
    pub prefix: Option<PrefixRule>,
    /// The filters' size in bits a key (10: 1 % false positives); 0 for none.
    pub filter_bits_per_key: usize,
    /// The id of the store, which each table repeats: without it no log or blob file can be read.
    pub store: u64,
    /// The volumes that the table is made for.
    pub homes: Vec<Home>,
    /// The tables in whose place it is put.
    pub replaces: Vec<u64>,
    /// Where its volume has last parted from another one ([`TableMeta::split`]).
    pub split: SeqNo,
}

impl Default for TableOptions {
    fn default() -> TableOptions {
        TableOptions::from(&Options::default())
    }
}

impl From<&Options> for TableOptions {
    fn from(options: &Options) -> TableOptions {
        TableOptions {
            block_size: options.block_size,
            compression: options.compression,
            value_threshold: 256,
            prefix: options.prefix,
            filter_bits_per_key: 10,
            store: 0,
            homes: Vec::new(),
            replaces: Vec::new(),
            split: 0,
        }
    }
}

/// Bytes that no writer writes, and what is wrong with them. The reader of the file adds where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

#[cfg(test)]
mod tests;
