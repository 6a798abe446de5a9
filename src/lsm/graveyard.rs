//! The files of tables: what of each is in use, and which nobody uses any more.
//!
//! A [`LiveFile`] is one object, however many tables stand in the file and whoever uses them. When the last is
//! gone the file is dead: it is deleted as soon as the manifest does not list a table in it any more. Until then a table
//! that nobody uses stays where it is, if its pack has others: whoever finds it there must be able to know that others have
//! taken its place ([`Graveyard::still_holds`]).
//!
//! # Locks
//! All are leaves. A file's last table may go while another thread asks for the file: then there are
//! two objects of it for a moment, and the manifest, which lists the other's table, keeps the file.

use crate::disk::Disk;
use crate::lsm::manifest::State;
use crate::lsm::table::pack::tables_in;
use crate::lsm::table::{TableFile, TableMeta};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

/// A pack is sparse when less than one part in this many of it is in use: then its tables are worth moving.
const SPARSE_ONE_IN: u64 = 2;

/// The files of tables.
#[derive(Debug, Default)]
pub(crate) struct Graveyard {
    /// The packs in use.
    packs: Mutex<HashMap<u64, Weak<LiveFile>>>,
    dead: Mutex<Vec<TableFile>>,
    /// The numbers of tables that went out of use.
    tables: Mutex<Vec<u64>>,
}

/// A file that some table in use stands in.
#[derive(Debug)]
pub(crate) struct LiveFile {
    file: TableFile,
    /// Its length in bytes.
    len: u64,
    /// Bytes of tables in use.
    live: AtomicU64,
    /// The numbers of all tables in it, once somebody asked.
    tables: OnceLock<Vec<u64>>,
    graveyard: Arc<Graveyard>,
}

impl Graveyard {
    /// The file that a table stands in.
    pub fn file_of(self: &Arc<Self>, meta: &TableMeta) -> Arc<LiveFile> {
        let new = |len| LiveFile {
            file: meta.file(),
            len,
            live: AtomicU64::new(0),
            tables: OnceLock::new(),
            graveyard: self.clone(),
        };
        let Some(section) = meta.section else { return Arc::new(new(meta.size)) };
        let mut packs = self.packs.lock();
        let known = packs.entry(section.pack).or_default();
        known.upgrade().unwrap_or_else(|| {
            let file = Arc::new(new(section.pack_len));
            *known = Arc::downgrade(&file);
            file
        })
    }

    /// Is some pack sparse?
    pub fn has_sparse(&self) -> bool {
        // Outside the lock, under which no file may go.
        let packs: Vec<Arc<LiveFile>> = self.packs.lock().values().filter_map(Weak::upgrade).collect();
        packs.iter().any(|pack| pack.is_sparse())
    }

    /// Does the table of that number, which nobody uses, stand in a pack that has others in use?
    pub fn still_holds(&self, disk: &dyn Disk, number: u64) -> bool {
        // A pack has its number before its tables have theirs.
        let is_older =
            |(pack, file): (&u64, &Weak<LiveFile>)| (*pack < number).then(|| file.upgrade()).flatten();
        // They go outside the lock, as above.
        let packs: Vec<Arc<LiveFile>> = self.packs.lock().iter().filter_map(is_older).collect();
        packs.iter().any(|pack| pack.tables(disk).contains(&number))
    }

    /// Takes out the numbers of tables that went out of use.
    pub fn take_tables(&self) -> Vec<u64> {
        std::mem::take(&mut self.tables.lock())
    }

    /// Takes the dead files out that the manifest does not list.
    pub fn take_unlisted(&self, state: &State) -> Vec<TableFile> {
        let mut dead = self.dead.lock();
        if dead.is_empty() {
            return Vec::new();
        }
        let listed: HashSet<TableFile> = state.live_tables().map(|table| table.file()).collect();
        // A pack may have died more than once.
        let unlisted: HashSet<_> = dead.extract_if(.., |file| !listed.contains(file)).collect();
        unlisted.into_iter().collect()
    }
}

impl LiveFile {
    /// A table of so many bytes in it came into use.
    pub fn gained(&self, bytes: u64) {
        self.live.fetch_add(bytes, Relaxed);
    }

    /// A table went out of use.
    pub fn lost(&self, table: &TableMeta) {
        self.live.fetch_sub(table.size, Relaxed);
        self.graveyard.tables.lock().push(table.number);
    }

    /// The numbers of all tables in it, as it says itself.
    fn tables(&self, disk: &dyn Disk) -> &[u64] {
        self.tables.get_or_init(|| match tables_in(disk, self.file) {
            Ok(tables) => tables.iter().map(|table| table.number).collect(),
            Err(e) => {
                // Only a repair would have wanted it, which cannot read it either.
                tracing::warn!("{e}");
                Vec::new()
            }
        })
    }

    /// Is little of it in use?
    pub fn is_sparse(&self) -> bool {
        self.live.load(Relaxed) < self.len / SPARSE_ONE_IN
    }
}

impl Drop for LiveFile {
    fn drop(&mut self) {
        if let TableFile::Pack(number) = self.file {
            let mut packs = self.graveyard.packs.lock();
            // Unless there is another object of it already.
            if packs.get(&number).is_some_and(|known| known.strong_count() == 0) {
                packs.remove(&number);
            }
        }
        self.graveyard.dead.lock().push(self.file);
    }
}
