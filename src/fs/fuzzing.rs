//! What fuzzing puts into the decoders of files and directories (see [`crate::fuzzing`]).

use crate::fs::acl::Acl;
use crate::fs::archive::{ArchiveError, Reader, acl_text};
use crate::fs::attr::INO_LIMIT;
use crate::fs::entry::{
    Entry, ParentRecord, Record, decode_counter, decode_page_map, decode_parent, encode_counter,
    encode_page_map, encode_parent,
};
use crate::fs::keys;
use crate::fs::mount::options::MountOptions;
use crate::fs::mount::table;
use crate::fs::tree::TreePath;
use crate::fuzzing::Target;

pub(crate) const TARGETS: &[(&str, Target)] = &[
    ("record", record),
    ("key", key),
    ("acl", acl),
    ("archive", archive),
    ("path", path),
    ("mount_options", mount_options),
    ("mount_table", mount_table),
];

/// Each sort of record; what decodes encodes to the same bytes.
fn record(input: &[u8]) {
    if let Ok(record) = Record::decode(input) {
        assert_eq!(record.encode()[..], *input);
        assert!(record.blocks() <= record.size.div_ceil(4096) * 8);
        let _ = (record.has_more(), record.is_full());
    }
    match Entry::decode(input) {
        Ok(Entry::File(record)) => assert_eq!(record.encode()[..], *input),
        Ok(Entry::Link(ino)) => assert!(ino > 0 && ino < INO_LIMIT),
        Err(what) => assert!(!what.is_empty()),
    }
    if let Ok(pages) = decode_page_map(input) {
        assert_eq!(encode_page_map(pages)[..], *input);
    }
    if let Ok(ParentRecord { parent, name }) = decode_parent(input) {
        assert_eq!(encode_parent(parent, &name), input);
    }
    if let Ok(number) = decode_counter(input) {
        assert_eq!(encode_counter(number)[..], *input);
    }
}

/// Keys, taken apart and shown.
fn key(input: &[u8]) {
    let text = keys::readable(input);
    assert!(!text.contains('\n'));
    if let Some(ino) = keys::orphan_ino(input).filter(|_| input[0] == b'o') {
        assert_eq!(keys::orphan(ino)[..], *input);
    }
    let _ = (keys::entry_name(input), keys::xattr_name(input), keys::split_inode_name(input));
    if let (Some(ino), Some(chunk)) = (keys::ino_of(input), keys::chunk_number(input)) {
        assert!(input.first() != Some(&b'd') || keys::chunk(ino, chunk)[..] == *input);
    }
    let _ = keys::page_map_number(input);
}

/// Access control lists, as programs set them.
fn acl(input: &[u8]) {
    let Some(Some(mut acl)) = Acl::decode(input) else { return };
    assert_eq!(Acl::decode(&acl.encode()), Some(Some(acl.clone())));
    let mode = u32::from(input[0]) << 1;
    let shown = acl.show_in(mode);
    acl.follow(shown);
    assert_eq!(acl.show_in(mode), shown, "a mode that is followed is shown again");
    let granted = acl.inherit(mode);
    assert_eq!(granted & !shown & 0o777, 0, "nobody is granted more");
}

/// A tar archive; lists of permissions as text.
fn archive(input: &[u8]) {
    let mut reader = Reader::new(input);
    while let Ok(Some(member)) = reader.next_member() {
        let mut end = 0;
        let copied = reader.contents(|at, bytes| {
            assert!(at >= end, "in order");
            end = at + bytes.len() as u64;
            Ok::<(), ArchiveError>(())
        });
        assert!(copied.is_err() || end <= member.size);
    }
    if let Some(list) = acl_text::parse(input) {
        let text = acl_text::render(&list).expect("a list that was read");
        assert_eq!(acl_text::parse(text.as_bytes()), Some(list));
    }
}

/// A path of the command line.
fn path(input: &[u8]) {
    let Ok(path) = TreePath::parse(input) else { return };
    assert_eq!(TreePath::parse(&path.to_bytes()).expect("what is printed can be given"), path);
    assert!(path.is_within(&TreePath::default()) && path.join(b"x").is_within(&path));
    assert!(path.to_bytes().split(|byte| *byte == b'/').all(|name| name != b".."));
}

/// The lists after `-o`.
fn mount_options(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match MountOptions::parse(&[text.to_owned()]) {
        Ok(options) => _ = (options.read_only(), options.access_times()),
        Err(error) => assert!(text.split(',').any(|word| word == error.option)),
    }
}

/// The kernel's table of mounts: any user may choose a mount point's name.
fn mount_table(input: &[u8]) {
    let lines = input.split(|byte| *byte == b'\n').count();
    assert!(table::parse(input).len() <= lines);
}

/// Seeds that real structures make.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    use crate::fs::attr::{FileKind, Timestamp};
    use crate::fs::entry::encode_link;
    let time = Timestamp { secs: 1_700_000_000, nanos: 5 };
    let record = Record {
        kind: FileKind::File,
        mode: 0o644,
        has_xattrs: true,
        inline_len: 0,
        ino: 77,
        uid: 1000,
        gid: 1000,
        nlink: 1,
        rdev: 0,
        size: 70_000,
        pages: 17,
        atime: time,
        mtime: time,
        ctime: time,
    };
    vec![
        ("record", "file", record.encode().to_vec()),
        ("record", "link", encode_link(&record).to_vec()),
        ("record", "pages", encode_page_map(0xf0f0).to_vec()),
        ("record", "parent", encode_parent(3, b"name")),
        ("record", "counter", encode_counter(1 << 33).to_vec()),
        ("key", "entry", keys::entry(7, b"name")),
        ("key", "chunk", keys::chunk(7, 258).to_vec()),
        ("key", "pages", keys::page_map(7, 258).to_vec()),
        ("key", "name-of-inode", keys::inode_name(7, 1, b"name")),
        ("key", "xattr", keys::xattr(7, b"user.a")),
        ("key", "orphan", keys::orphan(9).to_vec()),
        ("key", "parent", keys::parent(9).to_vec()),
    ]
}
