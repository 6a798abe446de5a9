//! What volumes have to themselves, and what they share: the tables of one, those of several.

use crate::lsm::levels::LiveTable;
use crate::lsm::volume::Tree;
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of tables and of the values in blob files that they point to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// In tables that no other volume has.
    pub own: u64,
    /// In tables that others have, too.
    pub shared: u64,
}

/// How many volumes have each table. Levels that forks share are looked at once.
#[derive(Debug)]
pub(super) struct Sharing {
    levels: HashMap<*const Arc<LiveTable>, Held>,
}

impl Sharing {
    /// Among these trees, which must live as long as this.
    pub fn among(trees: &[Arc<Tree>]) -> Sharing {
        let mut volumes: HashMap<*const Arc<LiveTable>, (&[Arc<LiveTable>], usize)> = HashMap::new();
        for level in trees.iter().flat_map(|tree| tree.levels.iter()).filter(|level| !level.is_empty()) {
            volumes.entry(level.as_ptr()).or_insert((level, 0)).1 += 1;
        }
        let mut holders: HashMap<u64, usize> = HashMap::new();
        for (level, count) in volumes.values() {
            level.iter().for_each(|table| *holders.entry(table.number).or_default() += count);
        }
        let held = |level: &[Arc<LiveTable>]| {
            level.iter().fold(Held::default(), |held, table| {
                let bytes = table.size + table.blob_bytes();
                match holders.get(&table.number) {
                    Some(1) => Held { own: held.own + bytes, ..held },
                    _ => Held { shared: held.shared + bytes, ..held },
                }
            })
        };
        Sharing { levels: volumes.into_iter().map(|(at, (level, _))| (at, held(level))).collect() }
    }

    /// What the volume of one of the trees holds.
    pub fn of(&self, tree: &Tree) -> Held {
        let levels = tree.levels.iter().filter_map(|level| self.levels.get(&level.as_ptr()));
        levels.fold(Held::default(), |sum, held| Held {
            own: sum.own + held.own,
            shared: sum.shared + held.shared,
        })
    }
}
