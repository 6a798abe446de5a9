//! Imports and exports by the command line, held against what `cp -a` and GNU tar make of the same trees.

mod common;

use common::{Mount, Place, lsmfs, lsmfs_fed, sh};
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

/// A tree with everything that a file can be.
fn make_tree(at: &Path) {
    fs::create_dir(at).unwrap();
    let script = r#"
        mkdir -p deep/a/b/c empty many
        printf x >"$(printf 'tab\tnewline\nbyte\377')"
        : >zero
        seq 100000 >large
        head -c 3000 /dev/urandom >small
        for n in $(seq 300); do echo $n >many/$n; done
        ln small linked
        ln large deep/a/b/c/linked
        ln -s ../zero deep/link
        ln -s nowhere dangling
        ln dangling dangling-too
        mkfifo fifo
        truncate -s 50M sparse
        printf middle | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
        truncate -s 200M holes
        long=$(printf '%0200d' 0)
        mkdir -p $long/$long
        echo long >$long/$long/file
        ln $long/$long/file $long/linked
        chmod 4751 zero
        chmod 3770 empty
        chmod 000 small
        touch -d '2001-02-03 04:05:06.789012345' large deep
        touch -d '1960-01-02 03:04:05.25' small
        touch -d '2100-01-02 03:04:05' zero
        touch -h -d '1999-12-31 23:59:59.5' dangling fifo deep/link
        chmod 1735 .
        touch -d '2010-10-10 10:10:10.000000001' many .
    "#;
    sh(at, script);
    let set = |name: &str, attribute: &str, value: &[u8]| {
        lsetxattr(at.join(name), attribute, value, XattrFlags::empty()).unwrap();
    };
    set("large", "user.a", b"a value\n=\0\xff");
    set("large", "user.empty", b"");
    set("deep", "user.dir", &[b'\n'; 2000]);
    if rustix::process::geteuid().is_root() {
        sh(
            at,
            "mknod device c 1 3; mknod block b 7 200; chown -h 1234:4321 zero dangling empty; chown 70000000 large",
        );
        set("dangling", "trusted.of-a-link", b"t");
        // user::rw- user:1000:r-- group::r-- mask::r-- other::---
        let entries =
            [(1u16, 6u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
        let mut list = 2u32.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            list.extend(tag.to_le_bytes().into_iter().chain(perm.to_le_bytes()).chain(id.to_le_bytes()));
        }
        set("many/7", "system.posix_acl_access", &list);
        set("deep/a", "system.posix_acl_default", &list);
        sh(at, "touch -d '2010-10-10 10:10:10.5' deep/a large zero");
    }
}

/// All that is to be seen of a tree, by path.
fn describe(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut paths = vec![root.to_path_buf()];
    while let Some(path) = paths.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let kind = stat.file_type();
        let below = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let mut contents = String::new();
        if kind.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if kind.is_symlink() {
            contents = format!("{:?}", fs::read_link(&path).unwrap());
        } else if kind.is_file() && stat.len() < 10_000_000 {
            contents = fs::read(&path).unwrap().escape_ascii().to_string();
        }
        let rdev = if kind.is_char_device() || kind.is_block_device() { stat.rdev() } else { 0 };
        let size = if kind.is_file() { stat.len() } else { 0 };
        let mut names = vec![0; 1 << 16];
        let len = llistxattr(&path, &mut names).unwrap();
        let mut attributes: Vec<String> = Vec::new();
        for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; 1 << 16];
            let len = lgetxattr(&path, name, &mut value).unwrap();
            attributes.push(format!("{}={}", name.escape_ascii(), value[..len].escape_ascii()));
        }
        attributes.sort();
        // Names of one file have the same number, the first by order of paths.
        let group: &mut Vec<Vec<u8>> = inodes.entry((stat.dev(), stat.ino())).or_default();
        group.push(below.clone());
        let line = format!(
            "{kind:?} {:o} {} {} {} {size} {rdev} {}.{} {attributes:?} {contents}",
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.nlink(),
            stat.mtime(),
            stat.mtime_nsec(),
        );
        found.insert(below, line);
    }
    for group in inodes.into_values().filter(|group| group.len() > 1) {
        let mut group = group;
        group.sort();
        let group =
            format!("{:?}", group.iter().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>());
        found.insert([b"links of ", group.as_bytes()].concat(), String::new());
    }
    found
}

