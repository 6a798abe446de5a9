//! A disk over another that it never changes: what is written, deleted or moved stays in memory.
//!
//! With it a store can be opened, recovery and all, to be looked at only. [`Overlay::release`] ends all
//! changes, so that closing the store builds no tables in memory.
//!
//! Lock: `changed` is a leaf, never held over I/O; each new file has a lock of its own.

use super::{Disk, DiskError, Listed, LogFile, Object, ObjectWriter, Result, Space, check_name};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A disk over another that it never changes.
#[derive(Debug)]
pub struct Overlay {
    below: Arc<dyn Disk>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    changed: Mutex<BTreeMap<String, Changed>>,
    released: AtomicBool,
}

/// What became of a name.
#[derive(Debug, Clone)]
enum Changed {
    /// There is no such file any more.
    Gone,
    /// The file below, under this name there, cut to a length.
    Below(String, u64),
    /// A file in memory.
    New(Arc<NewFile>),
}

#[derive(Debug, Default)]
struct NewFile {
    name: String,
    contents: RwLock<Vec<u8>>,
}

fn failed(op: &'static str, name: &str, kind: io::ErrorKind) -> DiskError {
    DiskError::new(op, name, kind.into())
}

impl Overlay {
    /// Over `below`, without a change yet.
    pub fn new(below: Arc<dyn Disk>) -> Overlay {
        Overlay { below, state: Arc::default() }
    }

    /// What `name` is now; `None` if there is no such file.
    fn look_up(&self, name: &str) -> Result<Option<Changed>> {
        if let Some(changed) = self.state.changed.lock().get(name) {
            return Ok(Some(changed.clone()).filter(|changed| !matches!(changed, Changed::Gone)));
        }
        match self.below.open(name) {
            Ok(object) => Ok(Some(Changed::Below(name.to_string(), object.len()?))),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn find(&self, op: &'static str, name: &str) -> Result<Changed> {
        self.look_up(name)?.ok_or_else(|| failed(op, name, io::ErrorKind::NotFound))
    }

    /// Puts a file under a name that must be free.
    fn put(&self, op: &'static str, name: &str, file: Changed) -> Result<()> {
        check_name(op, name)?;
        self.state.check(op, name)?;
        if self.look_up(name)?.is_some() {
            return Err(failed(op, name, io::ErrorKind::AlreadyExists));
        }
        self.state.changed.lock().insert(name.to_string(), file);
        Ok(())
    }

    fn remove(&self, op: &'static str, name: &str) -> Result<()> {
        self.state.check(op, name)?;
        self.find(op, name)?;
        self.state.changed.lock().insert(name.to_string(), Changed::Gone);
        Ok(())
    }

    /// What a file below has, in memory: it is about to be written to.
    fn copied(&self, op: &'static str, name: &str) -> Result<Arc<NewFile>> {
        let contents = match self.find(op, name)? {
            Changed::New(file) => return Ok(file),
            Changed::Below(origin, len) => self.below.open(&origin)?.read_at(0, len as usize)?.to_vec(),
            Changed::Gone => return Err(failed(op, name, io::ErrorKind::NotFound)),
        };
        Ok(Arc::new(NewFile { name: name.to_string(), contents: RwLock::new(contents) }))
    }
}

impl State {
    fn check(&self, op: &'static str, name: &str) -> Result<()> {
        match self.released.load(Ordering::Acquire) {
            true => Err(failed(op, name, io::ErrorKind::PermissionDenied)),
            false => Ok(()),
        }
    }
}

impl Disk for Overlay {
    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>> {
        check_name("create", name)?;
        self.state.check("create", name)?;
        let over = Overlay { below: self.below.clone(), state: self.state.clone() };
        Ok(Box::new(Writer { over, name: name.to_string(), contents: Vec::new() }))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Object>> {
        match self.find("open", name)? {
            Changed::New(file) => Ok(file),
            Changed::Below(origin, len) => {
                let object = self.below.open(&origin)?;
                Ok(Arc::new(Cut { object, name: name.to_string(), len }))
            }
            Changed::Gone => Err(failed("open", name, io::ErrorKind::NotFound)),
        }
    }

    fn create_log(&self, name: &str) -> Result<Arc<dyn LogFile>> {
        let file = Arc::new(NewFile { name: name.to_string(), ..NewFile::default() });
        self.put("create", name, Changed::New(file.clone()))?;
        Ok(Arc::new(NewLog { file, state: self.state.clone() }))
    }

    fn reuse_log(&self, old: &str, name: &str) -> Result<Arc<dyn LogFile>> {
        let file = self.copied("rename", old)?;
        self.put("rename", name, Changed::New(file.clone()))?;
        self.remove("rename", old)?;
        Ok(Arc::new(NewLog { file, state: self.state.clone() }))
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let changed = self.state.changed.lock().clone();
        let mut listed = self.below.list()?;
        listed.retain(|file| !changed.contains_key(&file.name));
        for (name, file) in changed {
            let len = match file {
                Changed::Gone => continue,
                Changed::Below(_, len) => len,
                Changed::New(file) => file.contents.read().len() as u64,
            };
            listed.push(Listed { name, len });
        }
        Ok(listed)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.remove("delete", name)
    }

    fn move_to_lost(&self, name: &str) -> Result<()> {
        self.remove("move", name)
    }

    fn rewrite_log(&self, name: &str, contents: &[u8]) -> Result<()> {
        self.state.check("rewrite", name)?;
        match self.find("rewrite", name)? {
            // The same bytes, cut: nothing of them need be kept.
            Changed::Below(origin, _) => {
                let cut = Changed::Below(origin, contents.len() as u64);
                self.state.changed.lock().insert(name.to_string(), cut);
            }
            Changed::New(file) => *file.contents.write() = contents.to_vec(),
            Changed::Gone => {}
        }
        Ok(())
    }

    fn sync_dir(&self) -> Result<()> {
        Ok(())
    }

    fn space(&self) -> Result<Space> {
        self.below.space()
    }

    fn release(&self) {
        self.state.released.store(true, Ordering::Release);
    }
}

/// The front of a file below.
#[derive(Debug)]
struct Cut {
    object: Arc<dyn Object>,
    name: String,
    len: u64,
}

impl Object for Cut {
    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.len => self.object.read_at(offset, len),
            _ => Err(failed("read", &self.name, io::ErrorKind::UnexpectedEof)),
        }
    }

    fn len(&self) -> Result<u64> {
        Ok(self.len)
    }
}

impl Object for NewFile {
    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let contents = self.contents.read();
        let rest = usize::try_from(offset).ok().and_then(|offset| contents.get(offset..));
        let found = rest.and_then(|rest| rest.get(..len));
        found
            .map(Bytes::copy_from_slice)
            .ok_or_else(|| failed("read", &self.name, io::ErrorKind::UnexpectedEof))
    }

