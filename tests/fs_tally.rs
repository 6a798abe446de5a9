//! What a volume holds, as it is counted, and quotas: what counts, what is refused, and that a crash anywhere
//! leaves a tally that is the sum over the records that are left.

mod fs_common;

use fs_common::{Fixture, USER, file, number, size, stepped};
use lsmfs::disk::sim::SimDisk;
use lsmfs::fs::tally::recount;
use lsmfs::fs::{Allocate, Attr, Caller, FileSystem, FsOptions, Host, ROOT, RenameMode, Result, XattrMode};
use lsmfs::lsm::{Options, Quota, Store, Tally, Volume};
use std::sync::Arc;

const ADMIN: Caller = Caller { uid: 0, gid: 0, umask: 0 };

fn volume(f: &Fixture) -> Arc<Volume> {
    f.store.volume("main").unwrap()
}

fn tally(f: &Fixture) -> (i64, i64) {
    let tally = volume(f).tally().unwrap();
    assert_eq!(tally, recount(&volume(f)).unwrap());
    (tally.files, tally.bytes)
}

fn set_quota(f: &Fixture, files: Option<u64>, bytes: Option<u64>) {
    f.store.set_quota(&volume(f), Quota { files, bytes }).unwrap();
}

#[test]
fn files_count_as_inodes_and_bytes_as_what_is_stored() {
    let f = Fixture::new();
    assert_eq!(tally(&f), (1, 0), "the root");
    let small = file(&f.fs, "small", &[1; 1000]);
    assert_eq!(tally(&f), (2, 1024));
    f.fs.link(small.ino, ROOT, b"again").unwrap();
    assert_eq!(tally(&f), (2, 1024), "another name of it");
    let dir = f.fs.mkdir(ROOT, b"dir", 0o755, USER).unwrap();
    f.fs.symlink(dir.ino, b"symlink", b"target", USER).unwrap();
    assert_eq!(tally(&f), (4, 1536));
    let sparse = file(&f.fs, "sparse", b"");
    f.fs.setattr(sparse.ino, &size(1 << 40), USER).unwrap();
    assert_eq!(tally(&f), (5, 1536), "a hole");
    f.fs.write(sparse.ino, 1 << 30, &[1; 5000]).unwrap();
    assert_eq!(tally(&f), (5, 1536 + 2 * 4096));
    f.fs.allocate(sparse.ino, 1 << 30, 4096, Allocate::PunchHole, true, USER).unwrap();
    assert_eq!(tally(&f), (5, 1536 + 4096));
    f.fs.setxattr(sparse.ino, b"user.a", &[0; 100], XattrMode::Set, USER).unwrap();
    f.fs.setxattr(sparse.ino, b"user.a", &[0; 50], XattrMode::Set, USER).unwrap();
    assert_eq!(tally(&f), (5, 1536 + 4096 + 56));
    f.fs.setattr(sparse.ino, &size(0), USER).unwrap();
    assert_eq!(tally(&f), (5, 1536 + 56));
    f.fs.unlink(ROOT, b"small").unwrap();
    f.fs.rename(ROOT, b"again", ROOT, b"sparse", RenameMode::Replace).unwrap();
    f.fs.forget(sparse.ino, 1);
    assert_eq!(tally(&f), (4, 1536));
    let attr = f.fs.getattr(small.ino).unwrap();
    assert_eq!((attr.nlink, attr.blocks), (1, 2));
}

#[test]
fn an_unlinked_file_counts_until_the_store_has_nothing_more_of_it() {
    let mut f = Fixture::new();
    let large = file(&f.fs, "large", &[1; 10_000]);
    let small = file(&f.fs, "small", &[1; 10]);
    let noted = file(&f.fs, "noted", b"");
    f.fs.setxattr(noted.ino, b"user.a", b"1234", XattrMode::Set, USER).unwrap();
    let [p3, x] = [3 * 4096, 10];
    assert_eq!(tally(&f), (4, p3 + 512 + x));
    for name in [&b"large"[..], b"small", b"noted"] {
        f.fs.unlink(ROOT, name).unwrap();
    }
    assert_eq!(tally(&f), (3, p3 + x), "what is small is in memory only");
    f.fs.write(small.ino, 0, &[1; 5000]).unwrap();
    assert_eq!(tally(&f), (4, p3 + 2 * 4096 + x));
    f.fs.setattr(small.ino, &size(0), USER).unwrap();
    f.fs.write(large.ino, 100_000, &[1; 100]).unwrap();
    assert_eq!(tally(&f), (3, p3 + 4096 + x));
    f.fs.removexattr(noted.ino, b"user.a").unwrap();
    f.fs.setxattr(large.ino, b"user.b", b"1234", XattrMode::Set, USER).unwrap();
    assert_eq!(tally(&f), (2, p3 + 4096 + x));
    f.fs.forget(small.ino, 1);
    f.fs.forget(noted.ino, 1);
    assert_eq!(tally(&f), (2, p3 + 4096 + x));
    f.kill();
    assert_eq!(tally(&f), (1, 0), "the next open gives it back");
}

