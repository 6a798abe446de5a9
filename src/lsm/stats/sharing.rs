//! What volumes have to themselves, and what they share.
//!
//! What counts are tables, and the values in blob files that tables and memtables point to. A table is a volume's
//! own if no other volume or snapshot refers to it, whatever else stands in its file. A value is a volume's own if no
//! other's table or memtable points to it. Nobody reads tables to know that; it follows
//!
//! - if its table or memtable is the volume's own, and no other could have the record: it is newer than the volume's
//!   last parting from another one ([`crate::lsm::lineage`]). Tables tell of their newer values apart for this
//!   ([`TableMeta::split`]);
//! - or, of the older values that the volume's own tables point to in one file: if they are more bytes than others point
//!   to there with records as old. What they have more is the volume's own.
//!
//! So what counts as own is own. The second is exact unless both have lost, since they parted, different older values
//! of one file: then some that is own counts as shared.
//!
//! Levels and memtables that forks share are looked at once, however many forks there are.
//!
//! [`TableMeta::split`]: crate::lsm::table::TableMeta::split

use crate::lsm::SeqNo;
use crate::lsm::levels::LiveTable;
use crate::lsm::lineage::{Lineage, own_after};
use crate::lsm::manifest::VolumeId;
use crate::lsm::memtable::Memtable;
use crate::lsm::volume::Tree;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Bytes of tables and of values in blob files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// No other volume has them.
    pub own: u64,
    /// Others have them, too.
    pub shared: u64,
}

/// A level that is not empty, or a memtable, by its place in memory.
type Place = *const ();

/// A table by its number, or a memtable by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Table(u64),
    Memtable(Place),
}

/// Who has something: the one volume, or none if several have it.
type Holder = Option<usize>;

/// Blob files, by number.
type File = u64;

/// What one volume, or several, can point to in a file with records as old: their smallest sequence numbers and the
/// bytes, sorted and summed up once all are known.
#[derive(Debug, Default)]
struct Older(Vec<(SeqNo, u64)>);

impl Older {
    fn sum_up(&mut self) {
        self.0.sort_unstable();
        let mut sum = 0;
        self.0.iter_mut().for_each(|(_, bytes)| {
            sum += *bytes;
            *bytes = sum;
        });
    }

    /// The bytes of those that have records up to `seq`.
    fn up_to(&self, seq: SeqNo) -> u64 {
        let count = self.0.partition_point(|(smallest, _)| *smallest <= seq);
        count.checked_sub(1).and_then(|last| self.0.get(last)).map_or(0, |(_, sum)| *sum)
    }
}

/// What the tables of a level, or a memtable, hold.
#[derive(Debug, Default)]
struct Part {
    /// Bytes of own tables and of values that are own for certain.
    own: u64,
    /// Bytes of values in each file that older records of own tables point to.
    older: HashMap<File, u64>,
    /// Bytes of tables that several volumes have.
    shared: u64,
    /// Bytes of values in each file that those point to.
    shared_values: HashMap<File, u64>,
}

impl Part {
    fn add_table(&mut self, bytes: u64, holder: Holder) {
        *if holder.is_some() { &mut self.own } else { &mut self.shared } += bytes;
    }

    /// `newer`: those among the bytes that are the holder's own for certain. Returns the others.
    fn add_values(&mut self, file: File, bytes: u64, newer: u64, holder: Holder) -> u64 {
        let newer = if holder.is_some() { newer } else { 0 };
        let older = bytes.saturating_sub(newer);
        self.own += newer;
        if older > 0 {
            let values = if holder.is_some() { &mut self.older } else { &mut self.shared_values };
            *values.entry(file).or_default() += older;
        }
        older
    }
}