#[track_caller]
fn assert_same(wanted: &BTreeMap<Vec<u8>, String>, found: &Path) {
    let found = describe(found);
    for (path, line) in wanted {
        let other = found.get(path).map_or("missing", String::as_str);
        let short = |text: &str| text.chars().take(300).collect::<String>();
        assert!(line == other, "{}:\n  {}\n  {}", path.escape_ascii(), short(line), short(other));
    }
    let more: Vec<_> = found.keys().filter(|path| !wanted.contains_key(*path)).collect();
    assert!(
        more.is_empty(),
        "{:?}",
        more.iter().map(|path| path.escape_ascii().to_string()).collect::<Vec<_>>()
    );
}

#[test]
fn a_directory_comes_in_as_cp_would_copy_it_and_goes_out_again() {
    let place = Place::new();
    let tree = place.join("tree");
    make_tree(&tree);
    let wanted = describe(&tree);
    let said = place.lsmfs("import", &[tree.to_str().unwrap()]).ok();
    assert!(said.contains(" files, ") && said.contains(" directories"), "{said}");
    place.lsmfs("import", &[tree.to_str().unwrap(), "--at", "in/a/directory"]).ok();
    place.lsmfs("check", &[]).ok();
    place.mount(&[]).ok();
    assert_same(&wanted, &place.dir().join("in/a/directory"));
    // The root of the volume is as the tree's, but for what was added to it.
    let root = fs::metadata(place.dir()).unwrap();
    assert_eq!(root.mode() & 0o7777, 0o1735);
    sh(&place.dir(), "[ $(du -k sparse | cut -f1) -le 128 ]; rm -r in");
    assert_eq!(fs::read(place.dir().join("many/300")).unwrap(), b"300\n");
    place.umount().ok();

    // GNU tar reads what is exported.
    place.lsmfs("export", &[place.join("out.tar").to_str().unwrap()]).ok();
    let extract = "tar --xattrs --xattrs-include='*' --acls --numeric-owner -C $1 -xpf out.tar";
    fs::create_dir(place.join("out")).unwrap();
    sh(&place.join(""), &extract.replace("$1", "out"));
    let mut wanted = wanted;
    let line = wanted.remove(&b""[..]).unwrap();
    let found = describe(&place.join("out"))[&b""[..]].clone();
    // Something was added to the root and removed.
    assert_eq!(line.split(' ').next(), found.split(' ').next());
    let out = place.join("out");
    let mut found = describe(&out);
    found.remove(&b""[..]);
    for (path, line) in &wanted {
        let short = |text: &str| text.chars().take(300).collect::<String>();
        let other = found.get(path).map_or("missing", String::as_str);
        assert!(line == other, "{}:\n  {}\n  {}", path.escape_ascii(), short(line), short(other));
    }
    assert_eq!(found.len(), wanted.len());
    sh(
        &place.join(""),
        "[ $(du -k out/sparse | cut -f1) -le 128 ]; tar tf out.tar >list; [ $(wc -l <list) -gt 300 ]",
    );
}

