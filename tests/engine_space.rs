//! The room that a store takes while it works.

mod engine_common;

use engine_common::{Rng, files, open, sim, stepped, try_put};
use lsmfs::lsm::{Options, Store};
use std::collections::BTreeSet;

fn live(store: &Store) -> BTreeSet<String> {
    let volumes = store.stats().volumes;
    volumes.iter().flat_map(|v| v.levels.iter().flatten()).map(|table| table.file.clone()).collect()
}

#[test]
fn compactions_that_follow_one_another_keep_only_the_last_ones_inputs() {
    let disk = sim();
    let (store, volume) =
        open(&disk, Options { table_size: 4000, level_base_size: 8000, level_multiplier: 2, ..stepped() });
    let mut rng = Rng(1);
    let mut in_a_row = 0;
    for _ in 0..20 {
        for _ in 0..400 {
            let value = [(); 100].map(|()| rng.below(256) as u8);
            try_put(&volume, &rng.below(4000).to_be_bytes(), &value).unwrap();
        }
        store.flush().unwrap();
        let mut before = live(&store);
        for jobs in 1.. {
            if !store.step().unwrap() {
                break;
            }
            let after = live(&store);
            let on_disk: BTreeSet<String> = files(&disk, ".sst").into_iter().collect();
            let kept: BTreeSet<String> = on_disk.difference(&after).cloned().collect();
            assert!(jobs == 1 || kept.is_subset(&before), "after job {jobs}: {kept:?}");
            before = after;
            in_a_row = in_a_row.max(jobs);
        }
    }
    assert!(in_a_row > 5, "{in_a_row} jobs");
}
