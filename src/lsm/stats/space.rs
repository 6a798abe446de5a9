//! How much of a tree's tables is live, estimated from what the manifest knows, without reading any.
//!
//! Runs of tables are taken from the oldest to the newest: the levels from the deepest up, then L0's
//! tables. A table whose key range no older one overlaps holds live records and its own tombstones.
//! One that overlaps an older one is taken for newer versions of that one's keys, and each of its
//! tombstones for the end of a key.

use crate::lsm::levels::{Levels, LiveTable};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Bytes of tables, and those of them that are live.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Space {
    pub bytes: u64,
    pub live: u64,
}

/// Measures a tree's tables.
pub(super) fn measure(levels: &Levels) -> Space {
    let mut covered = Covered::default();
    let (mut bytes, mut oldest_bytes, mut entries, mut deleted) = (0, 0, 0u64, 0);
    // L0 is listed newest first.
    for table in levels.iter().rev().flat_map(|level| level.iter().rev()) {
        bytes += table.size;
        deleted += table.tombstones;
        if covered.add(table) {
            oldest_bytes += table.size;
            entries += table.entries;
        }
    }
    let live_share = entries.saturating_sub(deleted) as f64 / entries.max(1) as f64;
    Space { bytes, live: (oldest_bytes as f64 * live_share) as u64 }
}

/// Disjoint ranges of keys: the largest key by the smallest.
#[derive(Default)]
struct Covered(BTreeMap<Bytes, Bytes>);

impl Covered {
    /// Adds a table's range if it overlaps none yet.
    fn add(&mut self, table: &LiveTable) -> bool {
        let up_to_largest = (Bound::Unbounded, Bound::Included(&table.largest));
        let last = self.0.range::<Bytes, _>(up_to_largest).next_back();
        let free = last.is_none_or(|(_, largest)| *largest < table.smallest);
        if free {
            self.0.insert(table.smallest.clone(), table.largest.clone());
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsm::blob::LiveBlobs;
    use crate::lsm::graveyard::Graveyard;
    use crate::lsm::levels::Listed;
    use crate::lsm::manifest::state::LevelState;
    use crate::lsm::table::TableMeta;
    use std::sync::Arc;

    fn table(range: [&str; 2], entries: u64, tombstones: u64) -> TableMeta {
        let [smallest, largest] = range.map(|key| Bytes::copy_from_slice(key.as_bytes()));
        TableMeta { smallest, largest, entries, tombstones, size: entries * 10, ..TableMeta::empty(1) }
    }

    fn space(levels: &[Vec<TableMeta>]) -> (u64, u64) {
        let mut numbers = 1..;
        let mut numbered = |meta: &TableMeta| TableMeta { number: numbers.next().unwrap(), ..meta.clone() };
        let mut level =
            |tables: &Vec<TableMeta>| Arc::new(tables.iter().map(|meta| Arc::new(numbered(meta))).collect());
        let levels: Vec<LevelState> = levels.iter().map(&mut level).collect();
        let graveyard = Arc::new(Graveyard::default());
        let levels = Listed::new(&graveyard, &LiveBlobs::default()).levels(&levels);
        let Space { bytes, live } = measure(&levels);
        (bytes, live)
    }

    #[test]
    fn what_overlaps_nothing_older_is_live() {
        assert_eq!(space(&[]), (0, 0));
        let bottom = vec![table(["a", "c"], 100, 0), table(["d", "f"], 100, 0)];
        assert_eq!(space(&[vec![], bottom.clone()]), (2000, 2000));
        let above = vec![table(["a", "b"], 50, 0)];
        assert_eq!(space(&[above.clone(), bottom.clone()]), (2500, 2000));
        assert_eq!(space(&[vec![table(["x", "z"], 50, 0)], bottom.clone()]), (2500, 2500));
        assert_eq!(space(&[above, vec![], bottom]), (2500, 2000));
    }

    #[test]
    fn the_oldest_table_of_l0_counts() {
        assert_eq!(space(&[vec![table(["a", "z"], 10, 0), table(["b", "y"], 100, 0)]]), (1100, 1000));
    }

    #[test]
    fn tombstones_end_what_they_lie_over() {
        let bottom = vec![table(["a", "z"], 100, 0)];
        assert_eq!(space(&[vec![table(["a", "z"], 50, 50)], bottom.clone()]), (1500, 500));
        assert_eq!(space(&[vec![table(["a", "z"], 200, 200)], bottom]), (3000, 0));
        assert_eq!(space(&[vec![table(["a", "z"], 100, 40)]]), (1000, 600));
    }
}
