//! Random operations on a file system and on a simple model of one, which must agree: in answers, errors,
//! contents and attributes, across closes and kills, and in what is left in the store.

mod fs_common;
mod fs_model_batch;

use fs_common::audit::audit_chunks;
use fs_common::{Fixture, USER, contents, size};
use fs_model_batch::{Step, steps};
use lsmfs::fs::entry::CHUNK_SIZE;
use lsmfs::fs::errno::errno;
use lsmfs::fs::tally::recount;
use lsmfs::fs::{Allocate, Attr, Caller, FileKind, Ino, ROOT, RenameMode, Result, Seek, SetAttr, XattrMode};
use lsmfs::lsm::Tally;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Who changes contents without clearing setuid.
const ADMIN: Caller = Caller { uid: 0, gid: 0, umask: 0 };

/// The largest offset of a write and the largest size.
const FAR: u64 = 4 * CHUNK_SIZE;

#[derive(Debug, Clone)]
enum Op {
    Make { dir: usize, name: u8, kind: FileKind },
    Link { file: usize, dir: usize, name: u8 },
    Unlink { dir: usize, name: u8 },
    Rmdir { dir: usize, name: u8 },
    Rename { from: (usize, u8), to: (usize, u8), mode: RenameMode },
    Write { file: usize, offset: u64, len: usize, byte: u8 },
    Resize { file: usize, size: u64 },
    Allocate { file: usize, offset: u64, len: u64, what: Allocate, keep_size: bool },
    Copy { from: (usize, u64), to: (usize, u64), len: u64 },
    Seek { file: usize, offset: u64, what: Seek },
    Read { file: usize, offset: u64, len: usize },
    Chmod { file: usize, mode: u32 },
    SetXattr { file: usize, name: u8, len: usize },
    RemoveXattr { file: usize, name: u8 },
    Forget { orphan: usize },
    Batch(Vec<Step>),
    Check,
    Flush,
    Reopen,
    Kill,
}

fn offsets() -> impl Strategy<Value = u64> {
    prop_oneof![0..100u64, 0..2000u64, 4000..4200u64, CHUNK_SIZE - 50..CHUNK_SIZE + 50, 0..FAR]
}

fn lens() -> impl Strategy<Value = usize> {
    prop_oneof![0..100usize, 300..2000usize, 4000..4200usize, 0..2 * CHUNK_SIZE as usize]
}

fn kinds() -> impl Strategy<Value = FileKind> {
    prop_oneof![
        5 => Just(FileKind::File),
        4 => Just(FileKind::Directory),
        1 => Just(FileKind::Symlink),
        1 => Just(FileKind::Fifo),
    ]
}

fn whats() -> impl Strategy<Value = Allocate> {
    prop_oneof![2 => Just(Allocate::PunchHole), 1 => Just(Allocate::Zero), 1 => Just(Allocate::Reserve)]
}