/// What each of some volumes holds; their trees must live as long as this runs.
pub(super) fn held(trees: &[Arc<Tree>], lineages: &[(VolumeId, Lineage)]) -> Vec<Held> {
    let own_after = own_after(lineages);
    let holders = Holders::of(trees);
    let mut parts: HashMap<Place, Part> = HashMap::new();
    let mut older: HashMap<File, Older> = HashMap::new();
    for (tree, after) in trees.iter().zip(&own_after) {
        // Who shares a level or memtable with others has nothing of its own there: any of them may be asked.
        let mut note = |part: &mut Part, file, bytes, newer, smallest_seq, holder| {
            let rest = part.add_values(file, bytes, newer, holder);
            if rest > 0 {
                older.entry(file).or_default().0.push((smallest_seq, rest));
            }
        };
        for level in tree.levels.iter().filter(|level| !level.is_empty()) {
            let Entry::Vacant(free) = parts.entry(level.as_ptr().cast()) else { continue };
            let part = free.insert(Part::default());
            for table in level {
                let holder = holders.of_table(table);
                part.add_table(table.size, holder);
                for used in &table.blobs {
                    let newer = table.blob_bytes_after(used, *after);
                    note(part, used.file, used.bytes, newer, table.smallest_seq, holder);
                }
            }
        }
        for memtable in tree.memtables() {
            let Entry::Vacant(free) = parts.entry(Arc::as_ptr(memtable).cast()) else { continue };
            let part = free.insert(Part::default());
            let holder = holders.of_memtable(memtable);
            let first_seq = memtable.first_seq().unwrap_or(0);
            for (file, bytes) in memtable.blob_uses() {
                let newer = if first_seq > *after { bytes } else { 0 };
                note(part, file, bytes, newer, first_seq, holder);
            }
        }
    }
    older.values_mut().for_each(Older::sum_up);
    let held = |(tree, after): (&Arc<Tree>, &SeqNo)| {
        let mine: Vec<&Part> = places(tree).filter_map(|place| parts.get(&place)).collect();
        sum(&mine, &older, *after)
    };
    trees.iter().zip(&own_after).map(held).collect()
}

/// What a volume of these parts holds.
fn sum(parts: &[&Part], older: &HashMap<File, Older>, own_after: SeqNo) -> Held {
    let mut held = Held::default();
    let mut mine: HashMap<File, u64> = HashMap::new();
    for part in parts {
        held.own += part.own;
        held.shared += part.shared + part.shared_values.values().sum::<u64>();
        part.older.iter().for_each(|(file, bytes)| *mine.entry(*file).or_default() += bytes);
    }
    for (file, mine) in mine {
        let shared: u64 = parts.iter().filter_map(|part| part.shared_values.get(&file)).sum();
        let all = older.get(&file).map_or(0, |older| older.up_to(own_after));
        let others = all.saturating_sub(mine + shared);
        let own = mine.saturating_sub(others);
        held.own += own;
        held.shared += mine - own;
    }
    held
}

/// Who has each table and each memtable.
#[derive(Debug, Default)]
struct Holders(HashMap<Source, Holder>);

impl Holders {
    fn of(trees: &[Arc<Tree>]) -> Holders {
        let mut of_places: HashMap<Place, Holder> = HashMap::new();
        for (at, tree) in trees.iter().enumerate() {
            places(tree).for_each(|place| note(&mut of_places, place, Some(at)));
        }
        let mut holders = HashMap::new();
        for tree in trees {
            for level in tree.levels.iter().filter(|level| !level.is_empty()) {
                // Each level once.
                let Some(holder) = of_places.remove(&level.as_ptr().cast()) else { continue };
                level.iter().for_each(|table| note(&mut holders, Source::Table(table.number), holder));
            }
            for memtable in tree.memtables() {
                let place = Arc::as_ptr(memtable).cast();
                of_places.remove(&place).map(|holder| holders.insert(Source::Memtable(place), holder));
            }
        }
        Holders(holders)
    }

    fn of_table(&self, table: &LiveTable) -> Holder {
        self.0.get(&Source::Table(table.number)).copied().flatten()
    }

    fn of_memtable(&self, memtable: &Arc<Memtable>) -> Holder {
        self.0.get(&Source::Memtable(Arc::as_ptr(memtable).cast())).copied().flatten()
    }
}

fn places(tree: &Tree) -> impl Iterator<Item = Place> {
    let levels = tree.levels.iter().filter(|level| !level.is_empty()).map(|level| level.as_ptr().cast());
    levels.chain(tree.memtables().map(|memtable| Arc::as_ptr(memtable).cast()))
}

/// Another holder was found: is there still one alone?
fn note<K: std::hash::Hash + Eq>(holders: &mut HashMap<K, Holder>, held: K, by: Holder) {
    match holders.entry(held) {
        Entry::Vacant(free) => _ = free.insert(by),
        Entry::Occupied(mut taken) if *taken.get() != by => _ = taken.insert(None),
        Entry::Occupied(_) => {}
    }
}