#[test]
fn gnu_tars_archives_come_in_whole_into_a_mounted_store() {
    let mount = Mount::new();
    let place = &mount.place;
    let tree = place.join("tree");
    make_tree(&tree);
    let wanted = describe(&tree);
    let all = "--xattrs --xattrs-include=* --acls --sparse --numeric-owner -C tree -c .";
    for (at, script) in [
        ("posix", format!("tar --format=posix {all}")),
        ("posix-gzip", format!("tar --format=posix {all} | gzip -1")),
        ("posix-zstd", format!("tar --format=posix {all} | zstd -q")),
        ("sparse-0.0", format!("tar --format=posix --sparse-version=0.0 {all}")),
        ("sparse-0.1", format!("tar --format=posix --sparse-version=0.1 {all}")),
    ] {
        sh(&place.join(""), &format!("{script} >{at}.tar"));
        place.lsmfs("import", &[place.join(&format!("{at}.tar")).to_str().unwrap(), "--at", at]).ok();
        assert_same(&wanted, &mount.dir().join(at));
    }
    // What other formats cannot say: attributes, fractions of seconds, times before 1970.
    let script = "
        rm -f small linked; chmod 640 many/7
        find . -exec touch -h -d '2020-02-02 02:02:02' {} +
    ";
    sh(&tree, script);
    for name in ["large", "deep", "dangling", "many/7", "deep/a"] {
        let mut names = vec![0; 1 << 16];
        let len = llistxattr(tree.join(name), &mut names).unwrap();
        for attribute in names[..len].split(|byte| *byte == 0).filter(|attribute| !attribute.is_empty()) {
            rustix::fs::lremovexattr(tree.join(name), attribute).unwrap();
        }
    }
    sh(&tree, "chmod 640 many/7; find . -exec touch -h -d '2020-02-02 02:02:02' {} +");
    let wanted = describe(&tree);
    for (at, script) in [
        ("gnu", "tar --format=gnu --sparse --numeric-owner -C tree -c ."),
        ("oldgnu", "tar --format=oldgnu --sparse --numeric-owner -C tree -c ."),
        ("gnu-whole", "tar --exclude=./holes --format=gnu --numeric-owner -C tree -c ."),
    ] {
        sh(&place.join(""), &format!("{script} >{at}.tar"));
        let archive = fs::read(place.join(&format!("{at}.tar"))).unwrap();
        let store = place.store();
        let words =
            [OsStr::new("import"), store.as_os_str(), OsStr::new("-"), OsStr::new("--at"), OsStr::new(at)];
        lsmfs_fed(words, &archive).ok();
        let mut wanted = wanted.clone();
        if at == "gnu-whole" {
            wanted.remove(&b"holes"[..]);
        }
        assert_same(&wanted, &mount.dir().join(at));
    }
    for format in ["v7", "ustar"] {
        fs::remove_dir_all(place.join("plain")).ok();
        sh(
            &place.join(""),
            "mkdir -p plain/a/b; echo 1 >plain/a/b/c; ln plain/a/b/c plain/hard; ln -s a plain/link",
        );
        sh(&place.join("plain"), "find . -exec touch -h -d '2020-02-02 02:02:02' {} +");
        sh(&place.join(""), &format!("tar --format={format} --numeric-owner -C plain -cf {format}.tar ."));
        place.lsmfs("import", &[place.join(&format!("{format}.tar")).to_str().unwrap(), "--at", format]).ok();
        assert_same(&describe(&place.join("plain")), &mount.dir().join(format));
    }
    mount.remount();
    assert_same(&wanted, &mount.dir().join("oldgnu"));
}

#[test]
fn df_and_quota_tell_what_du_counts_of_an_import_and_one_that_does_not_fit_is_refused() {
    let mount = Mount::new();
    let place = &mount.place;
    fs::create_dir(place.join("tree")).unwrap();
    let script = "for n in $(seq 200); do mkdir -p d$((n % 7)); seq $((n * 20)) >d$((n % 7))/$n; done; ln d1/8 d1/again";
    sh(&place.join("tree"), script);
    let import = |at: &str| place.lsmfs("import", &[place.join("tree").to_str().unwrap(), "--at", at]);
    import("in").ok();
    let count = |script: &str| -> u64 { sh(&mount.dir(), script).trim().parse().unwrap() };
    let (files, bytes) =
        (count("find . -printf '%i\\n' | sort -u | wc -l"), count("du -s --block-size=1 . | cut -f1"));
    let quota = |words: &[&str]| {
        let store = place.store();
        lsmfs([&["quota", words[0], store.to_str().unwrap(), "main"], &words[1..]].concat())
    };
    let shown: serde_json::Value = serde_json::from_str(&quota(&["show", "--json"]).ok()).unwrap();
    assert_eq!((&shown[0]["files"], &shown[0]["logical_bytes"]), (&files.into(), &bytes.into()), "{shown}");
    // One file less than it takes once more (there is one root).
    let limits = [(2 * files - 2).to_string(), (2 * bytes).to_string()];
    quota(&["set", "--files", &limits[0], "--bytes", &limits[1]]).ok();
    let left = || {
        (count("df --output=iavail . | tail -1"), count("df --output=avail --block-size=4096 . | tail -1"))
    };
    let before = left();
    assert_eq!(before, (files - 2, bytes / 4096));
    import("again").fails(1, &["quota"]);
    assert!(!mount.dir().join("again").exists());
    assert_eq!(left(), before);
    quota(&["set", "--files", "none"]).ok();
    import("again").ok();
    assert_eq!(left().1, 0);
    place.umount().ok();
    place.lsmfs("check", &[]).ok();
}

