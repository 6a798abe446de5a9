//! Holes, space and times on a real mount, as everyday programs meet them.

mod common;

use common::{Mount, Place, sh};
use rustix::fs::{AtFlags, CWD, FallocateFlags, SeekFrom, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

#[test]
fn du_tells_what_cp_and_fallocate_leave_stored() {
    let mount = Mount::new();
    // 256 KiB of data in pieces of 4 KiB, 12 KiB apart; the same with zeros written in between.
    let made = sh(
        &mount.dir(),
        "head -c 262144 /dev/urandom > dense
         split -b 4096 --filter='cat; head -c 12288 /dev/zero' dense > mixed
         cp --sparse=always mixed sparse; cp --sparse=never mixed never
         cp --sparse=auto sparse auto; cmp mixed sparse; cmp mixed never; cmp mixed auto
         du -B1 --apparent-size mixed sparse auto | cut -f1 | uniq
         du -B1 mixed sparse never auto | cut -f1 | uniq",
    );
    assert_eq!(made, "1048576\n262144\n");
    let look = "fallocate -d mixed; cmp mixed sparse; truncate -s 1G big; fallocate -l 64K auto
        fallocate -p -o 4096 -l 65536 dense; fallocate -z -o 1000 -l 100 dense; du -B1 dense big | cut -f1; stat -c %s big";
    let wanted = format!("{}\n0\n{}\n", 262144 - 65536, 1 << 30);
    assert_eq!(sh(&mount.dir(), look), wanted);
    mount.remount();
    assert_eq!(sh(&mount.dir(), "du -B1 dense big | cut -f1; stat -c %s big; cmp sparse never"), wanted);
}

#[test]
fn what_is_not_offered_is_refused() {
    let mount = Mount::new();
    let file = File::create(mount.dir().join("f")).unwrap();
    file.write_all_at(&[1; 70_000], 0).unwrap();
    for mode in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
        assert_eq!(rustix::fs::fallocate(&file, mode, 0, 4096), Err(Errno::OPNOTSUPP));
    }
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(70_000)), Err(Errno::NXIO));
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(0)), Ok(70_000));
    let overlapping = rustix::fs::copy_file_range(
        File::open(mount.dir().join("f")).unwrap(),
        Some(&mut 0),
        &file,
        Some(&mut 100),
        200,
    );
    assert_eq!(overlapping, Err(Errno::INVAL));
    let appending = File::options().append(true).open(mount.dir().join("f")).unwrap();
    let copied =
        rustix::fs::copy_file_range(File::open(mount.dir().join("f")).unwrap(), None, appending, None, 9);
    assert_eq!(copied, Err(Errno::BADF));
}

#[test]
fn what_was_mapped_or_cached_is_seen_by_copies_and_gone_with_holes() {
    let mount = Mount::new();
    let dir = mount.dir();
    let path = dir.join("f");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.write_all_at(&[7; 200_000], 0).unwrap();
    let mut read = vec![0; 200_000];
    file.read_exact_at(&mut read, 0).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 5000, 100_000).unwrap();
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read[5000..105_000].iter().all(|byte| *byte == 0));
    assert!(read[..5000].iter().chain(&read[105_000..]).all(|byte| *byte == 7));
    let other = File::options().read(true).write(true).create_new(true).open(dir.join("g")).unwrap();
    other.write_all_at(&[9; 250_000], 0).unwrap();
    let mut copied = vec![0; 250_000];
    other.read_exact_at(&mut copied, 0).unwrap();
    assert_eq!(rustix::fs::copy_file_range(&file, Some(&mut 0), &other, Some(&mut 10), 1 << 30), Ok(200_000));
    other.read_exact_at(&mut copied, 0).unwrap();
    assert!(copied[..10].iter().all(|byte| *byte == 9) && copied[10..200_010] == read);
    assert_eq!(other.metadata().unwrap().len(), 250_000);
}