fn modes() -> impl Strategy<Value = RenameMode> {
    prop_oneof![
        4 => Just(RenameMode::Replace),
        1 => Just(RenameMode::NoReplace),
        1 => Just(RenameMode::Exchange),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    let (dir, file) = (0..64usize, 0..64usize);
    let place = || (0..64usize, 0..6u8);
    prop_oneof![
        8 => (dir.clone(), 0..6u8, kinds()).prop_map(|(dir, name, kind)| Op::Make { dir, name, kind }),
        4 => (file.clone(), dir.clone(), 0..6u8)
            .prop_map(|(file, dir, name)| Op::Link { file, dir, name }),
        4 => (dir.clone(), 0..6u8).prop_map(|(dir, name)| Op::Unlink { dir, name }),
        2 => (dir, 0..6u8).prop_map(|(dir, name)| Op::Rmdir { dir, name }),
        6 => (place(), place(), modes()).prop_map(|(from, to, mode)| Op::Rename { from, to, mode }),
        9 => (file.clone(), offsets(), lens(), 0..=2u8)
            .prop_map(|(file, offset, len, byte)| Op::Write { file, offset, len, byte }),
        5 => (file.clone(), offsets()).prop_map(|(file, size)| Op::Resize { file, size }),
        5 => (file.clone(), offsets(), lens(), whats(), any::<bool>()).prop_map(
            |(file, offset, len, what, keep_size)| {
                let keep_size = keep_size || what == Allocate::PunchHole;
                Op::Allocate { file, offset, len: len as u64 + 1, what, keep_size }
            }
        ),
        2 => ((file.clone(), offsets()), (file.clone(), offsets()), lens())
            .prop_map(|(from, to, len)| Op::Copy { from, to, len: len as u64 }),
        3 => (file.clone(), offsets(), prop_oneof![Just(Seek::Data), Just(Seek::Hole)])
            .prop_map(|(file, offset, what)| Op::Seek { file, offset, what }),
        3 => (file.clone(), offsets(), lens())
            .prop_map(|(file, offset, len)| Op::Read { file, offset, len }),
        1 => (file.clone(), 0..=0o7777u32).prop_map(|(file, mode)| Op::Chmod { file, mode }),
        2 => (file.clone(), 0..3u8, 0..300usize)
            .prop_map(|(file, name, len)| Op::SetXattr { file, name, len }),
        1 => (file.clone(), 0..3u8).prop_map(|(file, name)| Op::RemoveXattr { file, name }),
        2 => file.prop_map(|orphan| Op::Forget { orphan }),
        4 => steps().prop_map(Op::Batch),
        1 => Just(Op::Check),
        1 => Just(Op::Flush),
        1 => Just(Op::Reopen),
        1 => Just(Op::Kill),
    ]
}

/// A file of the model. Its key in [`Model::nodes`] is the inode number that the file system gave it.
#[derive(Debug, Clone)]
struct Node {
    kind: FileKind,
    mode: u32,
    nlink: u32,
    contents: Vec<u8>,
    entries: BTreeMap<Vec<u8>, Ino>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The model: what a file system should hold, and the operations in their simplest form.
#[derive(Debug)]
struct Model {
    nodes: BTreeMap<Ino, Node>,
}

type Answer<T> = std::result::Result<T, i32>;

fn name_of(name: u8) -> Vec<u8> {
    vec![b'a' + name]
}

impl Model {
    fn new() -> Model {
        let root = Node {
            kind: FileKind::Directory,
            mode: 0o755,
            nlink: 2,
            contents: Vec::new(),
            entries: BTreeMap::new(),
            xattrs: BTreeMap::new(),
        };
        Model { nodes: BTreeMap::from([(ROOT, root)]) }
    }

    fn with(&self, wanted: impl Fn(&Node) -> bool) -> Vec<Ino> {
        self.nodes.iter().filter(|(_, node)| wanted(node)).map(|(ino, _)| *ino).collect()
    }

    /// A directory, removed ones among them.
    fn dir(&self, pick: usize) -> Ino {
        let dirs = self.with(|node| node.kind == FileKind::Directory);
        dirs[pick % dirs.len()]
    }

    /// Anything but a directory, if there is something.
    fn file(&self, pick: usize) -> Option<Ino> {
        let files = self.with(|node| node.kind != FileKind::Directory);
        files.get(pick % files.len().max(1)).copied()
    }

    fn node(&mut self, ino: Ino) -> &mut Node {
        self.nodes.get_mut(&ino).unwrap()
    }

    fn find(&self, dir: Ino, name: u8) -> Option<Ino> {
        self.nodes[&dir].entries.get(&name_of(name)).copied()
    }

    fn is_dir(&self, ino: Ino) -> bool {
        self.nodes[&ino].kind == FileKind::Directory
    }

    fn is_within(&self, dir: Ino, ancestor: Ino) -> bool {
        dir == ancestor || self.nodes[&ancestor].entries.values().any(|&ino| self.is_within(dir, ino))
    }

    fn check_make(&self, dir: Ino, name: u8) -> Answer<()> {
        if self.nodes[&dir].nlink == 0 {
            return Err(libc::ENOENT);
        }
        if self.find(dir, name).is_some() { Err(libc::EEXIST) } else { Ok(()) }
    }

    fn make(&mut self, dir: Ino, name: u8, attr: &Attr, contents: Vec<u8>) {
        let nlink = if attr.kind == FileKind::Directory { 2 } else { 1 };
        let (entries, xattrs) = (BTreeMap::new(), BTreeMap::new());
        let node = Node { kind: attr.kind, mode: attr.mode, nlink, contents, entries, xattrs };
        assert!(self.nodes.insert(attr.ino, node).is_none(), "an inode number was used again");
        self.link(dir, name, attr.ino);
    }

    fn link(&mut self, dir: Ino, name: u8, ino: Ino) {
        let is_dir = u32::from(self.is_dir(ino));
        let dir = self.node(dir);
        dir.entries.insert(name_of(name), ino);
        dir.nlink += is_dir;
    }

    fn unlink(&mut self, dir: Ino, name: u8) -> Ino {
        let ino = self.node(dir).entries.remove(&name_of(name)).unwrap();
        let is_dir = u32::from(self.is_dir(ino));
        self.node(dir).nlink -= is_dir;
        ino
    }

    fn drop_link(&mut self, ino: Ino) {
        let is_dir = self.is_dir(ino);
        let node = self.node(ino);
        node.nlink = if is_dir { 0 } else { node.nlink - 1 };
    }

    fn add_link(&mut self, ino: Ino, dir: Ino, name: u8) -> Answer<u32> {
        self.check_make(dir, name)?;
        if self.nodes[&ino].nlink == 0 {
            return Err(libc::ENOENT);
        }
        self.link(dir, name, ino);
        self.node(ino).nlink += 1;
        Ok(self.nodes[&ino].nlink)
    }

    fn remove(&mut self, dir: Ino, name: u8, want_dir: bool) -> Answer<()> {
        let ino = self.find(dir, name).ok_or(libc::ENOENT)?;
        match (want_dir, self.is_dir(ino)) {
            (false, true) => return Err(libc::EISDIR),
            (true, false) => return Err(libc::ENOTDIR),
            (true, true) if !self.nodes[&ino].entries.is_empty() => return Err(libc::ENOTEMPTY),
            _ => {}
        }
        self.unlink(dir, name);
        self.drop_link(ino);
        Ok(())
    }

    fn rename(&mut self, from: (Ino, u8), to: (Ino, u8), mode: RenameMode) -> Answer<()> {
        let source = self.find(from.0, from.1).ok_or(libc::ENOENT)?;
        let target = self.find(to.0, to.1);
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(libc::EEXIST),
            (RenameMode::Exchange, None) => return Err(libc::ENOENT),
            (_, Some(target)) if target == source => return Ok(()),
            _ => {}
        }
        if self.is_dir(source) && self.is_within(to.0, source) {
            return Err(libc::EINVAL);
        }
        if self.nodes[&to.0].nlink == 0 {
            return Err(libc::ENOENT);
        }
        if mode == RenameMode::Exchange {
            let target = target.unwrap();
            if self.is_dir(target) && self.is_within(from.0, target) {
                return Err(libc::EINVAL);
            }
            self.unlink(from.0, from.1);
            self.unlink(to.0, to.1);
            self.link(from.0, from.1, target);
            self.link(to.0, to.1, source);
            return Ok(());
        }
        if let Some(target) = target {
            if self.is_dir(target) && self.is_within(from.0, target) {
                return Err(libc::ENOTEMPTY);
            }
            match (self.is_dir(source), self.is_dir(target)) {
                (true, false) => return Err(libc::ENOTDIR),
                (false, true) => return Err(libc::EISDIR),
                (true, true) if !self.nodes[&target].entries.is_empty() => return Err(libc::ENOTEMPTY),
                _ => {}
            }
            self.unlink(to.0, to.1);
            self.drop_link(target);
        }
        self.unlink(from.0, from.1);
        self.link(to.0, to.1, source);
        Ok(())
    }

    fn read(&self, ino: Ino, offset: u64, len: usize) -> Vec<u8> {
        let contents = &self.nodes[&ino].contents;
        let start = (offset as usize).min(contents.len());
        contents[start..(start + len).min(contents.len())].to_vec()
    }

    fn write(&mut self, ino: Ino, start: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let contents = &mut self.node(ino).contents;
        contents.resize(contents.len().max(start + data.len()), 0);
        contents[start..start + data.len()].copy_from_slice(data);
    }

    fn allocate(&mut self, ino: Ino, start: usize, end: usize, what: Allocate, keep_size: bool) {
        let contents = &mut self.node(ino).contents;
        if !keep_size {
            contents.resize(contents.len().max(end), 0);
        }
        let end = end.min(contents.len());
        if what != Allocate::Reserve && start < end {
            contents[start..end].fill(0);
        }
    }

    fn check_file(&self, ino: Ino) -> Answer<()> {
        if self.nodes[&ino].kind == FileKind::File { Ok(()) } else { Err(libc::EINVAL) }
    }
}

/// A file system and its model.
struct Pair {
    real: Fixture,
    model: Model,
}

fn answer<T>(result: Result<T>) -> Answer<T> {
    result.map_err(|e| errno(&e))
}

impl Pair {
    fn apply(&mut self, op: &Op) {
        let (fs, model) = (&self.real.fs, &mut self.model);
        match *op {
            Op::Make { dir, name, kind } => {
                let dir = model.dir(dir);
                let bytes = name_of(name);
                let target = b"a target".to_vec();
                let made = answer(match kind {
                    FileKind::File => fs.create(dir, &bytes, 0o640, USER),
                    FileKind::Directory => fs.mkdir(dir, &bytes, 0o750, USER),
                    FileKind::Symlink => fs.symlink(dir, &bytes, &target, USER),
                    kind => fs.mknod(dir, &bytes, kind, 0o600, 0, USER),
                });
                assert_eq!(made.as_ref().map(drop).map_err(|e| *e), model.check_make(dir, name), "{op:?}");
                if let Ok(attr) = made {
                    let contents = if kind == FileKind::Symlink { target } else { Vec::new() };
                    model.make(dir, name, &attr, contents);
                }
            }
            Op::Link { file, dir, name } => {
                let Some(ino) = model.file(file) else { return };
                let dir = model.dir(dir);
                let linked = answer(fs.link(ino, dir, &name_of(name)));
                assert_eq!(linked.map(|attr| attr.nlink), model.add_link(ino, dir, name), "{op:?}");
                if linked.is_ok() {
                    // The model keeps one reference to each file.
                    fs.forget(ino, 1);
                }
            }
            Op::Unlink { dir, name } => {
                let dir = model.dir(dir);
                assert_eq!(answer(fs.unlink(dir, &name_of(name))), model.remove(dir, name, false), "{op:?}");
            }
            Op::Rmdir { dir, name } => {
                let dir = model.dir(dir);
                assert_eq!(answer(fs.rmdir(dir, &name_of(name))), model.remove(dir, name, true), "{op:?}");
            }
            Op::Rename { from, to, mode } => {
                let (from, to) = ((model.dir(from.0), from.1), (model.dir(to.0), to.1));
                let renamed = fs.rename(from.0, &name_of(from.1), to.0, &name_of(to.1), mode).map(drop);
                assert_eq!(answer(renamed), model.rename(from, to, mode), "{op:?} {from:?} {to:?}");
            }
            Op::Write { file, offset, len, byte } => {
                let Some(ino) = model.file(file) else { return };
                let data = vec![byte; len];
                let wanted = model.check_file(ino).map(|()| len);
                assert_eq!(answer(fs.write(ino, offset, &data)), wanted, "{op:?}");
                if wanted.is_ok() {
                    model.write(ino, offset as usize, &data);
                }
            }
            Op::Resize { file, size: new } => {
                let Some(ino) = model.file(file) else { return };
                let wanted = model.check_file(ino).map(|()| new);
                assert_eq!(answer(fs.setattr(ino, &size(new), USER)).map(|a| a.size), wanted, "{op:?}");
                if wanted.is_ok() {
                    model.node(ino).contents.resize(new as usize, 0);
                    let node = model.node(ino);
                    node.mode &= if node.mode & 0o010 != 0 { !0o6000 } else { !0o4000 };
                }
            }
            Op::Allocate { file, offset, len, what, keep_size } => {
                let Some(ino) = model.file(file) else { return };
                let wanted = model.check_file(ino);
                assert_eq!(answer(fs.allocate(ino, offset, len, what, keep_size, ADMIN)), wanted, "{op:?}");
                if wanted.is_ok() {
                    model.allocate(ino, offset as usize, (offset + len) as usize, what, keep_size);
                }
            }
            Op::Copy { from, to, len } => {
                let (Some(source), Some(target)) = (model.file(from.0), model.file(to.0)) else { return };
                let bytes = model.read(source, from.1, len as usize);
                let wanted = match source == target && from.1.abs_diff(to.1) < len {
                    true => Err(libc::EINVAL),
                    false => model.check_file(source).and(model.check_file(target)).map(|()| bytes.len()),
                };
                assert_eq!(
                    answer(fs.copy_range((source, from.1), (target, to.1), len, ADMIN)),
                    wanted,
                    "{op:?}"
                );
                if wanted.is_ok() {
                    model.write(target, to.1 as usize, &bytes);
                }
            }
            Op::Seek { file, offset, what } => {
                let Some(ino) = model.file(file) else { return };
                let contents = &model.nodes[&ino].contents;
                match answer(fs.seek(ino, offset, what)) {
                    _ if model.check_file(ino).is_err() => {}
                    // What is passed over to find data is zeros; to find a hole, nothing is said of it.
                    Ok(at) => {
                        assert!(at >= offset && at <= contents.len() as u64, "{op:?}: {at}");
                        let passed = &contents[offset as usize..at as usize];
                        assert!(what == Seek::Hole || passed.iter().all(|byte| *byte == 0), "{op:?}: {at}");
                    }
                    Err(e) => {
                        let rest = contents.get(offset as usize..).unwrap_or_default();
                        assert_eq!(e, libc::ENXIO);
                        assert!(rest.is_empty() || what == Seek::Data && rest.iter().all(|byte| *byte == 0));
                    }
                }
            }
            Op::Read { file, offset, len } => {
                let Some(ino) = model.file(file) else { return };
                let wanted = model.check_file(ino).map(|()| model.read(ino, offset, len));
                assert!(answer(fs.read(ino, offset, len)).map(|b| b.to_vec()) == wanted, "{op:?}");
            }
            Op::Chmod { file, mode } => {
                let Some(ino) = model.file(file) else { return };
                fs.setattr(ino, &SetAttr { mode: Some(mode), ..SetAttr::default() }, USER).unwrap();
                model.node(ino).mode = mode;
            }
            Op::SetXattr { file, name, len } => {
                let Some(ino) = model.file(file) else { return };
                let (name, value) = ([b"user.", &name_of(name)[..]].concat(), vec![name; len]);
                fs.setxattr(ino, &name, &value, XattrMode::Set, USER).unwrap();
                model.node(ino).xattrs.insert(name, value);
            }
            Op::RemoveXattr { file, name } => {
                let Some(ino) = model.file(file) else { return };
                let name = [b"user.", &name_of(name)[..]].concat();
                let wanted = model.node(ino).xattrs.remove(&name).map(drop).ok_or(libc::ENODATA);
                assert_eq!(answer(fs.removexattr(ino, &name)), wanted, "{op:?}");
            }
            Op::Forget { orphan } => {
                let orphans = model.with(|node| node.nlink == 0);
                let Some(&ino) = orphans.get(orphan % orphans.len().max(1)) else { return };
                fs.forget(ino, 1);
                model.nodes.remove(&ino);
                assert_eq!(answer(fs.getattr(ino)), Err(libc::ESTALE));
            }
            Op::Batch(ref steps) => self.apply_batch(steps),
            Op::Check => self.check(),
            Op::Flush => self.real.store.flush().unwrap(),
            Op::Reopen => {
                self.real.reopen();
                self.opened();
            }
            Op::Kill => {
                self.real.kill();
                self.opened();
            }
        }
    }

    /// After an open nothing is referenced, and what was unlinked is gone: looks everything up again.
    fn opened(&mut self) {
        self.model.nodes.retain(|_, node| node.nlink > 0);
        self.look_up_all();
        self.check();
    }

    /// Takes one reference to everything.
    fn look_up_all(&self) {
        self.look_up(ROOT);
        for (&ino, node) in self.model.nodes.iter().filter(|(_, node)| node.kind != FileKind::Directory) {
            self.real.fs.forget(ino, u64::from(node.nlink) - 1);
        }
    }

    fn look_up(&self, dir: Ino) {
        for (name, &ino) in &self.model.nodes[&dir].entries {
            let found = self.real.fs.lookup(dir, name).unwrap();
            assert_eq!(found.map(|attr| attr.ino), Some(ino), "{name:?} in {dir}");
            if self.model.is_dir(ino) {
                self.look_up(ino);
            }
        }
    }

    /// Compares everything that can be seen, and what is in the store.
    fn check(&self) {
        let fs = &self.real.fs;
        let mut files = BTreeMap::new();
        assert_eq!(fs.referenced(), self.model.nodes.len() - 1);
        for (&ino, node) in &self.model.nodes {
            let attr = fs.getattr(ino).unwrap();
            assert_eq!((attr.kind, attr.nlink), (node.kind, node.nlink), "{ino}");
            assert_eq!(attr.mode, node.mode, "{ino}");
            let names: Vec<u8> = node.xattrs.keys().flat_map(|name| [name, &b"\0"[..]].concat()).collect();
            assert_eq!(fs.listxattr(ino).unwrap(), names, "{ino}");
            for (name, value) in &node.xattrs {
                assert_eq!(fs.getxattr(ino, name).unwrap().unwrap(), value, "{ino}");
            }
            match node.kind {
                FileKind::Directory => {
                    let listed: BTreeMap<Vec<u8>, Ino> = self.list(ino);
                    assert_eq!(listed, node.entries, "{ino}");
                }
                FileKind::Symlink => assert_eq!(fs.readlink(ino).unwrap(), node.contents),
                FileKind::File => {
                    assert_eq!(attr.size, node.contents.len() as u64, "{ino}");
                    assert!(contents(fs, ino) == node.contents, "contents of {ino}");
                    files.insert(ino, (attr, node.contents.clone()));
                }
                _ => {}
            }
        }
        let names: usize = self.model.nodes.values().map(|node| node.entries.len()).sum();
        assert_eq!(self.real.keys(b'e').len(), names + 1);
        let xattrs: usize = self.model.nodes.values().map(|node| node.xattrs.len()).sum();
        assert_eq!(self.real.keys(b'x').len(), xattrs);
        self.check_tally();
        self.check_parents();
        audit_chunks(&self.real, &files);
    }

    /// The volume's tally is the sum over its records, and over what `stat` and `getxattr` show.
    fn check_tally(&self) {
        let tally = self.real.store.volume("main").unwrap().tally().unwrap();
        assert_eq!(tally, recount(&self.real.store.volume("main").unwrap()).unwrap());
        let mut shown = Tally::default();
        for (&ino, node) in &self.model.nodes {
            let attr = self.real.fs.getattr(ino).unwrap();
            let xattrs: usize = node.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
            shown += Tally { files: 1, bytes: (attr.blocks * 512) as i64 + xattrs as i64 };
        }
        // Of an unlinked file with small contents the store has nothing.
        let is_sure = self.model.nodes.values().all(|node| node.nlink > 0);
        assert!(tally == shown || !is_sure, "{tally:?}, and {shown:?} can be seen");
    }

    /// Each directory's parent record says where its entry is.
    fn check_parents(&self) {
        let volume = self.real.store.volume("main").unwrap();
        let mut dirs = 0;
        for (&parent, node) in &self.model.nodes {
            for (name, &ino) in node.entries.iter().filter(|(_, ino)| self.model.is_dir(**ino)) {
                let record = volume.get_head(&[b"p", &ino.to_be_bytes()[..]].concat()).unwrap();
                assert_eq!(record.unwrap(), [&[1], &parent.to_be_bytes()[..], name].concat(), "{ino}");
                dirs += 1;
            }
        }
        assert_eq!(self.real.keys(b'p').len(), dirs);
    }

    fn list(&self, dir: Ino) -> BTreeMap<Vec<u8>, Ino> {
        let mut listed = BTreeMap::new();
        let handle = self.real.fs.opendir(dir).unwrap();
        self.real
            .fs
            .readdir(&handle, 2, &mut |entry| listed.insert(entry.name.to_vec(), entry.ino).is_some())
            .unwrap();
        listed
    }
}

proptest! {
    #[test]
    fn the_file_system_agrees_with_its_model(ops in prop::collection::vec(ops(), 1..120), small: bool) {
        let real = if small { Fixture::small_memtables() } else { Fixture::new() };
        let mut pair = Pair { real, model: Model::new() };
        for op in &ops {
            pair.apply(op);
        }
        pair.check();
        pair.apply(&Op::Reopen);
        pair.apply(&Op::Kill);
    }
}
