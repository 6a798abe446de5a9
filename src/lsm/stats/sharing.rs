//! What volumes have to themselves, and what they share.
//!
//! What counts are tables, and the values in blob files that tables and memtables point to. A table is a volume's
//! own if no other volume or snapshot refers to it; so are the values in a blob file to which only one points. So
//! what is own is what the volume's deletion frees: files go whole. Levels and memtables that forks share are
//! looked at once, however many forks there are.

use crate::lsm::levels::LiveTable;
use crate::lsm::memtable::Memtable;
use crate::lsm::volume::Tree;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Bytes of tables and of values in blob files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// In files that no other volume has.
    pub own: u64,
    /// In files that others have, too.
    pub shared: u64,
}

/// A file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum File {
    Table(u64),
    Blob(u64),
}

/// What refers to files: the tables of a level, or a memtable. By its place in memory.
type Place = *const ();

/// The files that something refers to, with their bytes.
fn files_of_level(level: &[Arc<LiveTable>]) -> Vec<(File, u64)> {
    let of_table = |table: &Arc<LiveTable>| {
        let blobs: Vec<_> = table.blobs.iter().map(|used| (File::Blob(used.file), used.bytes)).collect();
        std::iter::once((File::Table(table.number), table.size)).chain(blobs)
    };
    level.iter().flat_map(of_table).collect()
}

fn files_of_memtable(memtable: &Memtable) -> Vec<(File, u64)> {
    memtable.blob_uses().into_iter().map(|(file, bytes)| (File::Blob(file), bytes)).collect()
}

/// Levels that are not empty, and memtables, by their places.
fn places(tree: &Tree) -> impl Iterator<Item = Place> {
    let levels = tree.levels.iter().filter(|level| !level.is_empty()).map(|level| level.as_ptr().cast());
    levels.chain(tree.memtables().map(|memtable| Arc::as_ptr(memtable).cast()))
}

/// How the bytes at each place are shared.
#[derive(Debug)]
pub(super) struct Sharing(HashMap<Place, Held>);

impl Sharing {
    /// Among these trees, which must live as long as this.
    pub fn among(trees: &[Arc<Tree>]) -> Sharing {
        // The volume that alone has it, or none.
        let mut holders: HashMap<Place, Option<usize>> = HashMap::new();
        let mut files: HashMap<Place, Vec<(File, u64)>> = HashMap::new();
        for (at, tree) in trees.iter().enumerate() {
            for place in places(tree) {
                note(&mut holders, place, Some(at));
            }
            for level in tree.levels.iter().filter(|level| !level.is_empty()) {
                files.entry(level.as_ptr().cast()).or_insert_with(|| files_of_level(level));
            }
            for memtable in tree.memtables() {
                files.entry(Arc::as_ptr(memtable).cast()).or_insert_with(|| files_of_memtable(memtable));
            }
        }
        let mut owners: HashMap<File, Option<usize>> = HashMap::new();
        for (place, files) in &files {
            files.iter().for_each(|(file, _)| note(&mut owners, *file, holders[place]));
        }
        let held = |files: Vec<(File, u64)>| {
            files.into_iter().fold(Held::default(), |held, (file, bytes)| match owners[&file] {
                Some(_) => Held { own: held.own + bytes, ..held },
                None => Held { shared: held.shared + bytes, ..held },
            })
        };
        Sharing(files.into_iter().map(|(place, files)| (place, held(files))).collect())
    }

    /// What the volume of one of the trees holds.
    pub fn of(&self, tree: &Tree) -> Held {
        places(tree).filter_map(|place| self.0.get(&place)).fold(Held::default(), |sum, held| Held {
            own: sum.own + held.own,
            shared: sum.shared + held.shared,
        })
    }
}

/// Another holder was found: is there still one alone?
fn note<K: std::hash::Hash + Eq>(holders: &mut HashMap<K, Option<usize>>, held: K, by: Option<usize>) {
    match holders.entry(held) {
        Entry::Vacant(free) => _ = free.insert(by),
        Entry::Occupied(mut taken) if *taken.get() != by => _ = taken.insert(None),
        Entry::Occupied(_) => {}
    }
}
