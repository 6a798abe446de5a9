//! Where a table stands: in a file of its own, or with others in a pack ([`super::pack`]).

use super::{file_name, pack_name};
use crate::lsm::Error;

/// A file that holds a table or several. Each has a number that no other file of the store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TableFile {
    /// A table's own.
    Single(u64),
    /// A pack of several.
    Pack(u64),
}

impl TableFile {
    /// The file's name.
    pub fn name(self) -> String {
        match self {
            TableFile::Single(number) => file_name(number),
            TableFile::Pack(number) => pack_name(number),
        }
    }

    /// The file's number.
    pub fn number(self) -> u64 {
        match self {
            TableFile::Single(number) | TableFile::Pack(number) => number,
        }
    }
}

/// A table's part of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Section {
    /// The pack's number.
    pub pack: u64,
    /// Where the table begins in it.
    pub offset: u64,
    /// The pack's whole length in bytes.
    pub pack_len: u64,
}

/// A table's number and where it stands: what an error about it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub number: u64,
    pub file: TableFile,
    /// Where it begins in the file.
    pub base: u64,
}

impl Place {
    /// In a file of its own.
    pub fn single(number: u64) -> Place {
        Place { number, file: TableFile::Single(number), base: 0 }
    }

    /// In a pack, if there is a section.
    pub fn new(number: u64, section: Option<Section>) -> Place {
        section.map_or(Place::single(number), |section| Place {
            number,
            file: TableFile::Pack(section.pack),
            base: section.offset,
        })
    }

    /// Damage at an offset of the table.
    pub fn damage(self, offset: u64, what: impl Into<String>) -> Error {
        Error::corruption(self.file.name(), self.base.saturating_add(offset), what)
    }
}
