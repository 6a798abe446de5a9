//! Openings of a store that was left in a bad way.

mod engine_common;

use engine_common::{files, open, sim, stepped, try_put};
use lsmfs::disk::Disk;
use lsmfs::lsm::{Error, Store};

#[test]
fn a_table_that_is_missing_or_cut_is_noticed_at_the_open() {
    let disk = sim();
    let (store, volume) = open(&disk, stepped());
    try_put(&volume, b"a", b"v").unwrap();
    store.close().unwrap();
    let table = files(&disk, ".sst")[0].clone();
    let whole = disk.read_file(&table).unwrap();
    for found in [None, Some(&whole[1..]), Some(&[&whole[..], b"more"].concat())] {
        match found {
            Some(found) => disk.write_file(&table, found).unwrap(),
            None => disk.delete(&table).unwrap(),
        }
        let refused = Store::open(disk.clone(), stepped()).unwrap_err();
        assert!(matches!(&refused, Error::Corruption { file, .. } if *file == table), "{refused}");
    }
}
