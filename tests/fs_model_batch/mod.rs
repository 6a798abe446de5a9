//! Batches in the model: the same steps on a copy of it, which is kept if all of them can be done.

use super::{Answer, Model, Node, Pair, name_of};
use crate::fs_common::USER;
use lsmfs::fs::batch::{Expect, Operation};
use lsmfs::fs::errno::errno;
use lsmfs::fs::tree::TreePath;
use lsmfs::fs::{FileKind, Ino, ROOT, RenameMode};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// An inode number for what a batch makes, until the real one is known.
const PROVISIONAL: Ino = 1 << 50;
/// A batch of so many operations is large.
const LARGE: usize = 300;

/// A step of a batch. Directories are picked among those that have a name.
#[derive(Debug, Clone)]
pub enum Step {
    Put { at: (usize, u8), len: usize, byte: u8 },
    MakeDir { at: (usize, u8) },
    Remove { at: (usize, u8), recursive: bool },
    Rename { from: (usize, u8), to: (usize, u8) },
    Expect { at: (usize, u8), present: bool },
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = || (0..64usize, 0..6u8);
    let step = prop_oneof![
        4 => (at(), prop_oneof![0..100usize, 4000..4200usize, 0..140_000usize], 0..3u8)
            .prop_map(|(at, len, byte)| Step::Put { at, len, byte }),
        3 => at().prop_map(|at| Step::MakeDir { at }),
        3 => (at(), any::<bool>()).prop_map(|(at, recursive)| Step::Remove { at, recursive }),
        3 => (at(), at()).prop_map(|(from, to)| Step::Rename { from, to }),
        1 => (at(), any::<bool>()).prop_map(|(at, present)| Step::Expect { at, present }),
    ];
    prop::collection::vec(step, 1..5)
}

impl Model {
    /// The directories that have a path, with it.
    fn paths(&self) -> BTreeMap<Ino, Vec<u8>> {
        let mut paths = BTreeMap::from([(ROOT, Vec::new())]);
        let mut left = vec![ROOT];
        while let Some(dir) = left.pop() {
            for (name, &ino) in self.nodes[&dir].entries.iter().filter(|(_, ino)| self.is_dir(**ino)) {
                paths.insert(ino, [&paths[&dir][..], b"/", name].concat());
                left.push(ino);
            }
        }
        paths
    }

    /// Does a step, as far as the model goes, and says what it is in a real batch.
    fn step(&mut self, step: &Step, fresh: &mut Ino) -> (Operation, Answer<()>) {
        let paths = self.paths();
        let place = |(dir, name): (usize, u8)| {
            let (&ino, path) = paths.iter().nth(dir % paths.len()).unwrap();
            let path = [path, &b"/"[..], &name_of(name)].concat();
            ((ino, name), TreePath::parse(&path).unwrap())
        };
        match *step {
            Step::Put { at, len, byte } => {
                let ((dir, name), path) = place(at);
                let contents = vec![byte; len];
                let done = self.put(dir, name, &contents, fresh);
                (Operation::Put { path, contents: contents.into() }, done)
            }
            Step::MakeDir { at } => {
                let ((dir, name), path) = place(at);
                let done = self.check_make(dir, name);
                if done.is_ok() {
                    self.add(dir, name, FileKind::Directory, 0o755, Vec::new(), fresh);
                }
                (Operation::MakeDir { path }, done)
            }
            Step::Remove { at, recursive } => {
                let ((dir, name), path) = place(at);
                (Operation::Remove { path, recursive }, self.remove_all(dir, name, recursive))
            }
            Step::Rename { from, to } => {
                let ((from, from_path), (to, to_path)) = (place(from), place(to));
                let done = self.rename(from, to, RenameMode::Replace);
                (Operation::Rename { from: from_path, to: to_path }, done)
            }
            Step::Expect { at, present } => {
                let ((dir, name), path) = place(at);
                let holds = self.find(dir, name).is_some() == present;
                let that = if present { Expect::Present } else { Expect::Absent };
                (Operation::Expect { path, that }, if holds { Ok(()) } else { Err(libc::ECANCELED) })
            }
        }
    }

