//! `.lsmfs`, the store's figures as files: found by name, not listed, not to be changed.

mod fs_common;

use fs_common::{Fixture, USER, contents, file, names, number, size};
use lsmfs::fs::control::NAME;
use lsmfs::fs::{Attr, FileKind, FileSystem, ROOT, RenameMode, SetAttr};

fn control(fs: &FileSystem) -> Attr {
    fs.lookup(ROOT, NAME).unwrap().unwrap()
}

fn look_up(fs: &FileSystem, name: &str) -> Attr {
    fs.lookup(control(fs).ino, name.as_bytes()).unwrap().unwrap()
}

#[test]
fn it_answers_by_name_and_is_not_listed() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    let dir = control(fs);
    assert_eq!((dir.kind, dir.mode, dir.nlink), (FileKind::Directory, 0o500, 2));
    assert_eq!(fs.getattr(dir.ino).unwrap(), dir);
    assert_eq!(control(fs), dir, "the directory is one");
    assert_eq!(names(fs, ROOT), [""; 0]);
    assert_eq!(names(fs, dir.ino), ["snapshots", "stats", "stats.json"]);
    assert_eq!(fs.lookup(dir.ino, b"nothing").unwrap(), None);
    let other = fs.mkdir(ROOT, b"dir", 0o755, USER).unwrap();
    assert_eq!(fs.lookup(other.ino, NAME).unwrap(), None, "only the root has it");
}

#[test]
fn a_rendering_fits_its_size_and_does_not_change() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    let attr = look_up(fs, "stats.json");
    assert_eq!((attr.kind, attr.mode, attr.nlink), (FileKind::File, 0o400, 1));
    let before = contents(fs, attr.ino);
    assert_eq!(before.len() as u64, attr.size);
    let writes = |bytes: &[u8]| {
        let json: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        json["writes"]["batches"].as_u64().unwrap()
    };
    file(fs, "new", b"contents");
    assert_eq!(contents(fs, attr.ino), before);
    let later = look_up(fs, "stats.json");
    assert_ne!(later.ino, attr.ino);
    assert!(writes(&contents(fs, later.ino)) > writes(&before));
    assert!(String::from_utf8(contents(fs, look_up(fs, "stats").ino)).unwrap().contains("volume main"));
}

#[test]
fn a_forgotten_rendering_is_gone() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    let attr = look_up(fs, "stats");
    fs.forget(attr.ino, 1);
    assert_eq!(number(fs.getattr(attr.ino)), libc::ESTALE);
    assert_eq!(number(fs.read(attr.ino, 0, 1)), libc::ESTALE);
    // The directory has one number for good.
    fs.forget(control(fs).ino, 1000);
    assert_eq!(fs.getattr(control(fs).ino).unwrap().ino, control(fs).ino);
    assert_eq!(fs.referenced(), 0);
}

#[test]
fn a_listing_counts_what_it_shows() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    let handle = fs.opendir(control(fs).ino).unwrap();
    let mut shown = Vec::new();
    // The second figure does not fit.
    fs.readdir_plus(&handle, 0, &mut |entry| {
        shown.push((entry.name.to_vec(), entry.ino));
        shown.len() == 5
    })
    .unwrap();
    let shown_names: Vec<&[u8]> = shown.iter().map(|(name, _)| name.as_slice()).collect();
    assert_eq!(shown_names, [&b"."[..], b"..", b"snapshots", b"stats", b"stats.json"]);
    assert_eq!((shown[0].1, shown[1].1), (control(fs).ino, ROOT));
    assert!(fs.getattr(shown[3].1).is_ok());
    assert_eq!(number(fs.getattr(shown[4].1)), libc::ESTALE);
    let mut rest = Vec::new();
    fs.readdir(&handle, 4, &mut |entry| {
        rest.push((entry.name.to_vec(), entry.ino));
        false
    })
    .unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].0, b"stats.json");
    assert_eq!(number(fs.getattr(rest[0].1)), libc::ESTALE, "a plain listing counts nothing");
}

#[test]
fn nothing_there_can_be_changed() {
    let fixture = Fixture::new();
    let fs = &fixture.fs;
    let (dir, figure) = (control(fs).ino, look_up(fs, "stats").ino);
    let plain = file(fs, "plain", b"x").ino;
    for (parent, name) in [(ROOT, NAME), (dir, b"new"), (dir, b"stats")] {
        let denied = [
            number(fs.create(parent, name, 0o644, USER)),
            number(fs.mkdir(parent, name, 0o755, USER)),
            number(fs.symlink(parent, name, b"target", USER)),
            number(fs.mknod(parent, name, FileKind::Fifo, 0o644, 0, USER)),
            number(fs.link(plain, parent, name)),
            number(fs.unlink(parent, name)),
            number(fs.rmdir(parent, name)),
            number(fs.rename(parent, name, ROOT, b"other", RenameMode::Replace)),
            number(fs.rename(ROOT, b"plain", parent, name, RenameMode::Replace)),
            number(fs.rename(ROOT, b"plain", parent, name, RenameMode::Exchange)),
        ];
        assert_eq!(denied, [libc::EPERM; 10], "{}", name.escape_ascii());
    }
    for ino in [dir, figure] {
        let mode = SetAttr { mode: Some(0o777), ..SetAttr::default() };
        let denied = [
            number(fs.write(ino, 0, b"x")),
            number(fs.setattr(ino, &size(0), USER)),
            number(fs.setattr(ino, &mode, USER)),
            number(fs.link(ino, ROOT, b"other")),
            number(fs.setxattr(ino, b"user.x", b"y", lsmfs::fs::XattrMode::Set, USER)),
        ];
        assert_eq!(denied, [libc::EPERM; 5]);
    }
    assert_eq!(number(fs.opendir(figure)), libc::ENOTDIR);
    assert_eq!(number(fs.read(dir, 0, 1)), libc::EISDIR);
    assert_eq!(number(fs.lookup(figure, b"x")), libc::ENOTDIR);
    assert_eq!(names(fs, ROOT), ["plain"]);
    assert_eq!(contents(fs, plain), b"x");
}
