//! Archives that tests make, and their imports and exports.

use super::{Fixture, USER, path};
use lsmfs::fs::archive::{ArchiveError, Member, MemberKind, Reader, Writer, acl_text};
use lsmfs::fs::import::{ImportOptions, Imported};
use lsmfs::fs::tree::Tree;
use lsmfs::fs::{Attr, ROOT, Result, Timestamp};
use std::collections::BTreeMap;

pub fn member(path: impl AsRef<[u8]>, kind: MemberKind) -> Member {
    Member {
        path: path.as_ref().to_vec(),
        kind,
        mode: 0o640,
        uid: 1234,
        gid: 70_000_000,
        mtime: Timestamp { secs: 1_600_000_000, nanos: 123_456_789 },
        atime: Some(Timestamp { secs: -5, nanos: 5 }),
        xattrs: Vec::new(),
        size: 0,
        extents: None,
    }
}

/// An archive that is being made.
pub struct Archive(pub Writer<Vec<u8>>);

impl Archive {
    pub fn new() -> Archive {
        Archive(Writer::new(Vec::new()))
    }

    pub fn add(&mut self, member: &Member, data: &[u8]) {
        self.0.member(member).unwrap();
        self.0.data(data).unwrap();
    }

    pub fn file(&mut self, path: impl AsRef<[u8]>, data: &[u8]) {
        self.add(&Member { size: data.len() as u64, ..member(path, MemberKind::File) }, data);
    }

    pub fn dir(&mut self, path: impl AsRef<[u8]>) {
        self.add(&Member { mode: 0o2750, ..member(path, MemberKind::Directory) }, b"");
    }

    pub fn kind(&mut self, path: impl AsRef<[u8]>, kind: MemberKind) {
        self.add(&member(path, kind), b"");
    }

    /// Thirteen files in three directories and beside them, one with two names.
    pub fn small(&mut self) {
        for n in 0..12 {
            self.file(format!("d{}/f{n}", n % 3), &vec![n as u8 + 1; 9000 * n]);
        }
        self.file("top", b"small");
        self.kind("top2", MemberKind::HardLink(b"d1/f4".to_vec()));
    }

    pub fn end(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

/// Imports little by little, as it were.
pub fn import(f: &Fixture, archive: &[u8], at: &str) -> Result<Imported> {
    let options = ImportOptions { memory: 3000, ..ImportOptions::new(USER, true) };
    f.fs.import(archive, &path(at), &options)
}

pub fn stat(f: &Fixture, at: &str) -> Attr {
    Tree::new(&f.fs).stat(&path(at)).unwrap()
}

/// Everything that an archive says, by path; what does not depend on who wrote it.
pub fn listed(archive: &[u8]) -> BTreeMap<Vec<u8>, (Member, Vec<u8>)> {
    let mut reader = Reader::new(archive);
    let mut found = BTreeMap::new();
    while let Some(mut member) = reader.next_member().unwrap() {
        let mut data = vec![0; member.size as usize];
        let copied = reader.contents(|at, bytes| {
            data[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
            Ok::<(), ArchiveError>(())
        });
        copied.unwrap();
        member.xattrs.sort();
        // Which pages are zeros the store knows, however the archive holds them.
        member.extents = None;
        found.insert(member.path.clone(), (member, data));
    }
    found
}

pub fn export(f: &Fixture, at: &str) -> Vec<u8> {
    let mut out = Vec::new();
    f.fs.export(&path(at), &mut out).unwrap();
    out
}

/// As `audit`, which reads all contents: not those of a gigabyte of zeros.
pub fn audit_all(f: &Fixture) {
    let found = lsmfs::fs::check::check(&f.store.volume("main").unwrap(), &mut || ()).unwrap();
    assert_eq!(found.findings, [], "what the check finds");
    assert_eq!(f.keys(b'b'), [[0; 0]; 0], "imports under way");
    assert_eq!(f.keys(b'o'), [[0; 0]; 0], "orphan records");
}

pub fn stat_ino(f: &Fixture, at: &str) -> u64 {
    // Known, to be written to.
    let mut dir = ROOT;
    for name in at.split('/') {
        dir = f.fs.lookup(dir, name.as_bytes()).unwrap().unwrap().ino;
    }
    dir
}

pub fn small() -> Vec<u8> {
    let mut archive = Archive::new();
    archive.small();
    archive.end()
}

/// One of everything.
pub fn rich() -> Vec<u8> {
    let mut archive = Archive::new();
    let acl = acl_text::parse(b"user::rw-,user:7:r--,group::r--,mask::r--,other::---").unwrap();
    let xattrs = vec![
        (b"security.capability".to_vec(), b"\x01\n=\0\xff".to_vec()),
        (b"system.posix_acl_access".to_vec(), acl.clone()),
        (b"user.a=b%".to_vec(), vec![b'\n'; 3000]),
    ];
    archive.add(
        &Member {
            xattrs: vec![(b"user.root".to_vec(), b"r".to_vec())],
            mode: 0o711,
            ..member("./", MemberKind::Directory)
        },
        b"",
    );
    archive.dir("./d/");
    archive.add(
        &Member {
            xattrs: vec![(b"system.posix_acl_default".to_vec(), acl)],
            ..member("./d/e/", MemberKind::Directory)
        },
        b"",
    );
    archive.file("./empty", b"");
    archive.file("./small", b"small\n");
    archive.file("./d/inline", &[3; 4096]);
    archive.file("./d/chunks", &[5; 200_001]);
    archive.file("./d/zeros", &[0; 70_000]);
    let long = [vec![b'x'; 255], vec![b'y'; 255]].join(&b'/');
    archive.dir([b"./", &long[..255], b"/"].concat());
    archive.file([b"./", &long[..]].concat(), b"long");
    archive.file(b"./\xff\n\xfe name", b"not UTF-8");
    archive.add(&Member { size: 9, xattrs, ..member("./attributes", MemberKind::File) }, b"123456789");
    archive.kind("./d/link", MemberKind::Symlink(b"../nowhere/\xff".to_vec()));
    archive.kind("./far", MemberKind::Symlink(vec![b't'; 2000]));
    archive.kind("./fifo", MemberKind::Fifo);
    archive.kind("./char", MemberKind::CharDevice(1, 3));
    archive.kind("./block", MemberKind::BlockDevice(259, 70_000));
    archive.kind("./d/e/hard", MemberKind::HardLink(b"./attributes".to_vec()));
    archive.kind("./hard2", MemberKind::HardLink(b"./d/e/hard".to_vec()));
    archive.kind("./hard3", MemberKind::HardLink(b"./d/chunks".to_vec()));
    let extents = vec![(65_536, 4096), (1 << 30, 1000)];
    let sparse =
        Member { size: (1 << 30) + 50_000, extents: Some(extents), ..member("./sparse", MemberKind::File) };
    archive.add(&sparse, &[9; 5096]);
    archive.end()
}