    fn add(&mut self, dir: Ino, name: u8, kind: FileKind, mode: u32, contents: Vec<u8>, fresh: &mut Ino) {
        *fresh += 1;
        let nlink = if kind == FileKind::Directory { 2 } else { 1 };
        let (entries, xattrs) = (BTreeMap::new(), BTreeMap::new());
        self.nodes.insert(*fresh, Node { kind, mode, nlink, contents, entries, xattrs });
        self.link(dir, name, *fresh);
    }

    fn put(&mut self, dir: Ino, name: u8, contents: &[u8], fresh: &mut Ino) -> Answer<()> {
        let (mut mode, mut xattrs) = (0o644, BTreeMap::new());
        if let Some(old) = self.find(dir, name) {
            if self.is_dir(old) {
                return Err(libc::EISDIR);
            }
            self.check_file(old)?;
            (mode, xattrs) = (self.nodes[&old].mode, self.nodes[&old].xattrs.clone());
            self.unlink(dir, name);
            self.drop_link(old);
        }
        self.add(dir, name, FileKind::File, mode, contents.to_vec(), fresh);
        self.nodes.entry(*fresh).and_modify(|node| node.xattrs = xattrs);
        Ok(())
    }

    fn remove_all(&mut self, dir: Ino, name: u8, recursive: bool) -> Answer<()> {
        let ino = self.find(dir, name).ok_or(libc::ENOENT)?;
        if !self.is_dir(ino) {
            return self.remove(dir, name, false);
        }
        if !recursive {
            return Err(libc::EISDIR);
        }
        let below: Vec<u8> = self.nodes[&ino].entries.keys().map(|name| name[0] - b'a').collect();
        below.into_iter().try_for_each(|name| self.remove_all(ino, name, true))?;
        self.remove(dir, name, true)
    }

    /// Puts real inode numbers in the place of provisional ones.
    fn learn(&mut self, numbers: &BTreeMap<Ino, Ino>) {
        let real = |ino: Ino| numbers.get(&ino).copied().unwrap_or(ino);
        // What a batch made and removed again nobody has seen.
        self.nodes.retain(|ino, _| *ino < PROVISIONAL || numbers.contains_key(ino));
        self.nodes =
            std::mem::take(&mut self.nodes).into_iter().map(|(ino, node)| (real(ino), node)).collect();
        self.nodes.values_mut().for_each(|node| node.entries.values_mut().for_each(|ino| *ino = real(*ino)));
    }
}

impl Pair {
    pub fn apply_batch(&mut self, steps: &[Step]) {
        let mut next = Model { nodes: self.model.nodes.clone() };
        let mut fresh = PROVISIONAL;
        let mut wanted = Ok(());
        let mut operations = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            let (operation, done) = next.step(step, &mut fresh);
            operations.push(operation);
            wanted = done.map_err(|number| (Some(at), number));
            if wanted.is_err() {
                break;
            }
        }
        // Every second one is large, and run beside others.
        let root = Operation::Version { path: TreePath::parse(b"/").unwrap() };
        operations.extend(std::iter::repeat_n(root, if steps.len().is_multiple_of(2) { LARGE } else { 0 }));
        let done = self.real.fs.apply(&operations, USER).map(drop);
        let done = done.map_err(|failed| (failed.operation, errno(&failed.error)));
        assert_eq!(done, wanted, "{operations:?}");
        if wanted.is_ok() {
            next.learn(&self.numbers(&next));
            self.model = next;
        }
    }

    /// The inode numbers of what a batch made; takes a reference to each.
    fn numbers(&self, next: &Model) -> BTreeMap<Ino, Ino> {
        let mut numbers = BTreeMap::new();
        let mut left = vec![(ROOT, ROOT)];
        while let Some((dir, real)) = left.pop() {
            for (name, &ino) in &next.nodes[&dir].entries {
                let found = self.real.fs.lookup(real, name).unwrap().unwrap().ino;
                match ino >= PROVISIONAL {
                    true => drop(numbers.insert(ino, found)),
                    false => self.real.fs.forget(found, 1),
                }
                if next.is_dir(ino) {
                    left.push((ino, found));
                }
            }
        }
        numbers
    }
}