#[test]
fn what_would_pass_the_quota_is_refused_and_leaves_all_as_it_was() {
    let f = Fixture::new();
    let (kept, other) = (file(&f.fs, "kept", &[1; 8192]), file(&f.fs, "other", b"x"));
    let dir = f.fs.mkdir(ROOT, b"dir", 0o755, USER).unwrap();
    set_quota(&f, Some(5), Some(20_480 + 512));
    let full = |result: Result<Attr>| assert_eq!(number(result), libc::EDQUOT);
    let write = |ino, offset, len| f.fs.write(ino, offset, &vec![2; len]).map(|_| f.fs.getattr(ino).unwrap());
    full(write(kept.ino, 8192, 12_289));
    assert_eq!(f.fs.getattr(kept.ino).unwrap(), kept, "nothing of it was written");
    full(write(other.ino, 0, 65_536));
    full(f.fs.allocate(kept.ino, 0, 30_000, Allocate::Reserve, false, ADMIN).map(|()| kept));
    assert_eq!(number(f.fs.setxattr(dir.ino, b"user.a", &[0; 30_000], XattrMode::Set, USER)), libc::EDQUOT);
    write(kept.ino, 8192, 12_288).unwrap();
    assert_eq!(tally(&f), (4, 20_480 + 512));
    // In place, and as a hole.
    write(kept.ino, 100, 20_000).unwrap();
    write(other.ino, 0, 500).unwrap();
    f.fs.setattr(kept.ino, &size(1 << 30), USER).unwrap();
    full(write(kept.ino, 1 << 29, 1));
    f.fs.rename(ROOT, b"other", dir.ino, b"moved", RenameMode::Replace).unwrap();
    f.fs.link(kept.ino, dir.ino, b"linked").unwrap();
    // Files.
    f.fs.symlink(ROOT, b"fifth", b"t", USER).unwrap_err();
    f.fs.create(ROOT, b"fifth", 0o644, USER).unwrap();
    full(f.fs.create(ROOT, b"sixth", 0o644, USER));
    full(f.fs.mkdir(ROOT, b"sixth", 0o755, USER));
    assert_eq!(f.fs.lookup(ROOT, b"sixth").unwrap(), None);
    // Shrinking and removing make room.
    f.fs.unlink(ROOT, b"fifth").unwrap();
    f.fs.setattr(kept.ino, &size(4096), USER).unwrap();
    f.fs.create(ROOT, b"sixth", 0o644, USER).unwrap();
    write(other.ino, 0, 16_384).unwrap();
    set_quota(&f, None, None);
    write(kept.ino, 0, 1 << 20).unwrap();
    f.fs.mkdir(ROOT, b"seventh", 0o755, USER).unwrap();
}

#[test]
fn a_quota_is_the_size_that_is_shown() {
    let f = Fixture::new();
    let disk = f.fs.statfs().unwrap();
    file(&f.fs, "f", &[1; 8192]);
    set_quota(&f, None, Some(1 << 20));
    let shown = f.fs.statfs().unwrap();
    assert_eq!((shown.blocks, shown.free, shown.available), (256, 254, 254));
    assert_eq!(shown.files, disk.files);
    set_quota(&f, Some(10), Some(1 << 60));
    let shown = f.fs.statfs().unwrap();
    assert_eq!((shown.files, shown.files_free), (10, 8));
    assert_eq!(shown.free, (1 << 48) - 2);
    assert!(shown.available <= disk.blocks, "no more than the disk has");
    set_quota(&f, Some(1), Some(1));
    let shown = f.fs.statfs().unwrap();
    assert_eq!((shown.blocks, shown.free, shown.available, shown.files_free), (0, 0, 0, 0));
}