    fn len(&self) -> Result<u64> {
        Ok(self.contents.read().len() as u64)
    }
}

/// A log in memory.
#[derive(Debug)]
struct NewLog {
    file: Arc<NewFile>,
    state: Arc<State>,
}

impl LogFile for NewLog {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.state.check("write", &self.file.name)?;
        let mut contents = self.file.contents.write();
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if contents.len() < end {
            contents.resize(end, 0);
        }
        contents[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn truncate(&self, len: u64) -> Result<()> {
        self.state.check("truncate", &self.file.name)?;
        self.file.contents.write().resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

/// An object that is being written in memory.
struct Writer {
    over: Overlay,
    name: String,
    contents: Vec<u8>,
}

impl ObjectWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.over.state.check("write", &self.name)?;
        self.contents.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Writer { over, name, contents } = *self;
        let file = NewFile { name: name.clone(), contents: RwLock::new(contents) };
        over.put("finish", &name, Changed::New(Arc::new(file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;

    #[test]
    fn changes_are_seen_above_and_nothing_happens_below() {
        let below = Arc::new(SimDisk::new(1));
        for name in ["kept", "cut", "gone", "log"] {
            below.write_file(name, b"contents").unwrap();
        }
        let before: Vec<_> = below.files();
        let over = Overlay::new(below.clone());
        over.rewrite_log("cut", b"cont").unwrap();
        over.delete("gone").unwrap();
        over.reuse_log("log", "log2").unwrap().write_at(6, b"more").unwrap();
        over.create_log("new").unwrap().write_at(2, b"x").unwrap();
        let mut writer = over.create("object").unwrap();
        writer.write(b"whole").unwrap();
        assert!(over.open("object").is_err());
        writer.finish().unwrap();
        let read = |name: &str| {
            let object = over.open(name).unwrap();
            object.read_at(0, object.len().unwrap() as usize).unwrap()
        };
        assert_eq!(
            ["kept", "cut", "log2", "new", "object"].map(read),
            ["contents", "cont", "contenmore", "\0\0x", "whole"]
        );
        assert!(over.open("cut").unwrap().read_at(2, 3).is_err());
        let mut names: Vec<_> = over.list().unwrap().into_iter().map(|file| file.name).collect();
        names.sort();
        assert_eq!(names, ["cut", "kept", "log2", "new", "object"]);
        assert!(over.create_log("kept").is_err() && over.delete("gone").is_err());
        over.release();
        assert!(over.create("late").is_err() && over.delete("kept").is_err());
        assert_eq!(below.files(), before);
        assert_eq!(below.ops().changes(), 0);
    }
}