#[test]
fn times_long_ago_and_far_ahead_are_kept() {
    let mount = Mount::new();
    let path = mount.dir().join("f");
    std::fs::write(&path, "x").unwrap();
    let set = |access: (i64, i64), change: (i64, i64)| {
        let [last_access, last_modification] =
            [access, change].map(|(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec });
        let times = Timestamps { last_access, last_modification };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty())
    };
    let get = |path: &Path| {
        let of = std::fs::metadata(path).unwrap();
        ((of.atime(), of.atime_nsec()), (of.mtime(), of.mtime_nsec()))
    };
    // 1901, a nanosecond before 1970, 2106, and the year 10889.
    for time in [(-2_177_452_800, 1), (-1, 999_999_999), (1 << 32, 123_456_789), (1 << 48, 7)] {
        set(time, (time.0, 5)).unwrap();
        assert_eq!(get(&path), (time, (time.0, 5)));
        mount.remount();
        assert_eq!(get(&path), (time, (time.0, 5)));
    }
    let ((old, _), (old_change, _)) = get(&path);
    set((0, UTIME_OMIT), (5, 5)).unwrap();
    assert_eq!(get(&path), ((old, 7), (5, 5)));
    set((0, UTIME_NOW), (0, UTIME_OMIT)).unwrap();
    assert!(get(&path).0.0 < old_change && get(&path).1 == (5, 5));
    assert_eq!(set((0, 1_000_000_000), (5, 5)), Err(Errno::INVAL));
}

#[test]
fn a_position_in_a_listing_stays_valid_whatever_comes_and_goes() {
    let mount = Mount::new();
    let dir = mount.dir().join("d");
    std::fs::create_dir(&dir).unwrap();
    let stays = |i: usize| format!("stays{i:04}");
    (0..3000).for_each(|i| drop(File::create(dir.join(stays(i))).unwrap()));
    // A position after each 100th name, as telldir gives it.
    let mut listing = rustix::fs::Dir::read_from(File::open(&dir).unwrap()).unwrap();
    let (mut places, mut names) = (Vec::new(), Vec::new());
    let mut count = 0;
    while let Some(entry) = listing.read() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_str().unwrap().to_string();
        if name.starts_with('.') {
            continue;
        }
        names.push(name);
        count += 1;
        if count % 100 == 0 {
            places.push((entry.offset(), count));
        }
        // Others come before and behind, and some of those go again.
        File::create(dir.join(format!("comes{count:04}"))).unwrap();
        File::create(dir.join(format!("zzz{count:04}"))).unwrap();
        if count > 50 {
            std::fs::remove_file(dir.join(format!("comes{:04}", count - 50))).unwrap();
        }
    }
    let staying = |names: &[String]| names.iter().filter(|name| name.starts_with("stays")).cloned().collect();
    let all: Vec<String> = staying(&names);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "a name was listed twice");
    assert_eq!(all.len(), 3000);
    // Back to each place: what followed it then follows it now.
    for (place, number) in places.into_iter().rev() {
        listing.seek(place).unwrap();
        let next: Vec<String> = (0..50)
            .map_while(|_| listing.read())
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_string())
            .collect();
        let then = &names[number..names.len().min(number + 50)];
        assert_eq!(staying(&next), staying(then), "after {number}");
    }
}

#[test]
fn reads_move_times_of_access_as_the_mount_was_told() {
    for (option, moves) in
        [("rw", [false, false]), ("relatime", [true, false]), ("strictatime", [true, true])]
    {
        let place = Place::new();
        place.mount(&[]).ok();
        let (file, dir) = (place.dir().join("f"), place.dir().join("d"));
        std::fs::write(&file, vec![1; 100_000]).unwrap();
        std::fs::create_dir(&dir).unwrap();
        let mut before = [&file, &dir].map(|path| std::fs::metadata(path).unwrap().accessed().unwrap());
        for moves in moves {
            // With a new mount the kernel knows nothing of the file, so that the read arrives.
            place.umount().ok();
            place.mount(&["-o", option]).ok();
            std::fs::read(&file).unwrap();
            std::fs::read_dir(&dir).unwrap().for_each(drop);
            let after = [&file, &dir].map(|path| std::fs::metadata(path).unwrap().accessed().unwrap());
            let moved = [after[0] > before[0], after[1] > before[1]];
            assert_eq!(moved, [moves; 2], "{option}");
            before = after;
        }
    }
}