/// Everything that changes tallies, with forks, snapshots and restores between; ends where the disk crashes.
fn work(disk: &Arc<SimDisk>, options: &Options) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(Store::open(disk.clone(), options.clone())?);
    let open = |name: &str| FileSystem::open(store.clone(), name, FsOptions::default());
    let fs = open("main")?;
    fs.create_whole(ROOT, b"small", 0o644, &[1; 900], USER)?;
    let dir = fs.mkdir(ROOT, b"dir", 0o755, USER)?;
    let file = fs.create(dir.ino, b"file", 0o644, USER)?;
    fs.write(file.ino, 0, &[1; 9000])?;
    fs.setxattr(file.ino, b"user.a", &[1; 300], XattrMode::Set, USER)?;
    fs.write(file.ino, 70_000, &[1; 3000])?;
    fs.link(file.ino, ROOT, b"linked")?;
    let main = store.volume("main")?;
    store.set_quota(&main, Quota { files: Some(10), bytes: None })?;
    store.create_snapshot(&main, "s")?;
    fs.unlink(dir.ino, b"file")?;
    fs.unlink(ROOT, b"linked")?;
    let fork = store.fork(&main, "fork")?;
    fs.write(file.ino, 200_000, &[1; 6000])?;
    fs.removexattr(file.ino, b"user.a")?;
    while store.step()? {}
    fs.forget(file.ino, u64::MAX >> 4);
    let forked = open("fork")?;
    forked.create_whole(ROOT, b"more", 0o644, &[1; 4000], USER)?;
    store.flush()?;
    store.create_snapshot(&fork, "t")?;
    forked.unlink(ROOT, b"small")?;
    forked.close()?;
    store.compact()?;
    fs.close()?;
    let main = Host::new(store.clone(), FsOptions::default()).restore("main", "s")?;
    store.set_quota(&main, Quota { files: None, bytes: Some(1 << 30) })?;
    let fs = open("main")?;
    let file = fs.lookup(ROOT, b"linked")?.unwrap();
    fs.setattr(file.ino, &size(5000), USER)?;
    store.delete_volume("fork")?;
    fs.close()?;
    store.close()?;
    Ok(())
}

/// Each tally is the sum over the records. Says how many there are.
fn check_tallies(store: &Store, context: &str) -> usize {
    let mut volumes = store.volumes().unwrap();
    let snapshots: Vec<_> = volumes.iter().flat_map(|volume| store.snapshots(volume).unwrap()).collect();
    volumes.extend(snapshots);
    for volume in &volumes {
        let held = recount(volume).unwrap();
        assert_eq!(volume.tally(), Some(held), "{context}: {}", volume.name());
    }
    volumes.len()
}

#[test]
fn a_crash_anywhere_leaves_a_tally_that_is_the_sum_over_the_records() {
    let options = Options { memtable_size: 2000, log_segment_size: 8000, ..stepped() };
    let disk = Arc::new(SimDisk::new(3));
    work(&disk, &options).unwrap();
    let (changes, mut most) = (disk.ops().changes(), 0);
    for at in 1..=changes {
        let disk = Arc::new(SimDisk::new(3));
        disk.crash_at_op(at);
        work(&disk, &options).unwrap_err();
        for (disk, how) in [(disk.crash(), "cut off"), (disk.crash_keep_all(), "killed")] {
            let context = format!("{how} at operation {at}");
            let store = Arc::new(Store::open(Arc::new(disk), options.clone()).unwrap());
            most = most.max(check_tallies(&store, &context));
            // And after what was unlinked and open is given back.
            let fs = FileSystem::open(store.clone(), "main", FsOptions::default()).unwrap();
            check_tallies(&store, &context);
            fs.close().unwrap();
            store.flush().unwrap();
            check_tallies(&store, &context);
            let main = store.volume("main").unwrap();
            assert_eq!(lsmfs::fs::check::check(&main, &mut || ()).unwrap().findings, [], "{context}");
            assert!(main.tally().unwrap() != Tally::default());
        }
    }
    assert_eq!(most, 4);
}
