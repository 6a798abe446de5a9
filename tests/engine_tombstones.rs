//! Tombstones where compaction has to take care of them: cut between two tables, below patches that fit nothing.

mod engine_common;

use engine_common::{open, sim, stepped};
use lsmfs::lsm::options::Compression;
use lsmfs::lsm::{Batch, Error, Options, Store, Volume};

/// More steps than any of the stores here has work for.
const STEPS_MAX: usize = 1000;

fn step_until_quiet(store: &Store) {
    let steps = (0..STEPS_MAX).take_while(|_| store.step().unwrap()).count();
    assert!(steps < STEPS_MAX, "there is always more to do");
}

#[test]
fn a_range_tombstone_goes_on_behind_a_cut_whatever_the_next_key_is() {
    [false, true].into_iter().for_each(cut_a_range_tombstone);
}

fn cut_a_range_tombstone(with_snapshot: bool) {
    const TABLE_SIZE: usize = 4000;
    let options = Options {
        table_size: TABLE_SIZE as u64,
        l0_compaction_trigger: 1,
        compression: Compression::None,
        bottom_compression: Compression::None,
        ..stepped()
    };
    let write = |volume: &Volume, fill: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new();
        fill(&mut batch);
        volume.write(batch).unwrap();
    };
    // Behind the cut the tombstone begins at `a 0`: where the next key is that, and newer, it comes after it.
    let cases: [&[&[u8]]; 5] = [&[], &[b"a\0"], &[b"a\0", b"b"], &[b"a\0", b"a\0\0"], &[b"b"]];
    for others in cases {
        let (store, volume) = open(&sim(), options.clone());
        write(&volume, &|batch| {
            others.iter().for_each(|key| batch.put_split(key, b"", &[0; TABLE_SIZE]));
            batch.put(b"m", b"deleted");
        });
        store.flush().unwrap();
        // To the last level; what is compacted by hand comes there level by level.
        step_until_quiet(&store);
        write(&volume, &|batch| {
            batch.delete_range(b"a", b"z");
            batch.put_split(b"a", b"", &[1; 8 * TABLE_SIZE]);
        });
        store.flush().unwrap();
        let snapshot = with_snapshot.then(|| volume.snapshot());
        for other in others {
            write(&volume, &|batch| batch.put_split(other, b"", &[2; TABLE_SIZE]));
        }
        store.flush().unwrap();
        store.compact().unwrap();
        assert_eq!(volume.get(b"m").unwrap(), None, "{others:?}");
        for other in others {
            assert_eq!(volume.get(other).unwrap().unwrap().tail, vec![2; TABLE_SIZE], "{others:?}");
            assert_eq!(snapshot.as_ref().and_then(|s| s.get(other).unwrap()), None, "{others:?}");
        }
    }
}

#[test]
fn a_patch_that_fits_nothing_keeps_no_tombstone_at_the_bottom() {
    let (store, volume) = open(&sim(), Options { l0_compaction_trigger: 1, ..stepped() });
    let mut batch = Batch::new();
    batch.put_split(b"k", b"head", b"tail");
    volume.write(batch).unwrap();
    store.compact().unwrap();
    let mut batch = Batch::new();
    batch.delete(b"k");
    // It says that it lies over a tail of 5 bytes.
    batch.patch_split(b"k", b"head", 5, 5, &[]);
    volume.write(batch).unwrap();
    store.flush().unwrap();
    // A table with a tombstone that can go is rewritten.
    step_until_quiet(&store);
    assert!(matches!(volume.get(b"k"), Err(Error::BadPatch { .. })), "it is still known to be lost");
    let mut batch = Batch::new();
    batch.delete(b"k");
    volume.write(batch).unwrap();
    store.flush().unwrap();
    step_until_quiet(&store);
    assert_eq!(volume.get(b"k").unwrap(), None);
}

#[test]
fn a_store_that_compacts_at_no_tables_has_an_end_of_its_work() {
    let (store, volume) = open(&sim(), Options { l0_compaction_trigger: 0, ..stepped() });
    step_until_quiet(&store);
    let mut batch = Batch::new();
    batch.put(b"k", b"value");
    volume.write(batch).unwrap();
    store.flush().unwrap();
    step_until_quiet(&store);
    assert_eq!(volume.get(b"k").unwrap().unwrap().head, "value");
}
