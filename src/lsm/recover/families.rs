//! Which volumes were forked from one another, directly or not: a *family* (`volumes.rs`). The manifest does not
//! say; but those that share something share tables or memtables, and the others need not know of each other.

use crate::lsm::manifest::VolumeId;
use crate::lsm::volume::Born;
use std::collections::HashMap;

/// Puts volumes that share a table or a memtable in one family, that of the oldest.
pub(super) fn assign(volumes: &mut [Born]) {
    let mut families = Families { parents: (0..volumes.len()).collect() };
    let (mut levels, mut tables, mut memtables) = (HashMap::new(), HashMap::new(), HashMap::new());
    for (at, volume) in volumes.iter().enumerate() {
        for level in volume.tree.levels.iter().filter(|level| !level.is_empty()) {
            let first = *levels.entry(level.as_ptr()).or_insert(at);
            families.join(first, at);
            // The first that has it has told of its tables.
            let new = level.iter().filter(|_| first == at);
            new.for_each(|table| families.join(*tables.entry(table.number).or_insert(at), at));
        }
        for memtable in &volume.tree.immutable {
            families.join(*memtables.entry(std::sync::Arc::as_ptr(memtable)).or_insert(at), at);
        }
    }
    let ids: Vec<VolumeId> = volumes.iter().map(|volume| volume.id).collect();
    for (at, volume) in volumes.iter_mut().enumerate() {
        volume.family = ids[families.root(at)];
    }
}

/// Sets of positions, each with its smallest as its root.
struct Families {
    parents: Vec<usize>,
}

impl Families {
    fn root(&mut self, mut at: usize) -> usize {
        while self.parents[at] != at {
            self.parents[at] = self.parents[self.parents[at]];
            at = self.parents[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsm::lineage::Lineage;
    use crate::lsm::memtable::Memtable;
    use crate::lsm::tally::Quota;
    use crate::lsm::volume::Tree;
    use std::sync::Arc;

    #[test]
    fn who_shares_is_of_one_family_and_nobody_else() {
        let memtables: Vec<Arc<Memtable>> = (0..4).map(|_| Arc::default()).collect();
        let born = |id: VolumeId, shared: &[usize]| Born {
            id,
            name: String::new(),
            owner: None,
            quota: Quota::default(),
            lineage: Lineage::default(),
            family: 0,
            tree: Tree {
                immutable: shared.iter().map(|at| memtables[*at].clone()).collect(),
                ..Tree::default()
            },
        };
        let mut volumes =
            [born(1, &[]), born(2, &[0]), born(3, &[1]), born(5, &[2]), born(6, &[1, 0]), born(9, &[])];
        assign(&mut volumes);
        assert_eq!(volumes.map(|volume| volume.family), [1, 2, 2, 5, 2, 9]);
    }
}