#[test]
fn an_import_that_fails_says_why_and_leaves_nothing() {
    let place = Place::new();
    place.lsmfs("put", &["a", "--value", "1"]).ok();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("a"), "2").unwrap();
    fs::write(tree.join("b"), vec![b'b'; 3_000_000]).unwrap();
    symlink("/", tree.join("c")).unwrap();
    place.lsmfs("import", &[tree.to_str().unwrap()]).fails(1, &["a exists already"]);
    place.lsmfs("import", &["no such directory"]).fails(1, &["no such directory"]);
    place.lsmfs("import", &[tree.join("b").to_str().unwrap()]).fails(1, &["no tar archive"]);
    sh(&place.join(""), "tar -C tree -cf whole.tar .; xz -k whole.tar; head -c 1000000 whole.tar >cut.tar");
    place
        .lsmfs("import", &[place.join("whole.tar.xz").to_str().unwrap()])
        .fails(1, &["xz", "unpack it first"]);
    place.lsmfs("import", &[place.join("cut.tar").to_str().unwrap(), "--at", "d"]).fails(1, &["cut short"]);
    place.lsmfs("import", &[tree.to_str().unwrap(), "--at", "a/b"]).fails(1, &["not a directory"]);
    place.lsmfs("export", &["--at", "none"]).fails(1, &["none", "no such file"]);
    assert_eq!(place.lsmfs("scan", &[]).ok(), "a\t1\n");
    place.lsmfs("check", &[]).ok();
    place.lsmfs("import", &[tree.to_str().unwrap(), "--at", "d"]).ok();
    assert_eq!(place.lsmfs("scan", &["--keys"]).ok(), "a\nd/a\nd/b\n");
    place.lsmfs("export", &["--at", "d/a", place.join("a.tar").to_str().unwrap()]).ok();
    assert_eq!(sh(&place.join(""), "tar xOf a.tar"), "2");
}

#[test]
fn an_export_that_fails_leaves_what_was_there_and_a_device_is_written_to() {
    let place = Place::new();
    place.lsmfs("put", &["a", "--value", "1"]).ok();
    let out = place.join("out.tar");
    let to = out.to_str().unwrap();
    fs::write(&out, "an older archive").unwrap();
    place.lsmfs("export", &["--volume", "none", to]).fails(1, &["none"]);
    place.lsmfs("export", &["--at", "missing", to]).fails(1, &["missing", "no such file"]);
    assert_eq!(fs::read(&out).unwrap(), b"an older archive");
    place.lsmfs("export", &[place.join("none/out.tar").to_str().unwrap()]).fails(1, &["none/out.tar"]);
    // Through a link, as a shell's redirection writes; with the modes of what it replaces.
    sh(&place.join(""), "chmod 600 out.tar; ln -s out.tar link.tar");
    place.lsmfs("export", &[place.join("link.tar").to_str().unwrap()]).ok();
    assert_eq!(
        sh(&place.join(""), "tar xOf out.tar ./a; stat -c %a out.tar; readlink link.tar"),
        "1600\nout.tar\n"
    );
    let left = sh(&place.join(""), "ls -A");
    assert_eq!(left, "link.tar\nout.tar\nstore\n");
    // What is no file is neither replaced nor removed.
    sh(&place.join(""), "mkfifo pipe");
    let pipe = place.join("pipe");
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    place.lsmfs("export", &[pipe.to_str().unwrap()]).ok();
    assert_eq!(reader.join().unwrap(), fs::read(&out).unwrap());
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    if rustix::process::geteuid().is_root() {
        sh(&place.join(""), "mknod null c 1 3");
        let null = place.join("null");
        place.lsmfs("export", &[null.to_str().unwrap()]).ok();
        place.lsmfs("export", &["--at", "missing", null.to_str().unwrap()]).fails(1, &["missing"]);
        assert!(fs::symlink_metadata(&null).unwrap().file_type().is_char_device());
    }
}

#[test]
fn a_tree_may_be_deeper_than_files_may_be_open_at_first() {
    let place = Place::new();
    let script = "mkdir tree; cd tree; for n in $(seq 300); do mkdir d; cd d; done; echo deep >file";
    sh(&place.join(""), script);
    let import = format!("ulimit -Sn 256; {} import store tree", common::LSMFS);
    assert_eq!(sh(&place.join(""), &import), "1 files, 301 directories\n");
    assert_eq!(place.lsmfs("get", &[&format!("{}file", "d/".repeat(300))]).ok(), "deep\n");
}
